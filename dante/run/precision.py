"""Which device and which precision matrix products run in: what `auto` means on the machine at hand, and why.

`bf16` where the device multiplies bf16 natively, `fp32` elsewhere: a CPU without bf16 instructions emulates such
products at a thirtieth of its fp32 rate. The answer is found once, before anything is planned, and written into the
config, so plan, fit, evaluation and teacher's engine agree on it, and a fingerprint holds it.
"""

import functools
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dante.errors import DanteError
from dante.run import directory
from dante.system import rank

Device = Literal["cpu", "cuda"]
Support = Literal["native", "emulated", "unknown"]
AUTO = "auto"
# Where `auto` may stand: the trainer's, and what follows it unless it is typed.
ACCELERATOR = "trainer.accelerator"
KEYS = ("trainer.precision", "fit.precision", "eval.precision")
# The same choice in the words of models' configs, which engines are given.
LONG_NAMES: dict[str, str] = {"bf16": "bfloat16", "fp32": "float32"}

_TRIAL_SIZE = 512
_TRIAL_S = 0.1  # for each of the two precisions


@dataclass(frozen=True)
class Decision:
    """What `auto` became.

    Attributes:
        value: as the config's key is written.
        reason: for the plan, after a colon.
    """

    value: str
    reason: str


def dtype_of(precision: str) -> Any:
    """The torch dtype of `bf16` or `fp32`.

    Raises:
        DanteError: another word; `auto` has been settled by then.
    """
    import torch

    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if precision not in dtypes:
        raise DanteError(f"unknown precision {precision!r}", where="precision", allowed=", ".join(sorted(dtypes)))
    return dtypes[precision]


def device_of(accelerator: str) -> Device:
    """The device behind `trainer.accelerator`: `cpu` or `gpu`."""
    return "cuda" if accelerator == "gpu" else "cpu"


def bf16_support(device: str) -> Support:
    """Whether a device multiplies bf16 in hardware: the one place that asks.

    x86 tells by its flags (AVX512-BF16, AMX); torch's own "bf16 is supported" is true wherever oneDNN can emulate it.
    A GPU that is not here is the plan's, and every one that the lab's scales name has bf16.
    """
    import torch

    if device == "cuda":
        here = torch.cuda.is_available()
        return "native" if not here or torch.cuda.is_bf16_supported(including_emulation=False) else "emulated"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "unknown"
    flags = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "native" if any(flag is not None and flag() for flag in flags) else "emulated"


def is_emulated(precision: str, device: str) -> bool:
    """Whether products in this precision would be emulated on the device."""
    return precision == "bf16" and bf16_support(device) == "emulated"


def decide(device: Device) -> Decision:
    """What `auto` means for the precision of a new run on this machine."""
    name = _name(device)
    support = bf16_support(device)
    if support == "native":
        return Decision("bf16", f"{name} multiplies bf16")
    if support == "emulated":
        return Decision("fp32", f"{name} has no bf16 instructions and would emulate its products")
    if rank.processes() > 1:  # ranks that each measure could each find something else
        return Decision("fp32", f"whether {name} multiplies bf16 is not known, and several processes do not measure it")
    return _measured(name)


def decisions(config: dict[str, Any]) -> dict[str, Decision]:
    """For every key of a resolved config that says `auto`: what it becomes.

    A run that was begun in one precision goes on in it. The fit of weights that are bf16 themselves
    (`fidelity=card`) is in bf16 on every machine.
    """
    decision_by_key: dict[str, Decision] = {}
    if config["trainer"]["accelerator"] == AUTO:
        decision_by_key[ACCELERATOR] = _accelerator()
    device = device_of(decision_by_key[ACCELERATOR].value if decision_by_key else config["trainer"]["accelerator"])
    asked = [key for key in KEYS if _get(config, key) == AUTO]
    begun = _begun(config) if asked else {}
    for key in asked:
        decision_by_key[key] = _precision(config, key, _get(begun, key), device)
    parts = [key for name in ("engine", "kept", "mixed") for key in dtype_keys(config[name], name)]
    engines = [key for key in parts if _get(config, key) == AUTO]
    trainer = (
        decision_by_key["trainer.precision"].value
        if "trainer.precision" in decision_by_key
        else config["trainer"]["precision"]
    )
    return decision_by_key | {key: Decision(LONG_NAMES[trainer], f"trainer.precision is {trainer}") for key in engines}


def _precision(config: dict[str, Any], key: str, begun: str | None, device: Device) -> Decision:
    if key == "fit.precision" and not config["fidelity"]["master_weights"]:
        return Decision("bf16", f"fidelity={config['fidelity']['name']} keeps its weights in bf16")
    here = decide(device)
    if begun in LONG_NAMES and begun != here.value:
        return Decision(str(begun), f"the run was begun in it; a new one would take {here.value}")
    return here


def _accelerator() -> Decision:
    """A CUDA device where there is one; never one that nobody named and the lab was not tested on (MPS)."""
    import torch

    if torch.cuda.is_available():
        return Decision("gpu", "a CUDA device is here")
    other = "; Apple's GPU (MPS) is not used" if torch.backends.mps.is_available() else ""
    return Decision("cpu", f"no CUDA device is here{other}")


def require_device(accelerator: str) -> None:
    """Refuse a fit on a device that is not here, before anything is made for it.

    Raises:
        DanteError: `trainer.accelerator=gpu` on a machine without CUDA.
    """
    import torch

    if accelerator == "gpu" and not torch.cuda.is_available():
        raise DanteError(
            "the fit is to run on a GPU, and there is no CUDA device here",
            where=ACCELERATOR,
            allowed="cpu; gpu where torch finds a CUDA device; auto",
            fix="trainer.accelerator=cpu trainer.devices=1 trainer.strategy=auto, or dry_run=true for the plan alone",
        )


def _name(device: Device) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "the planned GPU"
    return f"this CPU ({torch.backends.cpu.get_cpu_capability()})"


@functools.cache
def _measured(name: str) -> Decision:
    """Asks a product, where flags do not tell; bounded: one product of each precision at least, few more."""
    seconds = {precision: _product_s(precision) for precision in LONG_NAMES}
    ratio = seconds["fp32"] / seconds["bf16"]
    if ratio > 1:
        return Decision("bf16", f"{name} multiplies bf16 {ratio:.1f} times as fast as fp32 (measured)")
    return Decision("fp32", f"{name} multiplies fp32 {1 / ratio:.1f} times as fast as bf16 (measured)")


def _product_s(precision: str) -> float:
    """Shortest time of a product, as a linear layer makes it."""
    import torch

    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(_TRIAL_SIZE, _TRIAL_SIZE, generator=draw).to(dtype_of(precision)) for _ in range(2))
    deadline, shortest_s = time.perf_counter() + _TRIAL_S, float("inf")
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        shortest_s = min(shortest_s, time.perf_counter() - start)
    return shortest_s


def _begun(config: dict[str, Any]) -> dict[str, Any]:
    """The stored config of a run that has finished something, else nothing."""
    if config["on_existing"] == "overwrite":
        return {}
    return directory.begun(Path(config["run"]["dir"]))


def _get(node: Any, key: str) -> Any:
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def dtype_keys(node: Any, path: str) -> list[str]:
    """Keys of the dtypes that the answers' engines compute in."""
    if not isinstance(node, dict):
        return []
    keys = [f"{path}.dtype"] if "dtype" in node else []
    return keys + [key for name, child in node.items() for key in dtype_keys(child, f"{path}.{name}")]
