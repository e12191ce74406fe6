"""How fast a fit will run: the rate of its device's products, and the share of it that fits reach."""

from dataclasses import dataclass
from typing import Any

import torch

from dante.errors import DanteError
from dante.fit.peak import Source, device_name, listed_tflops, peak_of
from dante.precision import device_of
from dante.threads import threads


@dataclass(frozen=True)
class ExpectedRate:
    """What a plan's time follows from, per device.

    Attributes:
        peak_tflops: rate of matrix products in the fit's precision.
        source: where that comes from: `config`, `listed` or `measured`.
        mfu: share of it that fits reach (`trainer.expected_mfu`).
        quiet: False: other processes had the cores while it was measured.
    """

    peak_tflops: float
    source: Source
    mfu: float
    quiet: bool

    @property
    def tflops(self) -> float:
        """Useful TFLOP/s."""
        return self.peak_tflops * self.mfu


def expected_rate(trainer: dict[str, Any], precision: str) -> ExpectedRate:
    """The rate of a fit in `precision`: of the device that is here, or of the one that the config names.

    Raises:
        DanteError: the device is not here, and nobody knows its rate.
    """
    given = None if trainer["peak_tflops"] is None else float(trainer["peak_tflops"])
    kind = device_of(trainer["accelerator"])
    if kind == "cpu" or torch.cuda.is_available():
        device = torch.device(kind)
        with threads(trainer["threads"]):
            peak = peak_of(device, precision, given, device_name(device))
        return ExpectedRate(peak.tflops, peak.source, trainer["expected_mfu"], peak.quiet)
    if given is not None:
        return ExpectedRate(given, "config", trainer["expected_mfu"], True)
    listed = listed_tflops(trainer["device_name"], precision)
    if listed is None:
        raise DanteError(
            f"how long a fit takes on {trainer['device_name']} cannot be told: its rate is not listed",
            where="trainer.peak_tflops",
            allowed="its dense rate in the fit's precision, TFLOP/s",
            fix="trainer.peak_tflops=NUMBER",
        )
    return ExpectedRate(listed, "listed", trainer["expected_mfu"], True)
