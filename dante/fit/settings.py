"""What a `fit` step may be told."""

from dante.run.config.schema import Fidelity, Fit, Index, Losses, Strict


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

    def with_steps(self, steps: int) -> "Settings":
        """The same with a length: what a compute budget comes to."""
        return self.model_copy(update={"fit": self.fit.model_copy(update={"steps": steps})})
