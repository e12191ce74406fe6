"""What the host learns about an optimizer step, and when.

Whether a step was finite, and whether any rank was asked to stop, is known on the device. Asking for it at once would
let a GPU run dry once per step, so the answer is copied out while the next step is being queued, and read after that:
one step late on a GPU, at once on a CPU. All ranks read the same numbers at the same place, so they agree.
"""

from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dante.system import interrupt

# What one rank adds to the step's sum over ranks: a one for the signal that it was sent.
SIGNALS = tuple(sorted(interrupt.EXIT_CODES))


def asked_to_stop(device: torch.device) -> dict[str, Tensor]:
    """For every signal whether this process was sent it (0 or 1); keys for the sum over ranks."""
    asked = interrupt.requested()
    return {
        f"signal/{int(number)}": torch.tensor(float(asked == number), dtype=torch.float64).to(device, non_blocking=True)
        for number in SIGNALS
    }


def signal_of(sums: dict[str, Tensor]) -> Tensor:
    """Takes the keys of `asked_to_stop` out of the sums; the largest signal number that any rank was sent, else 0."""
    numbers = [float(number) * (sums.pop(f"signal/{int(number)}") > 0) for number in SIGNALS]
    return torch.stack(numbers).amax()


class Later:
    """A small device tensor that the host reads later, without waiting for what was queued after it."""

    def __init__(self, value: Tensor) -> None:
        self._copy = value.detach().to("cpu", non_blocking=True)
        self._event: torch.cuda.Event | None = None
        if value.device.type == "cuda":
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[float]:
        """Its entries."""
        if self._event is not None:
            self._event.synchronize()
        return self._copy.tolist()


@dataclass
class Outcome:
    """One optimizer step.

    Attributes:
        step: which, from 1.
        skipped_in_a_row: updates up to this one that were skipped.
        signal: number of the signal that asked some rank to stop, else 0.
        suspects: on this rank, records of micro-batches whose loss was not finite.
        records: on this rank, all records.
    """

    step: int
    skipped_in_a_row: int
    signal: int
    suspects: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)


@dataclass
class _Pending:
    step: int
    facts: Later
    records: list[list[str]]


class Outcomes:
    """The queue of steps that the host has not read yet."""

    def __init__(self) -> None:
        self._pending: deque[_Pending] = deque()

    def add(
        self, step: int, skipped_in_a_row: Tensor, signal: Tensor, losses: list[Tensor], records: list[list[str]]
    ) -> None:
        """A step that was just queued.

        Args:
            step: which, from 1.
            skipped_in_a_row: scalar.
            signal: scalar.
            losses: scalar loss of each micro-batch.
            records: record ids of each micro-batch.
        """
        facts = [skipped_in_a_row, signal, *(loss.isfinite() for loss in losses)]
        device = signal.device
        stacked = torch.stack([fact.detach().to(device, torch.float64) for fact in facts])
        self._pending.append(_Pending(step, Later(stacked), records))

    def take(self, everything: bool = False) -> list[Outcome]:
        """The steps that can be read without a wait, in order; with `everything` those that need one, too."""
        taken = []
        while self._pending and (everything or self._at_once or len(self._pending) > 1):
            taken.append(_outcome(self._pending.popleft()))
        return taken

    @property
    def _at_once(self) -> bool:
        return self._pending[0].facts._event is None


def _outcome(pending: _Pending) -> Outcome:
    skipped, signal, *finite = pending.facts.read()
    return Outcome(
        step=pending.step,
        skipped_in_a_row=int(skipped),
        signal=int(signal),
        suspects=[name for names, good in zip(pending.records, finite, strict=True) if not good for name in names],
        records=[name for names in pending.records for name in names],
    )
