"""One model's foreign results as `eval.json` and items: the form of stage `eval` (`dante.evaluate.stage`).

    eval.json           rows, what each task measures, notes
    TASK/items.jsonl    one line per question, where the harness has kept them
    model-index.yaml    the same rows as metadata of a model card

Rows have what the stage's have, and besides how a foreign number came about: the task's version, the split, a limit,
whether a chat template wrote the prompt, and the harness's own words. Their seed is null: no harness knows with which
one a model was trained.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.foreign.choose import Chosen
from dante.evaluate.foreign.metrics import described
from dante.evaluate.foreign.model_index import model_index_text
from dante.evaluate.foreign.result import Result, Score
from dante.evaluate.foreign.tasks import Name
from dante.system.files import STEP_FILE, read_json, write_json, write_text
from dante.system.jsonl import write_lines

Line = dict[str, Any]


def evaluation(chosen: Chosen) -> Line:
    """The content of `eval.json`."""
    precisions = {result.precision for _, result in chosen.results}
    notes = [note for _, result in chosen.results for note in result.notes]
    if len(precisions) > 1:
        said = ", ".join(f"{name.task} {result.precision or 'unknown'}" for name, result in chosen.results)
        notes.append(f"Not of one precision: {said}.")
    return {
        "rows": [_row(chosen.model, name, result, score) for name, result in chosen.results for score in result.scores],
        "pairs": [],
        "suites": {name.task: _suite(name, result) for name, result in chosen.results},
        "details": {},
        "commands": {},
        "precision": precisions.pop() if len(precisions) == 1 else None,
        "notes": [*chosen.notes, *notes],
    }


def write(chosen: Chosen, out: Path) -> list[Path]:
    """Write everything into a folder; what an earlier import has left there is replaced.

    Returns:
        The files, `eval.json` first.

    Raises:
        DanteError: the folder is a step of a run.
    """
    if (out / STEP_FILE).exists():
        raise DanteError(
            f"{out} is a finished step of a run",
            where="--out",
            allowed="a folder of its own",
            fix="leave --out away: then it is runs/imported/MODEL",
        )
    _remove_items(out)
    written = [out / "eval.json"]
    for name, result in chosen.results:
        if result.items:
            written.append(out / name.task / "items.jsonl")
            written[-1].parent.mkdir(parents=True, exist_ok=True)
            write_lines(written[-1], list(_item_lines(chosen.model, result)))
    out.mkdir(parents=True, exist_ok=True)
    content = evaluation(chosen)
    write_text(out / "model-index.yaml", model_index_text(chosen))
    write_json(out / "eval.json", content)
    return [*written, out / "model-index.yaml"]


def _remove_items(out: Path) -> None:
    """Items of an earlier import would pass for this one's."""
    if (out / "eval.json").is_file():
        for task in read_json(out / "eval.json")["suites"]:
            (out / task / "items.jsonl").unlink(missing_ok=True)


def _row(model: str, name: Name, result: Result, score: Score) -> Line:
    return {
        "model": model,
        "task": f"{name.task}/{score.part}" if score.part else name.task,
        "metric": score.metric,
        "value": score.value,
        "stderr": score.stderr,
        "n": score.n,
        "n_shot": result.n_shot or 0,
        "harness": result.harness.name,
        "harness_version": result.harness_version,
        "decoding": result.decoding,
        "seed": None,
        "task_version": result.task_version,
        "split": result.split,
        "limit": result.limit,
        "chat": result.chat,
        "said": score.said,
    }


def _suite(name: Name, result: Result) -> Line:
    """What a task measures, in words: its main metric first."""
    scores: dict[str, Score] = {}
    for score in result.scores:  # those of the whole task come first
        scores.setdefault(score.metric, score)
    main = {name.main: scores[name.main]} if name.main in scores else {}
    return {
        "heading": name.heading,
        "counts": result.counts,
        "metrics": {key: asdict(described(score, result.decoding)) for key, score in (main | scores).items()},
        "contrasts": [],
        "slices": list(result.slices),
    }


def _item_lines(model: str, result: Result) -> Iterator[Line]:
    for item in result.items:
        values = {metric: list(parts) for metric, parts in item.values.items()}
        yield {"id": item.id, "text": item.text, "slices": list(item.slices), "models": {model: values}}
