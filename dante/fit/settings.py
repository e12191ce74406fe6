"""What a `fit` step may be told."""

from dante.run.config.schema import Fidelity, Fit, Index, Losses, Strict


class Settings(Strict):
    seed: Index
    fit: Fit
    losses: Losses
    fidelity: Fidelity
