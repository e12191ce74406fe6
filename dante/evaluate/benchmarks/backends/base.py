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
        """What its answers depend on besides the model and its precision."""
