"""How fast a device multiplies matrices here and now, in the precision in use; kept per machine.

The plan's time and the share of peak follow from it. A measurement is bounded by itself: products grow until the next
one would take too long, so that a CPU which emulates bf16 (a thousandth of what was hoped for) costs no more than any
other. The best rate ever measured is kept, in a file of the user's cache folder: a neighbour who keeps the cores busy
only lowers a rate. One that works in another virtual machine is not seen from here, so the first starts measure again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dante.losses.vocabulary import mkl
from dante.run.precision import dtype_of, is_emulated
from dante.system.files import read_json, user_cache, write_json

# Square products, growing: the largest that fit the time are bound by arithmetic.
_SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (2048, 4096, 8192)}
_MOST_ROUNDS = 20
MEASURE_S = 0.3
# Large products keep all threads at work (emulated ones a single one): with less CPU time than this share of their wall
# time, somebody else had the cores.
_QUIET_SHARE = 0.9
# Measurements on quiet cores after which a rate is believed.
_ENOUGH = 4


@dataclass(frozen=True)
class Rate:
    """A device's rate of square matrix products.

    Attributes:
        tflops: TFLOP/s.
        quiet: False: other processes had the cores meanwhile, and the device can do more.
    """

    tflops: float
    quiet: bool


def measure(device: torch.device, precision: str, seconds: float = MEASURE_S) -> Rate:
    """The best product within about `seconds` (the smallest product runs at least once)."""
    # Noise: a GPU that multiplies constants draws less power and clocks higher. A generator of its own: the fit's
    # random state must not depend on how often a rate was measured.
    draw, dtype = torch.Generator(device).manual_seed(0), dtype_of(precision)
    sizes, multiply = _SIZES.get(device.type, _SIZES["cuda"]), _multiply(device, precision)
    deadline = time.perf_counter() + seconds
    wall_s, cpu_s, best = time.perf_counter(), time.process_time(), 0.0
    with torch.no_grad():
        for index, size in enumerate(sizes):
            flops, now = 2.0 * size**3, time.perf_counter()
            if best and now + flops / best > deadline:
                break
            a, b = (torch.empty(size, size, dtype=dtype, device=device).normal_(generator=draw) for _ in range(2))
            out = torch.empty(size, size, dtype=torch.float32 if multiply is mkl.product else dtype, device=device)
            until = now + (deadline - now) / (len(sizes) - index)
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            for _ in range(_MOST_ROUNDS):
                best = max(best, flops / _product_s(multiply, a, b, out))
                if time.perf_counter() > until:
                    break
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    alone = multiply is _torch_product and is_emulated(precision, device.type)
    threads = 1 if alone else torch.get_num_threads()
    quiet = device.type != "cpu" or cpu_s > _QUIET_SHARE * wall_s * threads
    return Rate(round(best / 1e12, 6), quiet)


def product_rate(device: torch.device, precision: str, name: str, again: bool = False) -> Rate:
    """The device's best rate so far; measured where it was not measured often enough to be believed.

    Args:
        device: whose products.
        precision: `bf16` or `fp32`.
        name: the device's own name: rates are kept by it.
        again: measure in any case; the better one stays.
    """
    key = f"{name} | torch {torch.__version__} | {_threads(device)} | {_words(device, precision)}"
    tflops, times = _read().get(key, (0.0, 0))
    if times >= _ENOUGH and not again:
        return Rate(tflops, True)
    new_rate = measure(device, precision)
    if new_rate.quiet:
        _keep(key, max(tflops, new_rate.tflops), times + 1)
    if tflops >= new_rate.tflops:
        return Rate(tflops, True)
    return new_rate


def _multiply(device: torch.device, precision: str) -> Callable[..., Any]:
    """The product that a fit's linear layers go through."""
    replaced = is_emulated(precision, device.type) and mkl.avoids_emulation()
    return mkl.product if replaced else _torch_product


def _torch_product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    torch.mm(a, b, out=out)


def _product_s(multiply: Callable[..., Any], a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> float:
    torch.cuda.synchronize(a.device) if a.device.type == "cuda" else None
    start = time.perf_counter()
    multiply(a, b, out)
    torch.cuda.synchronize(a.device) if a.device.type == "cuda" else None
    return time.perf_counter() - start


def _words(device: torch.device, precision: str) -> str:
    return f"{precision} by MKL" if _multiply(device, precision) is mkl.product else precision


def _threads(device: torch.device) -> str:
    return f"{torch.get_num_threads()} threads" if device.type == "cpu" else "device"


def _file() -> Path:
    return user_cache() / "product_rates.json"


def _read() -> dict[str, tuple[float, int]]:
    """Rate in TFLOP/s, and how often it was measured on quiet cores, by machine and product."""
    try:
        return {key: (float(kept["tflops"]), int(kept["measured"])) for key, kept in read_json(_file()).items()}
    except Exception:  # absent, damaged, not to be read: it is measured again
        return {}


def _keep(key: str, tflops: float, times: int) -> None:
    kept = {name: {"tflops": rate, "measured": count} for name, (rate, count) in _read().items()}
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_json(_file(), kept | {key: {"tflops": tflops, "measured": times}})
    except OSError:  # no home, a full disk: the next start measures again
        return
