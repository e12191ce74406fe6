"""The rate of matrix products that a device reaches: what model FLOPs utilisation is a share of.

Three sources, in this order: `trainer.peak_tflops` where the config names a number; the vendor's listed dense rate
where the device is known by its name; the rate measured here (`dante.cost.product_rate`), in the precision in use. It
stands in `summary.json` as `measured_peak_tflops` beside the rate that was used.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from dante.cost.product_rate import product_rate

Source = Literal["config", "listed", "measured"]
# Dense tensor-core bf16 and plain fp32 (torch does not round fp32 products to TF32 by itself), TFLOP/s, from the
# vendors' data sheets [S]. The first name that is part of the device's name counts: the more special ones stand first.
LISTED_TFLOPS: dict[str, dict[str, float]] = {
    "H100 NVL": {"bf16": 835.0, "fp32": 60.0},
    "H100 PCIe": {"bf16": 756.0, "fp32": 51.0},
    "GH200": {"bf16": 989.0, "fp32": 67.0},
    "H200": {"bf16": 989.0, "fp32": 67.0},
    "H100": {"bf16": 989.0, "fp32": 67.0},
    "A100": {"bf16": 312.0, "fp32": 19.5},
    "B200": {"bf16": 2250.0, "fp32": 80.0},
    "L40S": {"bf16": 362.0, "fp32": 91.6},
}


@dataclass(frozen=True)
class Peak:
    """The rate that counts as a device's peak.

    Attributes:
        tflops: of one device, in the precision of the fit.
        source: where it comes from: `config`, `listed` or `measured`.
        measured_tflops: what this device reached, by precision (`bf16`, `fp32`): the one in use.
        quiet: False: it was measured while other processes had the cores, and no share of it means anything.
    """

    tflops: float
    source: Source
    measured_tflops: dict[str, float]
    quiet: bool = True


def peak_of(device: torch.device, precision: str, given_tflops: float | None, name: str, again: bool = False) -> Peak:
    """The peak of `device` for a fit in `precision` (`bf16`, `fp32`); at most a third of a second where none is kept.

    Args:
        device: where the fit runs.
        precision: of its matrix products.
        given_tflops: what the config says, or None.
        name: the device's own name, to look it up by.
        again: measure even where a rate is kept.
    """
    rate = product_rate(device, precision, name, again)
    measured = {precision: rate.tflops}
    if given_tflops is not None:
        return Peak(given_tflops, "config", measured)
    listed = listed_tflops(name, precision)
    if listed is not None:
        return Peak(listed, "listed", measured)
    return Peak(rate.tflops, "measured", measured, rate.quiet)


def listed_tflops(name: str, precision: str) -> float | None:
    """The vendor's dense rate for a device's name, or None for one that is not in the table."""
    matching_rates = (rates for part, rates in LISTED_TFLOPS.items() if part in name)
    rates = next(matching_rates, None)
    return rates[precision] if rates else None


def device_name(device: torch.device) -> str:
    """What the driver calls a device; a CPU's model where the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            return next(names, "CPU")
    except OSError:
        return "CPU"
