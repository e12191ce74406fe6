"""What a `fit` step may be told."""

from typing import Any

from dante.errors import DanteError
from dante.run.config.schema import Batches, Fidelity, Fit, Index, Losses, Strict, Supervision, Target
from dante.run.parts import build, is_target, locate


class Settings(Strict):
    seed: Index
    fit: Fit
    losses: Losses
    fidelity: Fidelity
    supervision: Supervision = {}

    @property
    def steps(self) -> int:
        """Optimizer steps of the fit; a compute budget has been turned into them before anything asks."""
        assert self.fit.steps is not None, "the budget has not been turned into steps"
        return self.fit.steps

    def build_losses(self) -> dict[str, Any]:
        """The losses by name, new ones at every call: a loss may hold state."""
        return {name: build(node, name=name) for name, node in self.losses.items()}

    def with_steps(self, steps: int) -> "Settings":
        """The same with a length: what a compute budget comes to."""
        return self.model_copy(update={"fit": self.fit.model_copy(update={"steps": steps})})


class Blocks(Strict):
    """What a step is told that keeps the teacher's blocks for a fit: whose they are, and the fit's batches."""

    seed: Index
    fit: Batches
    blocks: Target


def of_batches(settings: dict[str, Any]) -> dict[str, Any]:
    """Plain settings with what decides the fit's batches alone: another learning rate must not keep blocks anew."""
    return settings | {"fit": {key: value for key, value in settings["fit"].items() if key in Batches.model_fields}}


def without_spare_supervision(settings: dict[str, Any]) -> dict[str, Any]:
    """Plain settings with those parts of `supervision` that a loss of the fit reads.

    What provides the others does not belong to the fit: another choice there must not make it anew.
    """
    needs = {need for node in (settings.get("losses") or {}).values() for need in _needs_of(node)}
    parts = {need: node for need, node in (settings.get("supervision") or {}).items() if need in needs}
    others = {key: value for key, value in settings.items() if key != "supervision"}
    return others | ({"supervision": parts} if parts else {})


def _needs_of(node: Any) -> frozenset[str]:
    if not is_target(node):
        return frozenset()
    try:
        return frozenset(getattr(locate(node["_target_"]), "needs", ()))
    except DanteError:  # the check says so later, with the place
        return frozenset()
