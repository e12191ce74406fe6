"""How fast a fit will run: the rate of its device's products, and the share of it that fits reach.

On a CPU faster products make only the products faster. What else a step does (attention's softmax, norms, gates, the
optimizer) takes as long in any precision, about as long as products in fp32 take [I]: a fit reaches half the rate of
fp32 products, and 14 % of what AMX does in bf16. Measured at pocket scale: 50 % (AVX2, fp32), 14 % (AMX, bf16), and 5 %
slower in bf16 by MKL than in fp32 (AVX2).
"""

from dataclasses import dataclass
from typing import Any

import torch

from dante.cost.peak import Source, device_name, listed_tflops, peak_of
from dante.errors import DanteError
from dante.run.precision import device_of
from dante.system.threads import threads


@dataclass(frozen=True)
class ExpectedRate:
    """What a plan's time follows from, per device.

    Attributes:
        peak_tflops: rate of matrix products in the fit's precision.
        source: where that comes from: `config`, `listed` or `measured`.
        mfu: share of it that fits reach (`trainer.expected_mfu`; on a CPU that is of fp32 products).
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
            return ExpectedRate(peak.tflops, peak.source, _mfu(peak.tflops, device, precision, trainer), peak.quiet)
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


def _mfu(tflops: float, device: torch.device, precision: str, trainer: dict[str, Any]) -> float:
    """The share of `tflops` that a fit reaches."""
    expected = float(trainer["expected_mfu"])
    if device.type != "cpu" or precision == "fp32":
        return expected
    fp32_tflops = peak_of(device, "fp32", None, device_name(device)).tflops
    rest_s = (1 / expected - 1) / fp32_tflops  # per TFLOP: what is no product
    return 1 / (1 + rest_s * tflops)
