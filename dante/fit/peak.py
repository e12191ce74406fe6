"""The rate of matrix products that a device reaches: what model FLOPs utilisation is a share of.

Three sources, in this order: `trainer.peak_tflops` where the config names a number; the vendor's listed dense rate
where the device is known by its name; the rate measured here. It is measured in any case, and stands in `summary.json`
as `measured_peak_tflops` beside the rate that was used. A measured peak is what the best of a few square products
reached on this machine at that moment: a neighbour who keeps the cores busy lowers it, and raises the utilisation.
"""

import time
from dataclasses import dataclass
from typing import Literal

import torch

Source = Literal["config", "listed", "measured"]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
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
# Square products, large enough to be bound by arithmetic.
_SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
_SECONDS = 0.4
_MOST_ROUNDS = 20


@dataclass(frozen=True)
class Peak:
    """The rate that counts as a device's peak.

    Attributes:
        tflops: of one device, in the precision of the fit.
        source: where it comes from: `config`, `listed` or `measured`.
        measured_tflops: per precision (`bf16`, `fp32`) what this device reached.
    """

    tflops: float
    source: Source
    measured_tflops: dict[str, float]


def peak_of(device: torch.device, precision: str, given_tflops: float | None, name: str) -> Peak:
    """The peak of `device` for a fit in `precision` (`bf16`, `fp32`); takes about half a second.

    Args:
        device: where the fit runs.
        precision: of its matrix products.
        given_tflops: what the config says, or None.
        name: the device's own name, to look it up by.
    """
    measured = measured_tflops(device)
    if given_tflops is not None:
        return Peak(given_tflops, "config", measured)
    listed = listed_tflops(name, precision)
    if listed is not None:
        return Peak(listed, "listed", measured)
    return Peak(measured[precision], "measured", measured)


def listed_tflops(name: str, precision: str) -> float | None:
    """The vendor's dense rate for a device's name, or None for one that is not in the table."""
    known = (rates for part, rates in LISTED_TFLOPS.items() if part in name)
    rates = next(known, None)
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


def measured_tflops(device: torch.device, seconds: float = _SECONDS) -> dict[str, float]:
    """Highest rate of square matrix products per precision, TFLOP/s; each precision gets half of `seconds`."""
    with torch.no_grad():
        return {name: round(_rate(device, dtype, seconds / len(DTYPES)), 4) for name, dtype in DTYPES.items()}


def _rate(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    sizes = _SIZES.get(device.type, _SIZES["cuda"])
    # Noise: a GPU that multiplies constants draws less power and clocks higher. A generator of its own: the fit's
    # random state must not depend on how often a rate was measured.
    draw = torch.Generator(device).manual_seed(0)
    best = 0.0
    for size in sizes:
        a, b, out = (torch.empty(size, size, dtype=dtype, device=device).normal_(generator=draw) for _ in range(3))
        deadline = time.perf_counter() + seconds / len(sizes)
        for _ in range(_MOST_ROUNDS):
            torch.cuda.synchronize(device) if device.type == "cuda" else None
            start = time.perf_counter()
            torch.mm(a, b, out=out)
            torch.cuda.synchronize(device) if device.type == "cuda" else None
            best = max(best, 2.0 * size**3 / (time.perf_counter() - start) / 1e12)
            if time.perf_counter() > deadline:
                break
    return best
