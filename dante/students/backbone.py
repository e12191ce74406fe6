"""One packed row through a model without its LM head: hidden states where a supervised token is predicted.

The same forward for the student, which is trained, and for a teacher that runs beside it.
"""

from contextlib import nullcontext
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedModel

from dante.students.attention.choose import PackedRow, no_search_for_documents, row_inputs


@runtime_checkable
class SupervisedRow(PackedRow, Protocol):
    """A packed row and where its supervised tokens are predicted (`dante.data.batch.MicroBatch`)."""

    @property
    def input_ids(self) -> Int64[Tensor, "1 row_tokens"]: ...

    @property
    def position_ids(self) -> Int64[Tensor, "1 row_tokens"]: ...

    @property
    def positions(self) -> Int64[Tensor, " supervised"]: ...


def supervised_states(model: PreTrainedModel, row: SupervisedRow, autocast: bool) -> Float[Tensor, "supervised width"]:
    """Hidden states that enter the LM head at a row's supervised positions.

    Args:
        model: causal language model.
        row: on the model's device.
        autocast: whether products of fp32 weights are rounded to bf16.
    """
    device = row.input_ids.device.type
    precision = torch.autocast(device, torch.bfloat16) if autocast else nullcontext()
    with precision, no_search_for_documents(model):
        # No attention mask and no cache: only then does transformers keep packed records apart by position ids.
        output = model.base_model(
            input_ids=row.input_ids,
            position_ids=row.position_ids,
            use_cache=False,
            **row_inputs(model, row),
        )
    return output.last_hidden_state[0, row.positions]
