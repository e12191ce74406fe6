"""How a student begins, as a part: what becomes of the source's layers and weights before training."""

from abc import ABC, abstractmethod
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel


class Init(ABC):
    """One way to begin. Constructing it is cheap, so a plan can ask for the shape before there are weights."""

    @abstractmethod
    def reshape(self, config: PreTrainedConfig) -> None:
        """Make the source's decoder config, in place, describe the student.

        Raises:
            DanteError: the source cannot be brought into that shape.
        """

    @abstractmethod
    def begin(self, model: PreTrainedModel) -> PreTrainedModel:
        """The student, from the source's model, which may be changed in place.

        Raises:
            DanteError: see `reshape`.
        """

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """What `init.json` says of it, as JSON: `layers` (kept; None: all) and `weights` (`pretrained` or `random`)."""
