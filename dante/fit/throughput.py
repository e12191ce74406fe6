"""How fast the fit runs and how much memory it takes: tokens/s, share of the device's peak, peak memory."""

import resource
import sys
import time

import torch

GIB = 2**30


def model_flops(body_parameters: int, head_parameters: int, tokens: int, supervised_tokens: int) -> float:
    """FLOPs of forward and backward: 6 per parameter and token, the LM head at supervised positions only.

    Recomputation under gradient checkpointing is not counted: MFU is about useful work.
    """
    return 6.0 * (body_parameters * tokens + head_parameters * supervised_tokens)


def peak_memory_gib() -> float:
    """Peak of the device's allocator on CUDA, of the process's resident memory on a CPU."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


class Clock:
    """Seconds of work, over interruptions: `elapsed_s` goes into the checkpoint and continues from there."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self._last: float | None = None

    def start(self) -> None:
        """Begin to count from now."""
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap or start, added to `elapsed_s`."""
        now = time.perf_counter()
        assert self._last is not None, "the clock was not started"
        lap_s, self._last = now - self._last, now
        self.elapsed_s += lap_s
        return lap_s
