"""How many threads torch computes with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def use_threads(count: int | None) -> None:
    """As many threads from here on; None: as many as before."""
    torch.set_num_threads(count or torch.get_num_threads())


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """As many threads inside, and then as many as before."""
    before = torch.get_num_threads()
    use_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
