"""The stages that a step may name, one row each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """What the lab has to know of a stage before it is imported.

    Attributes:
        module: has `run(step)`.
        version: of what it writes: raise it when the same settings give another result.
        every_rank: every rank of a distributed run takes part; the other stages run on rank 0 while the rest wait.
        identity: module with `content_identity(settings)`, where settings name files outside the run.
    """

    module: str
    version: int = 1
    every_rank: bool = False
    identity: str | None = None


STAGES = {
    "teacher": Stage("dante.teachers.stage", identity="dante.teachers.stage"),
    "cache": Stage("dante.cache.stage", identity="dante.cache.stage"),
    "init": Stage("dante.students.stage", identity="dante.models.source"),
    "fit": Stage("dante.fit.stage", every_rank=True),
    "release": Stage("dante.release.stage"),
    "score": Stage("dante.evaluate.score_stage"),
    "eval": Stage("dante.evaluate.stage", version=2),
    "report": Stage("dante.report.stage"),
}
