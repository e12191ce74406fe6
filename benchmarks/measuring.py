"""What all benchmarks share: medians with ranges, memory of a process, the machine in words, and filling a README."""

import ctypes
import gc
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

MIB, GIB = 2**20, 2**30


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def cell(values: dict[str, float], digits: int = 0, bold: bool = False) -> str:
    """A spread as a table cell: `median (min – max)`."""
    median, low, high = (f"{values[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return f"{'**' if bold else ''}{median}{'**' if bold else ''} ({low} – {high})"


def resident_bytes() -> int:
    """Resident memory of this process now."""
    return _status("VmRSS") or _highest()


def peak_resident_bytes() -> int:
    """Most memory this process had resident since `reset_peak`, or since it began where the peak cannot be reset."""
    return _status("VmHWM") or _highest()


def available_bytes(device: str) -> int:
    """Memory that is free for one more process."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found.group(1)) * 1024 if found else sys.maxsize


def reset_peak() -> bool:
    """Let the peak begin again at what is resident now; False where the system does not offer that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def release_memory() -> None:
    """Give freed memory back to the system (glibc keeps some): who waits should not hold what others need."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Others:
    """Processor time that everything but this process takes: what a measurement was disturbed by."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), _busy_s(), time.process_time()

    def cores(self) -> float:
        """Cores that others kept busy since this was made, on average; 0 where the system does not say."""
        wall, busy, own = (
            now - then
            for now, then in zip((time.perf_counter(), _busy_s(), time.process_time()), self._start, strict=True)
        )
        return max(0.0, (busy - own) / wall) if busy and wall else 0.0


def _busy_s() -> float:
    """Seconds that all cores together were not idle, since the machine started (Linux; 0 elsewhere)."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    ticks = [int(field) for field in fields[:8]]  # user nice system idle iowait irq softirq steal
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _status(key: str) -> int:
    """A field of Linux's process status in bytes, 0 where there is none."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _highest() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine(threads: int, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Class of machine, threads, load before the run and versions: without them no number means anything."""
    return {
        "cores": os.cpu_count(),
        "threads": threads,
        "architecture": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "amx": bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)()),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {name: found for name in ("torch", *packages) if (found := installed(name)) is not None},
    }


def installed(package: str) -> str | None:
    """Version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def in_words(machine: dict[str, Any], load_after: float) -> str:
    """`machine` as a line above a table."""
    device = machine["cuda"] or f"{machine['cpu_capability']}{', AMX' if machine['amx'] else ''}"
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    load = f"load average {machine['load_before']:.1f} before and {load_after:.1f} after the run"
    return (
        f"{machine['cores']} CPU cores ({machine['architecture']}, {device}), {machine['threads']} "
        f"{'thread' if machine['threads'] == 1 else 'threads'} per process, {load}; "
        f"Python {machine['python']}, {versions}"
    )


def fill(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers `<!-- name -->` and `<!-- /name -->` of a Markdown file.

    Raises:
        ValueError: the file does not have this pair of markers.
    """
    old = path.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    new, found = pattern.subn(lambda match: f"{match[1]}\n{text.strip()}\n\n{match[2]}", old)
    if found != 1:
        raise ValueError(f"{path} has {found} pairs of markers <!-- {name} --> … <!-- /{name} -->, one is needed")
    path.write_text(new, encoding="utf-8")
