"""What a `fit` step may be told."""

from typing import Any

from dante.run.config.schema import Fidelity, Fit, Index, Losses, Strict
from dante.run.parts import build


class Settings(Strict):
    seed: Index
    fit: Fit
    losses: Losses
    fidelity: Fidelity

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
