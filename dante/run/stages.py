"""The stages that a step may name, one row each.

A package of the user's that is called `dante_*` may bring a stage, too: a step names its module, `dante_mine.count`,
and the module holds its row as `STAGE`.
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """What the lab has to know of a stage before it is imported.

    Attributes:
        module: has `run(step)`.
        settings: the class that its settings are checked against; its module imports nothing heavy.
        version: of what it writes: raise it when the same settings give another result.
        every_rank: every rank of a distributed run takes part; the other stages run on rank 0 while the rest wait.
        identity: module with `content_identity(settings)`, where settings name files outside the run.
        prepare: function of plain settings → plain settings, where what steps share says more than one step reads.
        reads_ahead: its settings hold the `fit` of the step that reads what it writes, because it reads those batches.
    """

    module: str
    settings: str
    version: int = 1
    every_rank: bool = False
    identity: str | None = None
    prepare: str | None = None
    reads_ahead: bool = False

    def prepared(self, settings: dict[str, Any]) -> dict[str, Any]:
        """A step's settings as they enter its fingerprint."""
        return _found(self.prepare)(settings) if self.prepare else settings

    def typed(self, settings: Mapping[str, Any]) -> Any:
        """A step's checked settings as what the stage reads."""
        return self.settings_class().model_validate(settings)

    def settings_class(self) -> Any:
        """The pydantic model of a step's settings."""
        return _found(self.settings)


def _found(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


_OWN_SUPERVISION = "dante.fit.settings.without_spare_supervision"
_OF_BATCHES = "dante.fit.settings.of_batches"
_OF_MODEL = "dante.evaluate.settings.of_model"
_EXTENSION = re.compile(r"dante_\w+(\.\w+)+")


class _Stages(dict[str, Stage]):
    """The lab's own stages; those of extensions are found when they are named."""

    def __missing__(self, name: str) -> Stage:
        if not _EXTENSION.fullmatch(name):
            raise KeyError(name)
        self[name] = stage = importlib.import_module(name).STAGE
        return stage


STAGES = _Stages(
    {
        "teacher": Stage("dante.teachers.stage", "dante.teachers.settings.Settings", identity="dante.teachers.stage"),
        "cache": Stage("dante.cache.stage", "dante.cache.settings.Settings", identity="dante.cache.stage"),
        "calibration": Stage("dante.densify.calibration.stage", "dante.run.config.schema.Calibration"),
        "init": Stage("dante.students.stage", "dante.run.config.schema.Student", identity="dante.models.source"),
        "fit": Stage("dante.fit.stage", "dante.fit.settings.Settings", every_rank=True, prepare=_OWN_SUPERVISION),
        "blocks": Stage("dante.fit.blocks_stage", "dante.fit.settings.Blocks", prepare=_OF_BATCHES, reads_ahead=True),
        "logits": Stage("dante.cache.sparse.stage", "dante.run.config.schema.Kept"),
        "likelihood": Stage("dante.select.likelihood.stage", "dante.select.settings.LikelihoodSettings"),
        "select": Stage("dante.select.stage", "dante.select.settings.SelectSettings"),
        "sentences": Stage("dante.select.sentences_stage", "dante.select.settings.SentencesSettings"),
        "samples": Stage("dante.cache.mixed.samples", "dante.cache.mixed.settings.SamplesSettings"),
        "mixed": Stage(
            "dante.cache.mixed.stage", "dante.cache.mixed.settings.MixedSettings", identity="dante.cache.mixed.stage"
        ),
        "release": Stage("dante.release.stage", "dante.release.settings.Settings"),
        "score": Stage("dante.evaluate.score_stage", "dante.evaluate.settings.Score", version=4, prepare=_OF_MODEL),
        "eval": Stage("dante.evaluate.stage", "dante.evaluate.settings.Eval", version=6, prepare=_OF_MODEL),
        "footprint": Stage("dante.evaluate.footprint.stage", "dante.evaluate.settings.Footprint"),
        "report": Stage("dante.report.stage", "dante.report.settings.Settings", version=2),
    }
)


def stage_error(name: str) -> str | None:
    """What is wrong with the name of a stage, or None."""
    lab_stages = ", ".join(key for key in STAGES if "." not in key)
    try:
        STAGES[name]
    except KeyError:
        return f"a stage of the lab ({lab_stages}), or a module of yours, dante_*.NAME"
    except (ImportError, AttributeError) as error:
        return f"a module that can be imported and holds STAGE ({error})"
    return None
