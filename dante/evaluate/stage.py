"""Stage `eval`: what the student is worth, beside its initialisation, its teacher and two counting models.

Writes `eval.json` (`rows`, `pairs`, and how they were made), `items.jsonl` (one line per held-out record with every
model's bits) and `generations.jsonl` (a few greedy answers side by side). A restart begins anew.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dante import console
from dante.cache import Record, read_records
from dante.errors import DanteError
from dante.evaluate import heldout, rows
from dante.evaluate.fidelity import Scores, score
from dante.evaluate.generate import Generation, choose, greedy, side_by_side
from dante.evaluate.ngram import Ngrams, Trigram, Unigram, collect
from dante.pipeline import Step
from dante.students.chat import ChatRenderer, Rendered
from dante.students.load import load_student, load_tokenizer
from dante.teachers.handle import load_teacher

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def run(step: Step) -> None:
    """Evaluates and writes `eval.json`, `items.jsonl` and `generations.jsonl` into `step.out`.

    Settings: `eval.heldout` (most records to score, or None for all), `eval.generations` (side-by-side answers),
    `eval.max_new_tokens` (limit of each), `eval.bootstrap` (resamples), `eval.confidence` (of the intervals),
    `eval.precision` (`fp32` or `bf16`: weights and activations of every model; sums are float64), `chat` (extra
    variables of the students' chat template). Resources: `trainer.threads` (CPU threads, None: all).

    Raises:
        DanteError: no held-out or no train records, or an unknown precision.
    """
    settings, chat = step.settings["eval"], step.settings["chat"]
    precision = settings["precision"]
    if precision not in PRECISIONS:
        raise DanteError(f"unknown precision {precision!r}", where="eval.precision", allowed="fp32, bf16")
    torch.set_num_threads(step.resources["trainer"]["threads"] or torch.get_num_threads())
    # Results carry the seed that the student was trained with, so that rows of several runs can be put together.
    trained_seed = json.loads((step.inputs["release"] / "release.json").read_text(encoding="utf-8"))["seed"]
    cache = step.inputs["cache"]
    records = heldout.select(read_records(cache, split="heldout"), settings["heldout"])
    prompts = choose(records, settings["generations"])
    folders, notes = model_folders(step.inputs)

    scores: dict[str, Scores] = {}
    answers: dict[str, list[Generation]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console.screen()) as progress:
        for name, folder in folders.items():
            model, renderer = _load(folder, PRECISIONS[precision], chat)
            bar = progress.add_task(f"{name}: bits per byte", total=len(records))
            rendered = _render(renderer, records)
            scores[name] = score(model, rendered, partial(progress.advance, bar))
            if name != "teacher":  # the teacher's side is the cached text that the student was asked to learn
                bar = progress.add_task(f"{name}: {len(prompts)} answers", total=len(prompts))
                asked = [record.prompt for record in prompts]
                answers[name] = greedy(model, renderer, asked, settings["max_new_tokens"])
                progress.advance(bar, len(prompts))
            del model
        bar = progress.add_task("unigram, trigram: fit and score", total=1)
        scores |= counting_models(
            ChatRenderer(load_tokenizer(folders["student"]), **chat), read_records(cache, split="train"), records
        )
        progress.advance(bar)

    intervals = {"resamples": settings["bootstrap"], "confidence": settings["confidence"], "seed": step.seed}
    result = {
        "rows": rows.fidelity_rows(scores, records, trained_seed)
        + rows.stop_rows(answers, settings["max_new_tokens"], trained_seed),
        "pairs": rows.fidelity_pairs(scores, records, **intervals),
        "precision": precision,
        "heldout": {"records": len(records), "bytes": int(scores["student"].text_bytes.sum())},
        "notes": notes,
    }
    step.out.mkdir(parents=True, exist_ok=True)
    (step.out / "eval.json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    _write_lines(step.out / "items.jsonl", rows.item_lines(scores, records))
    _write_lines(step.out / "generations.jsonl", side_by_side(prompts, answers))


def model_folders(inputs: dict[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Folder of every model that can be scored here, and a note about the teacher when it cannot be."""
    teacher = load_teacher(inputs["teacher"])
    folders = {"init": inputs["init"] / "model", "student": inputs["release"]}
    if not teacher.local:
        return folders, [f"The teacher {teacher.name} has no weights here, so it has no bits per byte of its own."]
    if not teacher.chat_template:
        return folders, [f"The teacher {teacher.name} has no chat template, so it has no bits per byte of its own."]
    return {"teacher": Path(teacher.location(inputs["teacher"]))} | folders, []


def counting_models(renderer: ChatRenderer, train: Sequence[Record], records: Sequence[Record]) -> dict[str, Scores]:
    """Unigram and trigram in the student's tokens: fitted on the train answers, asked for the same held-out tokens."""
    vocab = len(renderer.tokenizer)
    rendered = _render(renderer, records)
    fitted = _ngrams(_render(renderer, train), vocab)
    wanted = _ngrams(rendered, vocab)
    text_bytes = np.array([item.answer_bytes for item in rendered], dtype=np.int64)
    tokens = np.bincount(wanted.record, minlength=len(rendered))

    def scored(log_p: Float64[np.ndarray, "tokens"]) -> Scores:
        bits = np.bincount(wanted.record, weights=-log_p / np.log(2), minlength=len(rendered))
        return Scores(bits=bits, text_bytes=text_bytes, tokens=tokens)

    unigram, trigram = Unigram(fitted, vocab), Trigram(fitted, vocab)
    return {"unigram": scored(unigram.log_p(wanted)), "trigram": scored(trigram.log_p(wanted))}


def _load(folder: Path, dtype: torch.dtype, chat: dict[str, Any]) -> tuple[Any, ChatRenderer]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch.nn.Module.to(load_student(folder, dtype=dtype), device)
    return model.eval(), ChatRenderer(load_tokenizer(folder), **chat)


def _render(renderer: ChatRenderer, records: Sequence[Record]) -> list[Rendered]:
    return [renderer.render(record.prompt, record.teacher_text) for record in records]


def _ngrams(rendered: Sequence[Rendered], vocab: int) -> Ngrams:
    return collect([(item.input_ids, item.supervised) for item in rendered], vocab)


def _write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
