"""What runs a model for the harness."""

from abc import ABC, abstractmethod
from typing import Any

from dante.evaluate.subject import Subject


class Backend(ABC):
    """Opens a model of the harness's; one is opened for a model, whatever is asked of it."""

    @abstractmethod
    def open(self, subject: Subject) -> Any:
        """An `lm_eval.api.model.LM`.

        Raises:
            DanteError: it cannot run here.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What its answers depend on besides the model and its precision: `backend`, `version`, …

        Raises:
            DanteError: it cannot run here.
        """

    def context(self, subject: Subject) -> int | None:
        """Tokens that a model reads at most, its answer included; None: nobody knows."""
        return subject.context

    def sampling(self, seed: int) -> dict[str, Any]:
        """What a sampled answer is asked with, so that it follows from a seed wherever it is drawn."""
        return {}
