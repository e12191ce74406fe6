"""What one device has to hold while a student is trained, line by line, in bytes.

A model of the training step as it is written here, checked against fits of SmolLM2-135M and its pruned half on a CPU
(`tests/test_accounting.py`, within 15 %) [I]. Per token and block autograd keeps, in bytes per unit of d the width, a
and k the widths of all query heads and of all key heads, f the width of the MLP:

| compute, weights | d | a | k | f |
|---|---|---|---|---|
| bf16 autocast, fp32 masters | 12, on a GPU 26 (its norms keep fp32 copies) | 4 | 4 | 8 |
| bf16 autocast, bf16 weights | 16 | 4 | 4 | 8 |
| fp32 | 24 | 8 | 8 | 16 |

Under autocast fp32 weights have bf16 copies that live as long as the graph. The largest single blocks are the
embedding's: the head's gradient (fp32), the lookup's gradient, their sum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from dante.losses.base import BlockLoss, LinearLoss, Loss, ParameterLoss
from dante.losses.vocabulary import mkl
from dante.losses.vocabulary.tile import auto_tile_tokens
from dante.run.config.schema import Fidelity, Fit
from dante.system.files import GIB

# Bytes per unit of (d, a, k, f), per token and block.
_KEPT = {"fp32 masters": (12, 4, 4, 8), "bf16 weights": (16, 4, 4, 8), "fp32": (24, 8, 8, 16)}
# What norms keep more of fp32 masters' d where `dante.students.lean_norm` does not replace them.
_PLAIN_NORMS = 14
# Resident memory of a process on a CPU before it holds a model: the interpreter, torch, transformers, lightning.
_PROCESS_BYTES = 0.55 * GIB
# Activations come from the heap, which keeps holes between them; measured on glibc. CUDA's caching allocator counts
# what is allocated, and its own rounding is small. A fit returns what was freed now and then
# (`dante.fit.safety.return_freed`).
_SLACK = {"cpu": 0.2, "cuda": 0.05}
# Building a mask of L × L: indices, comparisons.
_MASK_BUILDING = 48


@dataclass(frozen=True)
class Shape:
    """What of a student's architecture memory depends on.

    Attributes:
        parameters: all, a tied head once.
        embedding_entries: entries of the embedding matrix.
        vocabulary: its rows.
        tied: whether the head is the embedding.
        hidden: width.
        attention: width of all query heads together.
        intermediate: width of the MLP.
        layers: blocks.
        key_value: width of all key heads together.
    """

    parameters: int
    embedding_entries: int
    vocabulary: int
    tied: bool
    hidden: int
    attention: int
    intermediate: int
    layers: int
    key_value: int

    @property
    def body_parameters(self) -> int:
        """Parameters that every token goes through: all but the embedding and the head."""
        return self.parameters - self.embedding_entries * (1 if self.tied else 2)


def shape_of(model: Any) -> Shape:
    """The shape of a causal language model, on the meta device too."""
    from dante.students.load import count_parameters

    config, embedding = model.config, model.get_input_embeddings().weight
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        parameters=count_parameters(model),
        embedding_entries=embedding.numel(),
        vocabulary=embedding.shape[0],
        tied=bool(config.tie_word_embeddings),
        hidden=config.hidden_size,
        attention=config.num_attention_heads * head_dim,
        intermediate=config.intermediate_size,
        layers=config.num_hidden_layers,
        key_value=getattr(config, "num_key_value_heads", config.num_attention_heads) * head_dim,
    )


def matches_blocks(losses: Sequence[Loss]) -> bool:
    """Whether a fit trains units alone."""
    return any(isinstance(loss, BlockLoss) for loss in losses)


def units_shape(model: Any) -> Shape:
    """The shape of a dense student's units alone.

    Args:
        model: as it is stored, on the meta device; its blocks are changed.
    """
    from dante.students.dense_form import as_dense
    from dante.students.units import UnitsAlone

    matched = UnitsAlone(as_dense(model))
    return Shape(
        parameters=sum(parameter.numel() for parameter in matched.parameters()),
        embedding_entries=0,
        vocabulary=1,
        tied=True,
        hidden=model.config.hidden_size,
        attention=0,
        intermediate=matched.unit(matched.layers[0]).unit.size,
        layers=len(matched.layers),
        key_value=0,
    )


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, by what holds them; the lines stand together at the moment of the peak.

    Attributes:
        weights: in their own dtype.
        gradients: of all weights.
        moments: Adam's two.
        anchors: every parameter loss's copy of the embedding.
        process: interpreter and libraries; none on a GPU.
        activations: what autograd keeps of one micro-batch.
        weight_copies: bf16 copies of fp32 weights under autocast.
        attention_mask: one [L, L] mask per block and its making; L tokens of a micro-batch.
        logits: the tiles of the vocabulary that live at once.
        embedding_gradient: blocks of the embedding's size that live beside `gradients`.
        teacher: weights of the teachers that run beside the student, and what is gathered of them at once.
        slack: what the allocator holds without using it.
    """

    weights: float
    gradients: float
    moments: float
    anchors: float
    process: float
    activations: float
    weight_copies: float
    attention_mask: float
    logits: float
    embedding_gradient: float
    slack: float
    teacher: float = 0.0

    @property
    def total(self) -> float:
        return sum(getattr(self, line.name) for line in fields(self))

    @property
    def state(self) -> float:
        """Weights, gradients, optimizer and anchors."""
        return self.weights + self.gradients + self.moments + self.anchors


