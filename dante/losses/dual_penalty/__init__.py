"""ADS: a penalty on entropy whose weight is a dual variable (`penalty`), and what decides which tokens it sees."""

from dante.losses.dual_penalty.penalty import DualPenalty as DualPenalty
