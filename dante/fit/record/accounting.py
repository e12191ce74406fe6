"""What a fit costs: tokens, useful FLOPs, wall time by cause, memory, energy, and the device's peak to compare with.

Nothing here waits for a device: the host's clock is read around every step, everything else at logged steps.
"""

import time
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer

from dante.cost.compute import model_flops
from dante.cost.machine import Energy, PeakMemory
from dante.cost.peak import Peak, device_name, peak_of
from dante.data.batch import StepBatch
from dante.fit.record.laps import Laps
from dante.system.files import GIB

# Keys of a row of metrics.jsonl that another machine, or the same one on another day, gives another value.
MACHINE_KEYS = ("tokens_per_s", "supervised_tokens_per_s", "mfu", "peak_mem_gib", "data_wait_share", "energy_j")
# Times that a peak is measured again in one fit, a third of a second each.
_MOST_MEASUREMENTS = 3
_TOTALS = ("tokens", "supervised_tokens", "flops")


class Accounting:
    """The sums of one fit, over all ranks and over interruptions.

    Args:
        body_parameters: parameters that every token goes through.
        head_parameters: parameters of the LM head.
        precision: `bf16` or `fp32`, of the matrix products.
        peak_tflops: of one device; None looks it up or measures it (`dante.cost.peak`).
        began_s: `time.perf_counter()` at the stage's start, for `startup_s`.
    """

    def __init__(
        self,
        body_parameters: int,
        head_parameters: int,
        precision: str,
        peak_tflops: float | int | None,
        began_s: float,
    ) -> None:
        self.body_parameters, self.head_parameters = body_parameters, head_parameters
        self.precision, self.began_s = precision, began_s
        self.given_tflops = None if peak_tflops is None else float(peak_tflops)
        self.laps = Laps()
        self.totals: dict[str, float] = dict.fromkeys(_TOTALS, 0)
        self.startup_s: float | None = None
        self.peak: dict[str, Any] = {"tflops": None, "source": None, "measured_tflops": None, "quiet": True}
        self.peak_flops = 0.0
        self.device_name: str | None = None
        self.ranks = 1
        self.peak_bytes, self.peak_scope, self.data_s = 0, "fit", 0.0
        self.joules: float | None = None
        self._earlier: dict[str, Any] = {"peak_bytes": 0, "joules": None}
        self._window: tuple[dict[str, float], dict[str, float], float] = ({}, dict(self.totals), 0.0)
        self._device = torch.device("cpu")
        self._measured_again = 0
        self._memory: PeakMemory | None = None
        self._energy: Energy | None = None

    def begin(self, trainer: Trainer) -> None:
        """Before the first step: find the device's peak, and forget what earlier stages used."""
        device = self._device = trainer.strategy.root_device
        self.device_name, self.ranks = device_name(device), trainer.world_size
        peak: Peak = peak_of(device, self.precision, self.given_tflops, self.device_name)
        self.peak = asdict(peak)
        # Ranks that share a machine share what they measure: their sum is what they have together.
        self.peak_flops = sum(each for (each,) in _gathered(trainer, [peak.tflops])) * 1e12
        self._memory = PeakMemory(device)
        self._memory.start()
        self.peak_scope = self._memory.scope
        if device.type == "cuda" or trainer.local_rank == 0:
            self._energy = Energy(device)

    def step_begins(self) -> None:
        """The step's batch is there."""
        if self.laps.started:
            self.laps.lap("data")
            return
        self.startup_s = time.perf_counter() - self.began_s
        self.laps.start()
        self._window = (dict(self.laps.seconds), dict(self.totals), self.data_s)

    def count(self, batch: StepBatch) -> None:
        """One step is done."""
        self.totals["tokens"] += batch.tokens
        self.totals["supervised_tokens"] += batch.supervised_tokens
        self.totals["flops"] += model_flops(
            self.body_parameters, self.head_parameters, batch.tokens, batch.supervised_tokens
        )

    def row(self, trainer: Trainer) -> dict[str, float | None]:
        """`MACHINE_KEYS` since the last row; called by all ranks, after the host has waited for the device."""
        seconds, totals, data_s = self._window
        window_s = self.laps.elapsed_s - sum(seconds.values())
        done = {name: value - totals[name] for name, value in self.totals.items()}
        self._agree(trainer)
        self._window = (dict(self.laps.seconds), dict(self.totals), self.data_s)
        row: dict[str, float | None] = {
            "tokens_per_s": round(done["tokens"] / window_s, 1),
            "supervised_tokens_per_s": round(done["supervised_tokens"] / window_s, 1),
            "mfu": self._share_of_peak(done["flops"] / window_s),
            "peak_mem_gib": round(self.peak_bytes / GIB, 3),
            "data_wait_share": round((self.data_s - data_s) / window_s, 4),
        }
        return row if self.joules is None else {**row, "energy_j": round(self.joules, 1)}

    def _share_of_peak(self, flops_per_s: float) -> float | None:
        """Model FLOPs utilisation; None where the peak was measured too low to be one, after it was measured again."""
        while not self._is_plausible(flops_per_s) and self._may_measure_again():
            self._measured_again += 1
            assert self.device_name is not None
            peak = peak_of(self._device, self.precision, self.given_tflops, self.device_name, again=True)
            self.peak, self.peak_flops = asdict(peak), peak.tflops * 1e12
        return round(flops_per_s / self.peak_flops, 4) if self._is_plausible(flops_per_s) else None

    def _is_plausible(self, flops_per_s: float) -> bool:
        return bool(self.peak["quiet"]) and flops_per_s <= self.peak_flops

    def _may_measure_again(self) -> bool:
        """Ranks have a sum of peaks, and would have to measure together: they leave it out instead."""
        return self.ranks == 1 and self.peak["source"] == "measured" and self._measured_again < _MOST_MEASUREMENTS

    @property
    def note(self) -> str | None:
        """Why there is no share of peak, where there is none."""
        if self._share_of_peak(self.totals["flops"] / self.laps.elapsed_s) is not None:
            return None
        if not self.peak["quiet"]:
            return "no share of the device's peak: its cores were busy each time that their rate was measured"
        return "no share of the device's peak: the fit was faster than the rate that is known of it"

    def _agree(self, trainer: Trainer) -> None:
        """Take the most memory and the longest wait for data of any rank, and the energy of all."""
        assert self._memory is not None
        joules = self._energy.read_j() if self._energy is not None else None
        rank_values = [
            float(self._memory.read_bytes()),
            self.laps.seconds.get("data", 0.0),
            -1.0 if joules is None else joules,
        ]
        gathered_values = _gathered(trainer, rank_values)
        earlier = self._earlier
        self.peak_bytes = int(max(earlier["peak_bytes"], *(peak for peak, _, _ in gathered_values)))
        self.data_s = max(data_s for _, data_s, _ in gathered_values)
        counted = [joules for _, _, joules in gathered_values if joules >= 0]
        self.joules = sum(counted, earlier["joules"] or 0.0) if counted else earlier["joules"]

    def summary(self) -> dict[str, Any]:
        """For `summary.json`. `wall_s` runs from the first step's beginning; what came before it is `startup_s`."""
        seconds, totals = self.laps.elapsed_s, self.totals
        return {
            **totals,
            "wall_s": round(seconds, 2),
            "startup_s": None if self.startup_s is None else round(self.startup_s, 2),
            "device_hours": seconds * self.ranks / 3600,
            "devices": self.ranks,
            "device": self.device_name,
            "tokens_per_s": round(totals["tokens"] / seconds, 1),
            "supervised_tokens_per_s": round(totals["supervised_tokens"] / seconds, 1),
            "mfu": self._share_of_peak(totals["flops"] / seconds),
            "peak_tflops": self.peak["tflops"],
            "peak_source": self.peak["source"],
            "measured_peak_tflops": self.peak["measured_tflops"],
            "peak_mem_gib": round(self.peak_bytes / GIB, 3),
            "peak_mem_scope": self.peak_scope,
            "data_wait_share": round(self.data_s / seconds, 4),
            "checkpoint_share": round(self.laps.share("checkpoint"), 4),
            "energy_j": None if self.joules is None else round(self.joules, 1),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "seconds": dict(self.laps.seconds),
            "totals": dict(self.totals),
            "startup_s": self.startup_s,
            "peak": self.peak,
            "peak_flops": self.peak_flops,
            "device_name": self.device_name,
            "ranks": self.ranks,
            "peak_scope": self.peak_scope,
            "earlier": {"peak_bytes": self.peak_bytes, "joules": self.joules},
            "data_s": self.data_s,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.laps.seconds, self.totals = dict(state["seconds"]), dict(state["totals"])
        # The longest wait of any rank becomes every rank's: from here on they are compared again.
        self.laps.seconds["data"] = self.data_s = state["data_s"]
        self.startup_s, self.peak, self.peak_flops = state["startup_s"], state["peak"], state["peak_flops"]
        self.device_name, self.ranks, self.peak_scope = state["device_name"], state["ranks"], state["peak_scope"]
        self._earlier = dict(state["earlier"])
        self.peak_bytes, self.joules = self._earlier["peak_bytes"], self._earlier["joules"]


def _gathered(trainer: Trainer, values: list[float]) -> list[list[float]]:
    """Every rank's numbers."""
    if trainer.world_size == 1:
        return [values]
    rank_values = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    gathered_values = [torch.empty_like(rank_values) for _ in range(trainer.world_size)]
    dist.all_gather(gathered_values, rank_values)
    return [each.tolist() for each in gathered_values]