def memory_of(
    shape: Shape,
    fit: Fit,
    fidelity: Fidelity,
    trainer: dict[str, Any],
    losses: Sequence[Loss],
    teachers: Sequence[float] = (),
) -> Memory:
    """The memory of one device in a fit with these settings.

    Args:
        losses: the fit's; parameter losses hold an anchor, and what linear losses read of a tile takes more of them.
        teachers: parameters of each teacher whose weights lie beside the student's, all experts counted.
    """
    on_cpu = trainer["accelerator"] == "cpu"
    masters, compute_bf16 = fidelity.master_weights, fit.precision == "bf16"
    weight_bytes = 4 if masters else 2
    devices = trainer["devices"] * trainer["num_nodes"]
    shards = (trainer["shard_size"] or devices) if trainer["strategy"] == "fsdp2" else 1
    tokens, mask_bytes = _row_tokens(fit, trainer), 2 if compute_bf16 else 4
    per_d, per_a, per_k, per_f = _KEPT["fp32" if not compute_bf16 else "fp32 masters" if masters else "bf16 weights"]
    if not on_cpu and masters and compute_bf16:
        per_d += _PLAIN_NORMS
    # Beside a mask transformers repeats keys and values for every query head.
    keys = shape.attention if fit.attention == "sdpa" else shape.key_value
    block = tokens * (per_d * shape.hidden + per_a * shape.attention + per_k * keys + per_f * shape.intermediate)
    stream = tokens * shape.hidden * (4 if masters else 2)
    mask = mask_bytes * tokens**2
    copies = 2 * shape.body_parameters if masters and compute_bf16 else 0
    if fit.attention != "sdpa":  # the others make none
        mask = 0
    recomputing = fit.gradient_checkpointing
    if recomputing == "none":
        kept, masks = shape.layers * block, shape.layers * mask
    else:
        products = _products(shape) * tokens * (2 if compute_bf16 else 4) if recomputing == "selective" else 0
        kept, masks = shape.layers * (stream + products) + block, mask
    entries = shape.embedding_entries
    # The head's gradient in fp32, the lookup's gradient and their sum in the weights' dtype; the products' operand.
    embedding = entries * (4 + 2 * weight_bytes + _operand_bytes(masters, compute_bf16, on_cpu))
    device = torch.device("cpu" if on_cpu else "cuda")
    tile = 4 * (fit.tile_tokens or auto_tile_tokens(shape.vocabulary, device)) * shape.vocabulary
    lines = {
        "weights": shape.parameters * weight_bytes / shards,
        # Until they are summed over devices, at the end of a step, gradients are whole on every one.
        "gradients": shape.parameters * weight_bytes / (shards if trainer["gradient_sync"] == "every" else 1),
        "moments": 2 * shape.parameters * weight_bytes / shards,
        "anchors": sum(isinstance(loss, ParameterLoss) for loss in losses) * entries * weight_bytes / shards,
        "process": _PROCESS_BYTES if on_cpu else 0,
        "activations": kept,
        "weight_copies": copies,
        "attention_mask": masks + (_MASK_BUILDING * tokens**2 if mask else 0),
        "logits": tile * (_tiles(losses, on_cpu) + (0.5 if compute_bf16 else 0.0)),  # its gradient in bf16
        "embedding_gradient": embedding,
        "teacher": sum(_teacher(parameters, shape, compute_bf16, trainer, shards) for parameters in teachers),
        "slack": _SLACK["cpu" if on_cpu else "cuda"] * (kept + copies + masks),
    }
    return Memory(**{name: float(line) for name, line in lines.items()})


