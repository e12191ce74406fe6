"""Stage `eval`: what the student is worth, beside its initialisation, its teacher and two counting models.

Measures the student into `student/` and joins it with the directories of `eval-teacher` and `eval-init`:

    eval.json          rows of all models, paired differences, calibration, entropy, and how they were made
    items.jsonl        one line per held-out record with every model's bits, tokens, hits, entropy
    retention.jsonl    one line per retention text with every model's bits
    generations.jsonl  prompts with the teacher's text and the greedy answers side by side

A restart begins anew.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from dante.cache import Record, read_records
from dante.cache.asked import check_rendering
from dante.evaluate.items import select
from dante.evaluate.join import Measured, fidelity_pairs, item_lines, retention_lines, retention_pairs, side_by_side
from dante.evaluate.one_model import measure
from dante.evaluate.rows import bits_ratio, row, sliced
from dante.evaluate.score_stage import subject
from dante.evaluate.suites.heldout.counting import counting_models
from dante.run.step import Step
from dante.system.files import read_json, write_json
from dante.system.jsonl import write_lines
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer


def run(step: Step) -> None:
    """Measures the student, joins all models, writes `eval.json` and the lines beside it into `step.out`.

    Settings: those of `dante.evaluate.one_model.measure`, `bootstrap` (resamples) and `confidence` (of intervals).
    Resources: `trainer.threads` (CPU threads, None: all).
    """
    settings = step.settings
    shutil.rmtree(step.out, ignore_errors=True)
    check_rendering(step.inputs["cache"], step.inputs["teacher"], settings["chat"])
    # Results carry the seed that the student was trained with, so that rows of several runs can be put together.
    seed = read_json(step.inputs["release"] / "release.json")["seed"]
    student = subject("student", step.inputs, seed)
    measure(student, step.inputs["cache"], step.out / "student", settings, step.resources["trainer"]["threads"])

    records = select(read_records(step.inputs["cache"], "heldout"), settings["heldout"])
    folders = {
        "teacher": step.inputs["eval-teacher"],
        "init": step.inputs["eval-init"],
        "student": step.out / "student",
    }
    measured = {name: Measured.read(folder) for name, folder in folders.items()}
    scored = {name: one for name, one in measured.items() if one.items}
    renderer = ChatRenderer(load_tokenizer(student.folder), **settings["chat"])
    counted = counting_models(renderer, read_records(step.inputs["cache"], "train"), records)

    interval = {"resamples": settings["bootstrap"], "confidence": settings["confidence"], "seed": step.seed}
    items = item_lines(scored, counted, records)
    retention = retention_lines(scored)
    write_json(
        step.out / "eval.json",
        {
            "rows": [r | {"seed": seed} for one in measured.values() for r in one.scores["rows"]]
            + _counting_rows(counted, items, records, seed),
            "pairs": fidelity_pairs(items, records, interval) + retention_pairs(retention, interval),
            "calibration": {name: one.scores["calibration"] for name, one in scored.items()},
            "entropy": {name: one.scores["entropy"] for name, one in scored.items() if "entropy" in one.scores},
            "commands": scored["student"].scores["commands"],
            "precision": settings["precision"],
            "heldout": {"records": len(records), "bytes": sum(line["bytes"] for line in items)},
            "generation": {"prompts": len(scored["student"].generations), "max_new_tokens": settings["max_new_tokens"]},
            "notes": list(dict.fromkeys(note for one in measured.values() for note in one.scores["notes"])),
        },
    )
    write_lines(step.out / "items.jsonl", items)
    write_lines(step.out / "retention.jsonl", retention)
    write_lines(step.out / "generations.jsonl", side_by_side(scored, {record.id: record for record in records}))


def _counting_rows(
    counted: Mapping[str, Any], items: Sequence[Mapping[str, Any]], records: Sequence[Record], seed: int
) -> list[dict[str, Any]]:
    text_bytes = [line["bytes"] for line in items]
    return [
        one
        for model, bits in counted.items()
        for one in sliced(
            partial(row, model=model, seed=seed), {"bits_per_byte": bits_ratio(list(bits), text_bytes)}, records
        )
    ]
