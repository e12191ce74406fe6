"""Everything that is measured of one model, written into one directory; teacher, initialisation and student alike.

    scores.json        rows, calibration, distribution of the entropy, notes, and a hash of the tokens that were scored
    items.jsonl        per held-out record: bytes, bits, tokens, hits, entropy, and beside a teacher KL and agreement
    validation.jsonl   the same of the validation records, where asked for
    retention.jsonl    per retention text: bytes, bits
    generations.jsonl  greedy answers
    continuation/      four-way choices as a task of lm-evaluation-harness, and choices.jsonl, what the model picked
    reference.safetensors   a teacher's hidden states at the scored positions: what makes KL exact and cheap later

A directory holds nothing of another model, so a teacher's and an initialisation's are shared by all runs with them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dante.cache import Record, read_records
from dante.errors import DanteError
from dante.evaluate import items, rows
from dante.evaluate.progress import Bars
from dante.evaluate.suites.continuation.choices import OPTIONS, ChoiceSet, choice_items
from dante.evaluate.suites.continuation.harness import TASK, ChoiceResult, run_choices, write_task
from dante.evaluate.suites.generations import Generation, choose, greedy
from dante.evaluate.suites.heldout.calibration import Calibration, calibration
from dante.evaluate.suites.heldout.entropy import entropy_histogram
from dante.evaluate.suites.heldout.fidelity import Scores, plain, score
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.scoring import Reference
from dante.run.parts import build
from dante.run.precision import dtype_of
from dante.statistics.ratio import Ratio, mean
from dante.students.load import load_student
from dante.system.files import read_json, write_json
from dante.system.jsonl import write_lines
from dante.system.threads import use_threads
from dante.testsets.retention import retention_texts
from dante.text.chat import ChatRenderer, Rendered
from dante.text.tokenizer import load_tokenizer

HIDDEN = "reference.safetensors"
# Options in a forward pass of lm-eval, which pads them to the longest.
CHOICE_BATCH = 8


@dataclass(frozen=True)
class Subject:
    """The model that is measured, and what it is measured beside.

    Attributes:
        name: `teacher`, `init` or `student`.
        folder: Hugging Face folder.
        seed: that results carry.
        teacher_scores: the teacher's finished directory of scores, or None.
        teacher_folder: its Hugging Face folder, or None.
    """

    name: str
    folder: Path
    seed: int
    teacher_scores: Path | None = None
    teacher_folder: Path | None = None


def measure(subject: Subject, cache: Path, out: Path, settings: dict[str, Any], threads: int | None) -> None:
    """Measure one model and write its directory.

    Args:
        subject: the model.
        cache: finished cache directory.
        out: directory to write.
        settings: `precision`, `heldout`, `validation`, `retention`, `generations`, `max_new_tokens`, `loop`, `bins`,
            `choices`, `choice_characters`, `chat`, `seed`; see conf/eval.
        threads: CPU threads; None: all.
    """
    use_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    model, renderer = _load(subject.folder, settings["precision"], settings["chat"])
    records = items.select(read_records(cache, "heldout"), settings["heldout"])
    rendered = [renderer.render(record.prompt, record.teacher_text) for record in records]
    tokens = tokens_hash(renderer, rendered)
    reference, notes = _reference(subject, tokens, model, settings["precision"])
    found: list[dict[str, Any]] = []
    commands: dict[str, str] = {}
    with Bars(subject.name) as bars:
        scores = score(
            model,
            rendered,
            bars.add("held-out answers", len(records)),
            reference=reference,
            keep_hidden=subject.name == "teacher",
        )
        del reference
        calibrated = calibration(
            scores.confidence, scores.correct, scores.record, bins=settings["bins"], seed=settings["seed"]
        )
        row = partial(rows.row, model=subject.name, seed=subject.seed)
        found += rows.sliced(row, scores.ratios(), records) + [_ece_row(row, calibrated, len(records))]
        write_lines(out / "items.jsonl", _items(records, scores))
        if settings["validation"]:
            write_lines(out / "validation.jsonl", _validation(model, renderer, cache, bars))
        if settings["retention"]:
            retained = _retention(model, renderer, bars)
            found += rows.retention_rows(row, retained)
            write_lines(out / "retention.jsonl", retained)
        if settings["generations"]:
            asked = choose(records, settings["generations"])
            advance = bars.add("greedy answers", len(asked))
            loop = build(settings["loop"])
            answers = greedy(model, renderer, [r.prompt for r in asked], settings["max_new_tokens"], loop, advance)
            found += _generation_rows(row, answers, asked, settings["max_new_tokens"])
            lines = [{"id": r.id} | asdict(answer) for r, answer in zip(asked, answers, strict=True)]
            write_lines(out / "generations.jsonl", lines)
        if settings["choices"]:
            try:
                choices = choice_items(
                    records,
                    read_records(cache, "train"),
                    settings["choices"],
                    settings["seed"],
                    characters=settings["choice_characters"],
                )
            except DanteError as error:  # a cache too small or too uniform for them can still be measured otherwise
                notes.append(f"No four-way choices: {error.what}.")
            else:
                chosen = _choices(subject, choices, out, settings, bars)
                found += chosen.rows(subject.name, subject.seed)
                commands[TASK] = chosen.command
                write_lines(out / "choices.jsonl", [asdict(answer) for answer in chosen.answers])
    if scores.hidden is not None:
        save_file({"hidden": scores.hidden.contiguous()}, out / HIDDEN)
    write_json(
        out / "scores.json",
        {
            "model": subject.name,
            "rows": found,
            "calibration": asdict(calibrated),
            "entropy": entropy_histogram(scores),
            "notes": notes,
            "commands": commands,
            "tokens_sha256": tokens,
            "precision": settings["precision"],
        },
    )


def tokens_hash(renderer: ChatRenderer, rendered: Sequence[Rendered]) -> str:
    """Identity of the scored tokens and their vocabulary: models of equal hash can be compared token by token."""
    digest = hashlib.sha256(json.dumps(sorted(renderer.tokenizer.get_vocab().items())).encode())
    for item in rendered:
        digest.update(np.array(item.input_ids, dtype=np.int64).tobytes() + np.array(item.supervised).tobytes())
    return digest.hexdigest()


def _load(folder: Path, precision: str, chat: dict[str, Any]) -> tuple[Any, ChatRenderer]:
    model = torch.nn.Module.to(load_student(folder, dtype=dtype_of(precision)), _device())
    return model.eval(), ChatRenderer(load_tokenizer(folder), **chat)


def _reference(subject: Subject, tokens: str, model: Any, precision: str) -> tuple[Reference | None, list[str]]:
    """The teacher's side of the same tokens where there is one, and a note where there is none."""
    if subject.teacher_scores is None or not (subject.teacher_scores / HIDDEN).is_file():
        return None, []
    theirs = read_json(subject.teacher_scores / "scores.json")
    assert subject.teacher_folder is not None
    if theirs["tokens_sha256"] != tokens:
        note = "teacher and student have different vocabularies or templates: no KL divergence and no agreement"
        return None, [note]
    teacher = load_student(subject.teacher_folder, dtype=dtype_of(precision))
    head = Head.of(torch.nn.Module.to(teacher, model.device))
    if head.weight.shape[0] != Head.of(model).weight.shape[0]:
        return None, ["teacher and student have vocabularies of other sizes: no KL divergence and no agreement"]
    return Reference(head, load_file(subject.teacher_scores / HIDDEN)["hidden"]), []