def _teacher(parameters: float, shape: Shape, bf16: bool, trainer: dict[str, Any], shards: int) -> float:
    """A live teacher on one device; [I]: spread over devices it has two blocks gathered at once, and its embedding and
    head whole. How many blocks it has and how large its embedding is are taken from the student."""
    width = 2.0 if bf16 else 4.0
    if trainer["teacher_device"] is not None:  # its head alone stands beside the student's
        return width * shape.embedding_entries
    if shards == 1 or trainer["teacher_weights"] == "whole":
        return width * parameters
    return width * (parameters / shards + 2 * parameters / shape.layers + 2 * shape.embedding_entries)


def _tiles(losses: Sequence[Loss], on_cpu: bool) -> int:
    """fp32 tiles of the vocabulary that live at once [I: counted in the code of the pass, on CUDA not measured]."""
    linear = [loss for loss in losses if isinstance(loss, LinearLoss)]
    # Probabilities beside the logits, and the gradient that such a loss states densely.
    read = 2 if any(loss.needs_logits for loss in linear) else 0
    # z − max in the softmax, or p and p·log p in the gradient; a CPU runs both in rows that stay in its cache.
    uneven = 2 if any(loss.needs_entropy for loss in linear) and not on_cpu else 0
    # The live teacher's own, and where its vocabulary is a longer one a tile of that.
    taught = 1 if any(loss.needs & {"teacher_logits", "span_logits"} for loss in linear) else 0
    return 1 + read + uneven + taught


def _operand_bytes(masters: bool, compute_bf16: bool, on_cpu: bool) -> int:
    """Bytes per entry of what products read in place of the weight itself."""
    if compute_bf16 and on_cpu and not mkl.chosen():
        return 2 if masters else 6  # fp32 operands, and bf16 ones
    if masters == compute_bf16:
        return 2 if compute_bf16 else 4
    return 0


def _products(shape: Shape) -> int:
    """Entries per token and block of what matrix products and attention give: kept by selective recomputation."""
    return 2 * shape.hidden + 2 * shape.attention + 2 * shape.key_value + 2 * shape.intermediate


def _row_tokens(fit: Fit, trainer: dict[str, Any]) -> int:
    """Tokens of the longest row: a pack, or the packs that `accumulate` joins (a step of records is taken for two)."""
    if fit.accumulate is None:
        return fit.max_tokens
    unit, size = fit.batch.unit, fit.batch.size
    packs = {"packs": size, "tokens": math.ceil(size / fit.max_tokens), "records": 2}[unit]
    ranks = trainer["devices"] * trainer["num_nodes"]
    return fit.max_tokens * math.ceil(math.ceil(packs / ranks) / fit.accumulate)
