"""A fit's settings → its batches, for the fit itself and for whoever reads them before it."""

from pathlib import Path

from dante.data.datamodule import DistillData
from dante.data.table import Wanted
from dante.run.config.schema import Batches
from dante.run.parts import build
from dante.supervision.provided import Supervision
from dante.text.chat import ChatRenderer
from dante.text.rendering import Renderer


def data_of_fit(
    fit: Batches,
    seed: int,
    cache: Path,
    renderer: Renderer,
    tokens_dir: Path,
    workers: int = 0,
    supervision: Supervision | None = None,
    spans: bool = False,
    reader: ChatRenderer | None = None,
) -> DistillData:
    """See `DistillData`; what it is told of batches stands in `fit`, and of `spans` and `reader` in `Wanted`."""
    return DistillData(
        cache=cache,
        renderer=renderer,
        tokens_dir=tokens_dir,
        steps=fit.steps,
        batch=fit.batch.model_dump(),
        max_tokens=fit.max_tokens,
        accumulate=fit.accumulate,
        curriculum=build(fit.curriculum),
        overlong=fit.overlong,
        seed=seed,
        workers=workers,
        supervision=supervision,
        wanted=Wanted(fit.mask_prefix, spans, reader),
    )
