"""Settings of a fit as stages read them, of which a test names only those that matter to it."""

from typing import Any

from dante.run.config.schema import Batch, ComputeBudget, Fidelity, Fit, Spike

NODES = {"batch": Batch, "compute": ComputeBudget, "spike": Spike}


def fit(**values: Any) -> Fit:
    """Part of a fit's settings; what is not named is absent, and reading it is an error."""
    typed = {k: NODES[k].model_validate(v) if k in NODES and isinstance(v, dict) else v for k, v in values.items()}
    return Fit.model_construct(**typed)


def fidelity(**values: Any) -> Fidelity:
    """Part of a fit's fidelity, likewise."""
    return Fidelity.model_construct(**values)
