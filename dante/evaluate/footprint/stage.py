"""Stage `footprint`: what the teacher and each release take, and how fast they answer, side by side on this machine."""

import platform
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from dante import console
from dante.evaluate.footprint.weigh import speeds, spread, weigh
from dante.evaluate.settings import Footprint
from dante.models.pretrained import Source, load_causal_lm
from dante.run.precision import device_of, dtype_of
from dante.run.step import Step
from dante.system.files import write_json
from dante.system.threads import use_threads
from dante.teachers.teacher import FILE_NAME, SOURCE, load_teacher

RESULT = "footprint.json"


def run(step: Step[Footprint]) -> None:
    """Writes `footprint.json`: a row per model, in the order of the inputs.

    Inputs: finished `teacher` or `release` steps, under the names that their rows get.

    Raises:
        DanteError: a model cannot be loaded.
    """
    settings, trainer = step.settings, step.resources["trainer"]
    use_threads(trainer["threads"])
    device = device_of(trainer["accelerator"])
    models = {name: _loaded(folder, settings.precision, device) for name, folder in step.inputs.items()}
    rows: list[dict[str, Any]] = [{"model": name, **weigh(model).facts()} for name, model in models.items()]
    with console.progress_bar() as bar:
        task = bar.add_task("footprint: answers", total=(settings.repeats + 1) * len(models))
        rates = speeds(models, settings.prompt_tokens, settings.new_tokens, settings.repeats, lambda: bar.advance(task))
    for row in rows:
        row["tokens_per_s"] = spread(rates[row["model"]])
    step.out.mkdir(parents=True, exist_ok=True)
    measured = settings.model_dump() | {"device": trainer["device_name"], "threads": torch.get_num_threads()}
    write_json(step.out / RESULT, {"rows": rows, "measured": measured | {"machine": platform.machine()}})


def _loaded(folder: Path, precision: str, device: str) -> PreTrainedModel:
    if (folder / FILE_NAME).is_file():
        teacher = load_teacher(folder)
        source = Source(teacher.location(folder), SOURCE, teacher.revision)
    else:
        source = Source(str(folder.resolve()), "release", None)
    model = load_causal_lm(source, dtype_of(precision), attention="sdpa")
    return torch.nn.Module.to(model, device).eval()
