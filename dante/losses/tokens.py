"""What a loss is shown: the supervised tokens of a step, and what is known of each."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dante.errors import DanteError


@dataclass(frozen=True)
class SupervisedTokens:
    """The supervised tokens of one micro-batch, and how many the whole optimizer step has.

    Attributes:
        labels: token ids to predict.
        record: for each token the row of its record in `fields`.
        fields: per-record values, each of shape [records of this micro-batch].
        step_tokens: supervised tokens of the optimizer step, over all micro-batches and ranks.
        step_records: records of the optimizer step, over all micro-batches and ranks.
    """

    labels: Int64[Tensor, " tokens"]
    record: Int64[Tensor, " tokens"]
    fields: Mapping[str, Tensor]
    step_tokens: int
    step_records: int

    def per_token(self, field: str) -> Float[Tensor, " tokens"]:
        """A record's field, repeated for each of its tokens; float64, as coefficients are.

        Raises:
            DanteError: the records have no such field.
        """
        if field not in self.fields:
            raise DanteError(
                f"the records carry no field {field!r}",
                allowed=", ".join(sorted(self.fields)),
                fix="add it to the cache",
            )
        return self.fields[field].double()[self.record]

    def uniform(self) -> Float[Tensor, " tokens"]:
        """1 / supervised tokens of the optimizer step: the coefficients of a plain mean over tokens."""
        return torch.full(self.labels.shape, 1.0 / self.step_tokens, dtype=torch.float64, device=self.labels.device)
