"""What selectors keep of the same answers, side by side [C: DASD, Figure 10]."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dante.select.candidate import Candidate
from dante.select.choose import choose
from dante.select.selectors.base import Selector

BINS = 40


def response_probability(candidate: Candidate) -> float:
    """Geometric mean of the answer's token probabilities under the teacher, at temperature 1."""
    logprobs = candidate.record.token_logprobs or [0.0]
    return float(np.exp(np.mean(logprobs)))


def compared(
    groups: Sequence[Sequence[Candidate]], selectors: Mapping[str, Selector], seed: int
) -> dict[str, dict[str, Any]]:
    """By selector what it keeps: lengths, teacher sentences, right answers, and response probabilities.

    `histogram` counts response probabilities in `BINS` bins of [0, 1]; `shift` is the largest distance between their
    distribution and that of all candidates (Kolmogorov and Smirnov's).
    """
    everything = [candidate for group in groups for candidate in group]
    pool = {"all": everything} | {name: choose(groups, selector, seed) for name, selector in selectors.items()}
    reference = np.sort([response_probability(candidate) for candidate in everything])
    return {name: _described(kept, reference) for name, kept in pool.items()}


def _described(kept: Sequence[Candidate], reference: np.ndarray) -> dict[str, Any]:
    found = np.sort([response_probability(candidate) for candidate in kept])
    checked = [candidate.record.correct for candidate in kept if candidate.record.correct is not None]
    return {
        "answers": len(kept),
        "tokens": float(np.mean([candidate.tokens for candidate in kept])),
        "sentences": float(np.mean([candidate.sentences for candidate in kept])),
        "teacher_sentences": float(np.mean([candidate.teacher_sentences for candidate in kept])),
        "right": float(np.mean(checked)) if checked else None,
        "probability": float(found.mean()),
        "shift": _largest_distance(found, reference),
        "histogram": np.histogram(found, bins=BINS, range=(0.0, 1.0))[0].tolist(),
    }


def _largest_distance(found: np.ndarray, reference: np.ndarray) -> float:
    places = np.concatenate([found, reference])
    below = [np.searchsorted(values, places, side="right") / len(values) for values in (found, reference)]
    return float(np.abs(below[0] - below[1]).max())
