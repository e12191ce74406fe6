"""What surrounds a fit: memory is estimated before it, and running out of it is told in this lab's words."""

import functools
from collections.abc import Callable

from dante.cost.memory import shape_of
from dante.fit.safety import out_of_memory
from dante.fit.settings import Settings
from dante.run.step import Step
from dante.students.load import meta_of
from dante.supervision.provided import resident_inputs
from dante.teachers.size import resident_parameters

Stage = Callable[[Step[Settings]], None]


def guarded(run: Stage) -> Stage:
    """A stage that trains, with its memory watched over.

    Raises:
        DanteError: memory ran out; it names the keys that help.
    """

    @functools.wraps(run)
    def wrapped(step: Step[Settings]) -> None:
        settings, trainer = step.settings, step.resources["trainer"]
        losses = list(settings.build_losses().values())
        shape = shape_of(meta_of(step.inputs["init"] / "model"))
        beside = resident_inputs(settings.supervision, losses)
        teachers = [resident_parameters(None, step.inputs.get(name)) or 0.0 for name in beside]
        budget = out_of_memory.budget_of(shape, settings.fit, settings.fidelity, trainer, losses, teachers)
        if not (step.out / "summary.json").is_file():
            out_of_memory.announce(budget, ranks_here=trainer["devices"] if trainer["accelerator"] == "cpu" else 1)
        try:
            run(step)
        except (RuntimeError, MemoryError, OSError) as error:
            dante_error = out_of_memory.as_dante_error(error, budget)
            if dante_error is None:
                raise
            raise dante_error from error

    return wrapped
