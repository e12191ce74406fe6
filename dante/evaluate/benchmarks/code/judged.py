"""Programs and tests → verdicts, as many at once as there are cores; each verdict is kept."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from dante.evaluate.harness.kept import Kept
from dante.sandbox.limits import Limits
from dante.sandbox.run import JUDGED_BY, Task, Verdict, run

BATCH = 16


def verdicts(
    programs: Sequence[tuple[str, Task]],
    limits: Limits,
    kept: Kept,
    advance: Callable[[int], object] = lambda programs: None,
) -> list[Verdict]:
    """A verdict for every program, in their order.

    Args:
        programs: each with what it is judged by.
        limits: of each.
        kept: where verdicts lie.
        advance: called with the number of programs finished, for a progress bar.

    Raises:
        DanteError: this machine cannot shut programs in.
    """
    found: list[Verdict] = []
    for start in range(0, len(programs), BATCH):
        batch = programs[start : start + BATCH]
        asked = ["judged", JUDGED_BY, asdict(limits), [[program, asdict(task)] for program, task in batch]]
        found += [Verdict(**line) for line in kept.get(asked, functools.partial(_judged, batch, limits))]
        advance(len(batch))
    return found


def _judged(batch: Sequence[tuple[str, Task]], limits: Limits) -> list[dict[str, object]]:
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = list(pool.map(lambda one: run(one[0], one[1], limits), batch))
    # A machine that was busy is no fault of a program's: it is tried once more, alone.
    return [
        asdict(run(program, task, limits) if verdict.outcome == "timeout" else verdict)
        for (program, task), verdict in zip(batch, found, strict=True)
    ]
