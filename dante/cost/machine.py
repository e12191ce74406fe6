"""What a fit takes from its machine: peak memory, energy; and how much memory there is to take."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

Scope = Literal["fit", "process"]
_PROC, _CGROUPS, _POWERCAP = Path("/proc"), Path("/sys/fs/cgroup"), Path("/sys/class/powercap")
_RESET_PEAK = "5"  # Documentation/filesystems/proc.rst, clear_refs


class PeakMemory:
    """Highest memory since `start`: the device's allocator on CUDA, this process's resident memory on a CPU.

    Attributes:
        scope: `fit`; `process` where the system's own mark cannot be set back (it then covers earlier stages, too).
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.scope: Scope = "process"

    def start(self) -> None:
        """Forget what was used so far."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.scope = "fit"
            return
        try:
            (_PROC / "self" / "clear_refs").write_text(_RESET_PEAK)
            self.scope = "fit"
        except OSError:
            self.scope = "process"

    def read_bytes(self) -> int:
        """The peak so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        resident = _status_bytes("VmHWM")
        if resident is not None:
            return resident
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(name: str) -> int | None:
    return _kilobytes(_PROC / "self" / "status", name)


def _kilobytes(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    value = next(values, None)
    return int(value) * 1024 if value is not None else None


def memory_bytes(device: torch.device) -> tuple[int, int] | None:
    """(all, still free for this process) of the device's memory; None where the system does not tell.

    On a CPU the smallest of what the machine has, what the control group may have, and the limit on this process's
    address space.
    """
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        # What torch's allocator has reserved and does not use is free for this process.
        return whole, free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    installed, available = (_kilobytes(_PROC / "meminfo", name) for name in ("MemTotal", "MemAvailable"))
    if installed is None or available is None:
        return None
    limits = [(installed, available), *_control_groups(_PROC / "self" / "cgroup", _CGROUPS)]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append((address_space, address_space - (_status_bytes("VmSize") or 0)))
    return min(limit for limit, _ in limits), max(0, min(left for _, left in limits))


def _control_groups(membership: Path, root: Path) -> list[tuple[int, int]]:
    """(limit, left) of every control group above this process that limits memory, versions 1 and 2."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    memory_limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names, below = ("memory.max", "memory.current"), root
        elif "memory" in controllers.split(","):
            names, below = ("memory.limit_in_bytes", "memory.usage_in_bytes"), root / "memory"
        else:
            continue
        group = below / path.lstrip("/")
        while True:
            limit, used = (_number(group / name) for name in names)
            if limit is not None and used is not None:
                # Files' pages that nobody has used lately are given back before anything is refused.
                cached = _statistic(group / "memory.stat", ("total_inactive_file", "inactive_file"))
                memory_limits.append((limit, limit - (used - cached)))
            if group == below:
                break
            group = group.parent
    return memory_limits


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such group here, or `max`: no limit
        return None


def _statistic(path: Path, names: tuple[str, ...]) -> int:
    try:
        rows = dict(line.split() for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return 0
    return int(next((rows[name] for name in names if name in rows), 0))


class Energy:
    """Joules since the meter was made, where the driver counts them: NVML on CUDA, RAPL's packages on a CPU.

    A process on a CPU is told what the whole machine used, so one process per machine asks.
    """

    def __init__(self, device: torch.device, powercap: Path = _POWERCAP) -> None:
        counters = _nvml(device) if device.type == "cuda" else _rapl(powercap)
        self._counters = [(read, read_range) for read, read_range in counters if read() is not None]
        self._last = [read() or 0.0 for read, _ in self._counters]
        self._joules = 0.0

    def read_j(self) -> float | None:
        """Joules so far, or None where nobody counts. A counter that starts again must be read once in between."""
        if not self._counters:
            return None
        for place, (read, wraps_at) in enumerate(self._counters):
            now = read()
            if now is None:
                continue
            passed = now - self._last[place]
            self._joules += passed if passed >= 0 else passed + wraps_at
            self._last[place] = now
        return self._joules


def _rapl(root: Path) -> list[tuple[Callable[[], float | None], float]]:
    counters: list[tuple[Callable[[], float | None], float]] = []
    for zone in sorted(root.glob("intel-rapl:*")) if root.is_dir() else []:
        try:
            package = (zone / "name").read_text(encoding="utf-8").startswith("package")
        except OSError:
            continue
        if package:
            span = _number(zone / "max_energy_range_uj") or 0

            def read(path: Path = zone / "energy_uj") -> float | None:
                value = _number(path)
                return None if value is None else value / 1e6

            counters.append((read, span / 1e6))
    return counters


def _nvml(device: torch.device) -> list[tuple[Callable[[], float | None], float]]:
    try:
        import pynvml

        pynvml.nvmlInit()
        handle: Any = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except Exception:  # not installed, no driver, a device of another vendor: no energy, and no guess
        return []

    def read() -> float | None:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except pynvml.NVMLError:
            return None

    return [(read, 0.0)]
