"""Held-out answers of the teacher: bits per byte, hits, entropy, calibration and, beside a teacher, KL and agreement.

Further files in its folder: `reference.safetensors`, a teacher's hidden states at the scored positions (what makes KL
exact and cheap later), and `validation.jsonl`, bits of the validation answers, where asked for. Beside a teacher of the
same vocabulary a few answers are kept token by token, see `dante.evaluate.suites.heldout.tokens`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dante.cache import Record
from dante.errors import DanteError
from dante.evaluate import items
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import Item, Measurement, Metric, Stated, Suite
from dante.evaluate.suites.heldout.agreement import agreement
from dante.evaluate.suites.heldout.calibration import calibration
from dante.evaluate.suites.heldout.counting import counting_models
from dante.evaluate.suites.heldout.entropy import entropy_histogram
from dante.evaluate.suites.heldout.tokens import token_lines
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.scoring import Reference
from dante.students.load import load_student
from dante.students.scoring import Scores, score
from dante.system.files import read_json
from dante.system.jsonl import write_lines
from dante.text.chat import ChatRenderer, Rendered

HIDDEN = "reference.safetensors"
_FORCED = "teacher-forced"


class Heldout(Suite):
    """How a model sees the teacher's held-out answers.

    Args:
        bins: of the calibration error.
        validation: score the student on the validation records, too: what a learning rate is chosen on.
        shown: answers that are kept token by token, beside a teacher; the first ones in the order of their ids' hashes,
            so the same for every model and every run that shares the cache. 0: none.
        name: of the suite.
    """

    heading = "held-out answers"
    counts = "answers"
    # What training bought, what is left to the teacher, what counting alone would give.
    contrasts = (
        ("student", "init"),
        ("student", "teacher"),
        ("student", "trigram"),
        ("student", "unigram"),
        ("init", "teacher"),
    )

    def __init__(self, bins: int, validation: bool, shown: int, name: str = "") -> None:
        super().__init__(name)
        if shown < 0:
            raise DanteError(
                f"{shown} answers",
                where=f"eval.suites.{self.name}.shown",
                allowed="a whole number from 0",
                fix=f"eval.suites.{self.name}.shown=0",
            )
        self.bins, self.validation, self.shown = bins, validation, shown
        metrics = {
            "bits_per_byte": Metric("bits per byte", better="lower", meaning="what it needs to write the text down"),
            "top1_accuracy": Metric("top-1 accuracy", True, "higher", "the answer's token is the most likely one"),
            "entropy_nats": Metric("entropy", meaning="of its next-token distribution, nats per token"),
            "teacher_agreement": Metric(
                "agreement with the teacher", True, "higher", "same most likely token as the teacher"
            ),
            "kl_nats": Metric("KL to the teacher", better="lower", meaning="KL(teacher ‖ model), nats per token"),
            "ece": Metric("calibration error", better="lower", meaning="ECE of the most likely token"),
        }
        decoding = {key: f"{_FORCED}, {bins} bins" if key == "ece" else _FORCED for key in metrics}
        self.metrics = {key: Metric(**{**vars(metric), "decoding": decoding[key]}) for key, metric in metrics.items()}

    def measure(self, subject: Subject, out: Path, bars: Bars) -> Measurement:
        records, renderer = subject.records, subject.renderer
        rendered = [renderer.render(record.prompt, record.teacher_text) for record in records]
        tokens = tokens_hash(renderer, rendered)
        reference, notes = _reference(subject, self.name, tokens)
        scores = score(
            subject.model,
            rendered,
            bars.add("held-out answers", len(records)),
            reference=reference,
            keep_hidden=subject.is_teacher,
        )
        del reference
        if scores.hidden is not None:
            save_file({"hidden": scores.hidden.contiguous()}, out / HIDDEN)
        calibrated = calibration(
            scores.confidence, scores.correct, scores.record, bins=self.bins, seed=subject.draw_seed
        )
        beside = scores.beside
        tokens_shown: list[dict[str, Any]] = []
        if beside is not None:
            first = slice(self.shown)
            tokens_shown = list(token_lines(scores, beside, records[first], rendered[first], renderer.tokenizer))
        others: dict[str, list[Item]] = {}
        if subject.is_student:
            others = _counted(renderer, subject, scores)
            if self.validation:
                write_lines(out / "validation.jsonl", _validation(subject, bars))
        return Measurement(
            items=_items(records, {name: (r.numerator, r.denominator) for name, r in scores.ratios().items()}),
            slices=list(items.slices(records)),
            stated=[Stated("ece", calibrated.ece, calibrated.stderr, len(records))],
            others=others,
            tokens=tokens_shown,
            details={
                "calibration": asdict(calibrated),
                "entropy": entropy_histogram(scores),
                **({"agreement": agreement(scores, beside)} if beside is not None else {}),
                "tokens_sha256": tokens,
                "bytes": int(scores.text_bytes.sum()),
            },
            notes=notes,
        )


def tokens_hash(renderer: ChatRenderer, rendered: Sequence[Rendered]) -> str:
    """Identity of the scored tokens and their vocabulary: models of equal hash can be compared token by token."""
    digest = hashlib.sha256(json.dumps(sorted(renderer.tokenizer.get_vocab().items())).encode())
    for item in rendered:
        digest.update(np.array(item.input_ids, dtype=np.int64).tobytes() + np.array(item.supervised).tobytes())
    return digest.hexdigest()


def _reference(subject: Subject, suite: str, tokens: str) -> tuple[Reference | None, list[str]]:
    """The teacher's side of the same tokens where there is one, and a note where there is none."""
    scores_folder = subject.teacher_scores / suite if subject.teacher_scores is not None else None
    if scores_folder is None or not (scores_folder / HIDDEN).is_file():
        return None, []
    assert subject.teacher_folder is not None
    if read_json(scores_folder / "suite.json")["details"]["tokens_sha256"] != tokens:
        note = "teacher and student have different vocabularies or templates: no KL divergence and no agreement"
        return None, [note]
    teacher = load_student(subject.teacher_folder, dtype=subject.dtype)
    head = Head.of(torch.nn.Module.to(teacher, subject.model.device))
    if head.weight.shape[0] != Head.of(subject.model).weight.shape[0]:
        return None, ["teacher and student have vocabularies of other sizes: no KL divergence and no agreement"]
    return Reference(head, load_file(scores_folder / HIDDEN)["hidden"]), []