def _items(records: Sequence[Record], scores: Scores) -> list[dict[str, Any]]:
    bits, tokens, correct = scores.bits, scores.tokens, scores.per_item(scores.correct)
    entropy = scores.per_item(scores.entropy)
    lines = []
    for index, record in enumerate(records):
        line = {
            "id": record.id,
            "domain": record.domain,
            "language": record.language,
            "text_sha256": items.text_hash(record),
            "bytes": int(scores.text_bytes[index]),
            "bits": float(bits[index]),
            "tokens": int(tokens[index]),
            "top1": int(correct[index]),
            "entropy_nats": float(entropy[index]),
        }
        lines.append(line)
    if scores.kl is not None and scores.agrees is not None:
        for line, kl, agrees in zip(lines, scores.per_item(scores.kl), scores.per_item(scores.agrees), strict=True):
            line |= {"kl_nats": float(kl), "agree": int(agrees)}
    return lines


def _validation(model: Any, renderer: ChatRenderer, cache: Path, bars: Bars) -> list[dict[str, Any]]:
    records = read_records(cache, "validation")
    rendered = [renderer.render(record.prompt, record.teacher_text) for record in records]
    scores = score(model, rendered, bars.add("validation answers", len(records)))
    return [
        {"id": record.id, "bytes": int(size), "bits": float(bits)}
        for record, size, bits in zip(records, scores.text_bytes, scores.bits, strict=True)
    ]


def _retention(model: Any, renderer: ChatRenderer, bars: Bars) -> list[dict[str, Any]]:
    texts = retention_texts()
    scores = score(model, [plain(renderer.tokenizer, t.text) for t in texts], bars.add("retention texts", len(texts)))
    return [
        {"id": text.id, "kind": text.kind, "name": text.name, "bytes": int(size), "bits": float(bits)}
        for text, size, bits in zip(texts, scores.text_bytes, scores.bits, strict=True)
    ]


def _choices(subject: Subject, asked: ChoiceSet, out: Path, settings: dict[str, Any], bars: Bars) -> ChoiceResult:
    write_task(out / TASK, asked.items)
    return run_choices(
        subject.folder,
        out / TASK,
        batch_size=CHOICE_BATCH,
        dtype=dtype_of(settings["precision"]),
        device=_device(),
        chat=settings["chat"],
        advance=bars.add("four-way choices", OPTIONS * len(asked.items)),
    )


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _ece_row(row: rows.Row, calibrated: Calibration, records: int) -> dict[str, Any]:
    decoding = f"teacher-forced, {len(calibrated.bins)} bins"
    return row(task="heldout", metric="ece", value=calibrated.ece, stderr=calibrated.stderr, n=records,
               decoding=decoding)  # fmt: skip


def _generation_rows(
    row: rows.Row, answers: Sequence[Generation], asked: Sequence[Record], limit: int
) -> list[dict[str, Any]]:
    written = np.array([len(answer.text.encode()) for answer in answers], dtype=np.float64)
    wanted = np.array([len(record.teacher_text.encode()) for record in asked], dtype=np.float64)
    measured = {
        "stop_share": mean(np.array([float(answer.stopped) for answer in answers])),
        "loop_share": mean(np.array([float(answer.looped) for answer in answers])),
        "repetition": mean(np.array([answer.repetition for answer in answers])),
        "length_ratio": Ratio(written, wanted),
    }
    return [
        rows.ratio_row(row, "generation", metric, ratio, f"greedy, max_new_tokens={limit}, loops ended")
        for metric, ratio in measured.items()
    ]
