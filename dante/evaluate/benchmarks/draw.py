"""Which items of a benchmark are asked where not all are: the same ones for every model and every machine."""

import random
from collections.abc import Mapping


def drawn(sizes: Mapping[str, int], count: int | None, seed: int) -> dict[str, list[int]]:
    """Places of items by task, in order; a task of which none was drawn is left out.

    They are drawn from all tasks together, so a mean over them estimates the mean over all items.

    Args:
        sizes: items of each task.
        count: drawn; None: all.
        seed: of the draw.
    """
    every = [(task, place) for task, size in sizes.items() for place in range(size)]
    chosen = every if count is None else random.Random(seed).sample(every, min(count, len(every)))
    places: dict[str, list[int]] = {task: [] for task in sizes}
    for task, place in chosen:
        places[task].append(place)
    return {task: sorted(found) for task, found in places.items() if found}