def _items(records: Sequence[Record], parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[Item]:
    """One item per record from the numerators and denominators of every quantity, and the slices it belongs to."""
    slices: list[list[str]] = [[] for _ in records]
    for part, rows in items.slices(records).items():
        for row in rows:
            slices[row].append(part)
    return [
        Item(
            record.id,
            items.text_hash(record),
            {name: (float(above[row]), float(below[row])) for name, (above, below) in parts.items()},
            tuple(slices[row]),
        )
        for row, record in enumerate(records)
    ]


def _counted(renderer: ChatRenderer, subject: Subject, scores: Scores) -> dict[str, list[Item]]:
    """What counting the same train answers would have given, in the student's tokens."""
    counted = counting_models(renderer, subject.read("train"), subject.records)
    sizes = scores.text_bytes.astype(np.float64)
    return {model: _items(subject.records, {"bits_per_byte": (bits, sizes)}) for model, bits in counted.items()}


def _validation(subject: Subject, bars: Bars) -> list[dict[str, Any]]:
    records = subject.read("validation")
    rendered = [subject.renderer.render(record.prompt, record.teacher_text) for record in records]
    scores = score(subject.model, rendered, bars.add("validation answers", len(records)))
    return [
        {"id": record.id, "bytes": int(size), "bits": float(bits)}
        for record, size, bits in zip(records, scores.text_bytes, scores.bits, strict=True)
    ]
