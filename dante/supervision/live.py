"""A teacher that runs beside the student: frozen, in its own precision, on the same packed rows.

Its backbone gives hidden states at the supervised positions, under `no_grad`; its LM head runs tile by tile inside the
vocabulary pass (`dante.losses.vocabulary.teacher`). It is no part of the trained module: neither checkpoints nor
optimizer nor gradient synchronisation know it.

Where the fit is sharded (FSDP2) its blocks are spread over the same devices and gathered one by one, unless
`trainer.teacher_weights: whole` keeps a copy on every device. Embedding, norm and head stay whole once they were
gathered. `trainer.teacher_device` puts it on another device than the student; its head stays beside the student's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel

from dante.errors import DanteError
from dante.losses.vocabulary.head import Head, check_head
from dante.losses.vocabulary.projection import Projection
from dante.losses.vocabulary.teacher import HiddenLogits
from dante.models.cpu import suit_cpu
from dante.models.pretrained import Source, load_causal_lm
from dante.run.precision import device_of, dtype_of
from dante.students.attention.choose import use_attention
from dante.students.backbone import SupervisedRow, supervised_states
from dante.students.blocks import blocks_of
from dante.students.sharding import shard
from dante.supervision.asked import Asked
from dante.supervision.row import on_device
from dante.teachers.teacher import SOURCE, load_teacher
from dante.text.tokenizer import load_tokenizer
from dante.text.tokens.vocabularies import token_difference


class OfStep:
    """The teacher of a finished `teacher` step, run on the fit's own rows.

    Args:
        step: the fit's input that is that step: `teacher`, or the name of another that a recipe gives the fit.
        precision: of its weights and products: `bf16` or `fp32`.
        attention: of packed rows, as `fit.attention`.
    """

    def __init__(self, step: str, precision: str, attention: str) -> None:
        self.step, self.precision, self.attention = step, precision, attention

    def scoring_inputs(self) -> list[str]:
        """See `Source`."""
        return [self.step]

    def resident_inputs(self) -> list[str]:
        """See `Source`."""
        return [self.step]

    def loaded(self, asked: Asked, own_tokens: bool = False) -> tuple[PreTrainedModel, str | None, bool]:
        """The model, the device that it was given, if it was given one, and whether it is spread over a mesh.

        Args:
            asked: the fit.
            own_tokens: it reads its own tokens, which may be others than the student's.

        Raises:
            DanteError: see `loaded_teacher`.
        """
        model, device = loaded_teacher(asked, self.step, self.precision, self.attention, own_tokens)
        return model, device, asked.trainer.get("teacher_weights", "sharded") == "sharded"


class Model(OfStep):
    """What a teacher says of the next tokens."""

    def open(self, asked: Asked) -> "BesideStudent":
        """Load it, and compare its vocabulary with the student's.

        Raises:
            DanteError: the fit has no such input, or the two do not share a vocabulary.
        """
        return BesideStudent(*self.loaded(asked))


def loaded_teacher(
    asked: Asked, step: str, precision: str, attention: str, own_tokens: bool = False
) -> tuple[PreTrainedModel, str | None]:
    """A teacher that is to run beside the student, and the device that it was given, if it was given one.

    Args:
        asked: the fit.
        step: its input that is a teacher step.
        precision: of weights and products.
        attention: of packed rows.
        own_tokens: it reads its own tokens, and not the fit's rows.

    Raises:
        DanteError: the fit has no such input, or the two do not share a vocabulary and are to.
    """
    folder = asked.teacher(step)
    handle = load_teacher(folder)
    model_name = handle.location(folder)
    theirs, ours = load_tokenizer(model_name, handle.revision, SOURCE), asked.renderer.tokenizer
    difference_found = None if own_tokens else token_difference(theirs, ours)
    if difference_found is not None:
        raise DanteError(
            f"the live teacher {handle.name} and the student have different vocabularies: {difference_found}",
            where=asked.where,
            allowed="a student with the teacher's own tokenizer; numbers of padding rows may differ",
            fix="take such a student, a loss that aligns both tokenizers: loss=[ce,matched_kl], or one that reads the "
            "teacher's text alone: loss=[ce]",
        )
    model = load_causal_lm(Source(model_name, SOURCE, handle.revision), dtype_of(precision), attention="sdpa")
    if len(theirs) > model.get_output_embeddings().weight.shape[0]:
        raise DanteError(
            f"the teacher's LM head has {model.get_output_embeddings().weight.shape[0]} rows, and the tokenizer "
            f"{len(theirs)} tokens",
            where=asked.where,
            allowed="a head with a row for every token",
        )
    model.config.use_cache = False
    suit_cpu(model)
    device = asked.trainer.get("teacher_device")
    on = device.split(":")[0] if device else device_of(asked.trainer["accelerator"])
    use_attention(model, attention, on, whose="the live teacher's ")
    return model, device


class _Backbone(nn.Module):
    """What is sharded: one forward from tokens to hidden states."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, row: SupervisedRow) -> Tensor:
        return supervised_states(self.model, row, autocast=False)


class Beside:
    """A loaded teacher: frozen, placed, run on the fit's rows.

    Args:
        network: whose forward runs the model on a row.
        model: in its own dtype.
        device: where it runs; None: with the student.
        spread: whether its weights are spread over the student's devices, where there is a mesh.
    """

    def __init__(self, network: nn.Module, model: PreTrainedModel, device: str | None, spread: bool) -> None:
        self.network = network.requires_grad_(False).eval()
        self.model = model
        self.device = torch.device(device) if device else None
        self.spread = spread

    def place(self, device: torch.device, mesh: DeviceMesh | None) -> None:
        """See `LiveTeacher.place`."""
        if mesh is not None and self.spread:
            shard(self.network, blocks_of(self.model), mesh, next(self.network.parameters()).dtype)
        else:
            self.network.to(self.device or device)

    def run(self, row: SupervisedRow) -> Any:
        """What the network makes of a row, wherever it runs."""
        return self.network(on_device(row, self.device) if self.device is not None else row)


class WithHead(Beside):
    """A loaded teacher whose logits are read.

    Args:
        model: causal language model in its own dtype; it is frozen here.
        device: see `Beside`.
        spread: see `Beside`.

    Raises:
        DanteError: an LM head that the vocabulary pass does not reproduce.
    """

    def __init__(self, model: PreTrainedModel, device: str | None = None, spread: bool = True) -> None:
        check_head(model)
        super().__init__(_Backbone(model), model, device, spread)
        self._head: Head | None = None

    def place(self, device: torch.device, mesh: DeviceMesh | None) -> None:
        """See `LiveTeacher.place`."""
        super().place(device, mesh)
        if mesh is None or not self.spread:
            self._head = Head.of(self.model).on(device)

    @torch.no_grad()
    def hidden_logits(self, row: SupervisedRow) -> HiddenLogits:
        """What it says at the supervised positions of a row."""
        hidden_ND = self.run(row)
        # Sharded weights have a whole head from the first forward on, and it is found there.
        head = self._head or Head.of(self.model)
        projection = Projection(head, None, hidden_ND.dtype)
        return HiddenLogits(projection, hidden_ND.to(head.weight.device))


class BesideStudent(WithHead):
    """A teacher whose logits are read on the student's own rows; arguments as of `WithHead`."""

    def logits(self, row: SupervisedRow, record_ids: Sequence[str]) -> HiddenLogits:
        """See `LiveTeacher.logits`."""
        return self.hidden_logits(row)
