"""Out of memory: recognised on every device, and told with what would help, by how much, in order.

Before training the estimate is compared with what the machine has; a fit that will not fit is announced and not
refused, because an estimate is one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dante import console
from dante.cost.machine import memory_bytes
from dante.cost.memory import Memory, Shape, memory_of
from dante.errors import DanteError, causes
from dante.losses.base import Loss
from dante.run.config.schema import Fidelity, Fit
from dante.system.files import GIB

KILLED = "often by the kernel because memory ran out (dmesg tells); see fit.max_tokens, fit.gradient_checkpointing"
_SIGNS = (
    "can't allocate memory",  # DefaultCPUAllocator
    "not enough memory",
    "out of memory",  # CUDA, NCCL
    "cannot allocate memory",
    "bad_alloc",
    "could not create a memory",  # oneDNN
    "cublas_status_alloc_failed",
    "killed by signal: killed",  # a data loader's worker
)
_LEAST_SAVING_GIB = 0.01
_Changed = tuple[Fit, Fidelity, dict[str, Any]]


@dataclass(frozen=True)
class Budget:
    """A fit's settings and what they need, kept for the moment when nothing more can be allocated.

    Attributes:
        memory: the estimate for one device.
        all_gib: what the device has in all; None where the system does not tell.
        free_gib: what was left when the stage began.
        advice: what to change, with its saving, best first.
    """

    memory: Memory
    all_gib: float | None
    free_gib: float | None
    advice: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Estimate and supply."""
        state, rest = self.memory.state / GIB, (self.memory.total - self.memory.state) / GIB
        need = f"it needs about {state:.1f} GiB for weights, gradients and Adam and {rest:.1f} GiB beside them"
        if self.memory.teacher:
            need += f", of it {self.memory.teacher / GIB:.1f} for the live teacher"
        return (
            need if self.all_gib is None else f"{need}; the device has {self.all_gib:.1f} GiB, {self.free_gib:.1f} free"
        )


def budget_of(
    shape: Shape,
    fit: Fit,
    fidelity: Fidelity,
    trainer: dict[str, Any],
    losses: Sequence[Loss],
    teachers: Sequence[float] = (),
) -> Budget:
    """Estimate, supply and advice for a fit that is about to start on this machine; arguments as of `memory_of`."""
    on_cpu = trainer["accelerator"] == "cpu" or not torch.cuda.is_available()
    supply = memory_bytes(torch.device("cpu" if on_cpu else "cuda"))
    return Budget(
        memory=memory_of(shape, fit, fidelity, trainer, losses, teachers),
        all_gib=supply[0] / GIB if supply else None,
        free_gib=supply[1] / GIB if supply else None,
        advice=tuple(_advice(shape, fit, fidelity, trainer, losses, teachers)),
    )


def announce(budget: Budget, ranks_here: int) -> None:
    """One line if this machine has less than the fit needs; ranks on one CPU machine share its memory."""
    need = (budget.memory.total - budget.memory.process) / GIB * ranks_here
    if budget.free_gib is not None and need > budget.free_gib:
        shared = f" (× {ranks_here} processes on this machine)" if ranks_here > 1 else ""
        console.note(
            f"this fit may run out of memory: {budget.sentence}{shared}; what helps: {'; '.join(budget.advice)}"
        )


def as_dante_error(error: BaseException, budget: Budget) -> DanteError | None:
    """Running out of memory, behind an exception, as one paragraph; None for another kind of error."""
    cause = next((exception for exception in causes(error, lambda context: True) if is_out_of_memory(exception)), None)
    if cause is None:
        return None
    lines = str(cause).strip().splitlines()
    message = lines[0][:160] if lines else type(cause).__name__
    return DanteError(
        f"out of memory: {budget.sentence} ({message})",
        where="fit",
        fix=f"in order of what helps: {'; '.join(budget.advice)}. With another fit.* or fidelity it starts anew",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError | OSError):
        return False
    return any(sign in str(error).lower() for sign in _SIGNS)


def _advice(
    shape: Shape,
    fit: Fit,
    fidelity: Fidelity,
    trainer: dict[str, Any],
    losses: Sequence[Loss],
    teachers: Sequence[float],
) -> Iterator[str]:
    """What to type, by what it saves; what saves nothing here is left out."""
    before = memory_of(shape, fit, fidelity, trainer, losses, teachers).total
    savings = []
    for text, changed in _alternatives(fit, fidelity, trainer):
        saved_gib = (before - memory_of(shape, *changed, losses, teachers).total) / GIB
        if saved_gib >= _LEAST_SAVING_GIB:
            savings.append((saved_gib, text))
    for saved_gib, text in sorted(savings, reverse=True):
        yield f"{text} (≈ −{saved_gib:.1f} GiB)" if saved_gib >= 0.1 else f"{text} (≈ −{saved_gib * 1024:.0f} MiB)"


def _alternatives(fit: Fit, fidelity: Fidelity, trainer: dict[str, Any]) -> Iterator[tuple[str, _Changed]]:
    """(what to type, the config with it), one change each."""

    def with_fit(**values: Any) -> _Changed:
        return fit.model_copy(update=values), fidelity, trainer

    half = fit.max_tokens // 2
    yield f"fit.max_tokens={half}", with_fit(max_tokens=half)
    if fit.accumulate is not None:
        yield "fit.accumulate=null", with_fit(accumulate=None)
    yield "fit.tile_tokens=64", with_fit(tile_tokens=64)
    for more in ("selective", "full")[("none", "selective", "full").index(fit.gradient_checkpointing) :]:
        cost = {"selective": "some recomputation", "full": "a third slower"}[more]
        yield f"fit.gradient_checkpointing={more}, {cost}", with_fit(gradient_checkpointing=more)
    if fidelity.master_weights and fit.precision == "bf16":
        yield "fidelity=card, bf16 weights", (fit, fidelity.model_copy(update={"master_weights": False}), trainer)
    if trainer["strategy"] == "fsdp2" and trainer["teacher_weights"] == "whole":
        yield "trainer.teacher_weights=sharded", (fit, fidelity, {**trainer, "teacher_weights": "sharded"})
    if trainer["accelerator"] != "cpu" and trainer["teacher_device"] is None:
        yield "trainer.teacher_device=cpu, slow", (fit, fidelity, {**trainer, "teacher_device": "cpu"})
    if trainer["devices"] * trainer["num_nodes"] > 1 and trainer["strategy"] != "fsdp2":
        yield "trainer.strategy=fsdp2", (fit, fidelity, {**trainer, "strategy": "fsdp2"})
