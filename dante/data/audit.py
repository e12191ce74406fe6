"""A student and a cache looked at together, before GPU time is spent: masks, stop tokens, lengths, tokenizers.

Every record is rendered as a fit would render it. What would go wrong in silence is looked for on purpose: an
end-of-turn token outside the mask, a student that never stops because generation waits for another token, answers that
hold the teacher's special tokens as text, records that are longer than a pack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.progress import track

from dante.cache.filters.plain import TRUNCATED
from dante.cache.records.index import IndexedCache
from dante.cache.records.record import Record
from dante.cache.records.statistics import labels
from dante.data.table import RECORDS_PER_BATCH, row, rows
from dante.errors import DanteError
from dante.text.chat import ChatRenderer
from dante.text.stops import Model, findings

NAMED = 5


@dataclass(frozen=True)
class Example:
    """One conversation in pieces: (text, kind), kind `prompt`, `target`, `end` (of turn) or `rest`."""

    record: Record
    segments: list[tuple[str, str]]


@dataclass
class Audit:
    """What was found.

    Attributes:
        problems: what would spoil a fit. notes: what one should know.
        tokens: of the whole conversation, per record that can be rendered.
        compression: per language and for `all`: (answer bytes, student's tokens, teacher's tokens or None).
        refused: records that cannot be rendered exactly.
        closed: records whose mask is one span that ends with the end-of-turn token.
    """

    student: Model
    teacher: Model | None
    records: int = 0
    train: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    compression: dict[str, tuple[int, int, int | None]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    refused: int = 0
    closed: int = 0


def audit(
    cache: IndexedCache,
    student: Model,
    teacher: Model | None,
    max_tokens: int | None,
    steps: int | None,
    batch_records: int | None,
    examples: int,
) -> Audit:
    """Renders every record of `cache` for `student` and says what was found.

    Args:
        cache: with or without splits.
        student: who is to learn.
        teacher: who answered; None: its tokens are counted where records say where they end.
        max_tokens: pack length of the fit, or None.
        steps: optimizer steps of the fit, or None.
        batch_records: records per optimizer step, or None.
        examples: how many conversations to show, spread over the cache.
    """
    assert student.renderer is not None
    report = Audit(student, teacher, len(cache), labels(cache.columns, "split").count("train"))
    for role, model in (("student", student), ("teacher", teacher)):
        if model is not None:
            problems, notes = findings(model, role)
            report.problems += problems
            report.notes += notes
    _records(report, cache, student.renderer)
    _lengths(report, max_tokens)
    _epochs(report, steps, batch_records)
    reasons = labels(cache.columns, "finish_reason")
    cut = sum(reason in TRUNCATED for reason in reasons)
    if cut:
        report.notes.append(
            f"{cut:,} answers ({cut / len(reasons):.1%}) were cut off (finish reason length or repetition)"
        )
    for index in np.unique(np.linspace(0, len(cache) - 1, min(examples, len(cache))).round().astype(int)):
        record = cache.record(int(index))
        try:
            report.examples.append(Example(record, segments(student.renderer, record)))
        except DanteError:
            continue  # counted among the refused
    return report


def segments(renderer: ChatRenderer, record: Record) -> list[tuple[str, str]]:
    """A conversation as text, cut where tokens end: the prompt whole, every target alone, then the rest."""
    rendered = renderer.render(record.prompt, record.teacher_text)
    ids, start = rendered.input_ids, rendered.supervised.index(True)
    end = len(ids) - rendered.supervised[::-1].index(True)

    def decoded(count: int) -> str:
        text = renderer.tokenizer.decode(ids[:count], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    whole, written = decoded(len(ids)), decoded(start)
    pieces = [(written, "prompt")]
    for count in range(start + 1, end + 1):
        text = decoded(count)
        if whole.startswith(text) and len(text) > len(written):  # otherwise the token ends inside a character
            kind = "end" if count == end else "target"
            pieces.append((text[len(written) :], kind))
            written = text
    return [*pieces, (whole[len(written) :], "rest")]


def _records(report: Audit, cache: IndexedCache, renderer: ChatRenderer) -> None:
    """Renders everything: lengths, masks, tokens per byte, and special tokens of the teacher that stand as text."""
    languages = labels(cache.columns, "language")
    special = set(report.teacher.tokenizer.all_special_tokens) if report.teacher else set()
    lengths: list[int] = []
    leaked: list[str] = []
    refused: list[str] = []
    open_turns: list[str] = []
    starts = range(0, len(cache), RECORDS_PER_BATCH)
    for start in track(starts, description="rendering records", transient=True, disable=len(starts) < 10):
        records = [cache.record(index) for index in range(start, min(start + RECORDS_PER_BATCH, len(cache)))]
        leaked += [r.id for r in records if any(token in r.teacher_text for token in special)]
        rendered = _rendered(records, renderer, refused)
        teacher_counts = _teacher_tokens(report.teacher, [record for _, record, _ in rendered])
        for (offset, record, item), teacher_tokens in zip(rendered, teacher_counts, strict=True):
            targets = np.flatnonzero(item["supervised"])
            lengths.append(item["tokens"])
            if item["input_ids"][targets[-1]] != renderer.end_of_turn_id or targets[-1] - targets[0] + 1 != len(
                targets
            ):
                open_turns.append(record.id)
            for group in ("all", languages[start + offset]):
                _add(report.compression, group, item["answer_bytes"], len(targets) - 1, teacher_tokens)
    report.tokens = np.array(lengths, dtype=np.int64)
    report.refused, report.closed = len(refused), len(lengths) - len(open_turns)
    for what, named in (
        ("records cannot be rendered exactly", refused),
        ("records do not end their mask with the end-of-turn token", open_turns),
        ("answers hold a special token of the teacher as text", leaked),
    ):
        if named:
            more = ", …" if len(named) > NAMED else ""
            report.problems.append(f"{len(named):,} {what}: {', '.join(named[:NAMED])}{more}")


def _rendered(
    records: list[Record], renderer: ChatRenderer, refused: list[str]
) -> list[tuple[int, Record, dict[str, Any]]]:
    """(place among `records`, record, row) of those that can be rendered; the others are named in `refused`."""
    try:
        return [(*pair, item) for pair, item in zip(enumerate(records), rows(records, renderer), strict=True)]
    except DanteError:
        rendered = []
    for offset, record in enumerate(records):
        try:
            rendered.append((offset, record, row(record, renderer)))
        except DanteError as error:
            refused.append(f"{record.id} ({error.what})")
    return rendered


def _teacher_tokens(teacher: Model | None, records: list[Record]) -> list[int | None]:
    if teacher is None:
        return [None if record.token_ends is None else len(record.token_ends) for record in records]
    texts = [record.teacher_text.strip() for record in records]
    encoded = teacher.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    return [len(ids) for ids in encoded]


def _add(
    groups: dict[str, tuple[int, int, int | None]], name: str, size: int, tokens: int, teacher_tokens: int | None
) -> None:
    before = groups.get(name, (0, 0, 0))
    teacher_total = None if before[2] is None or teacher_tokens is None else before[2] + teacher_tokens
    groups[name] = (before[0] + size, before[1] + tokens, teacher_total)


def _lengths(report: Audit, max_tokens: int | None) -> None:
    if max_tokens is None or not len(report.tokens):
        return
    count = int((report.tokens > max_tokens).sum())
    if count:
        report.problems.append(
            f"{count:,} records ({count / len(report.tokens):.1%}) are longer than a pack of {max_tokens:,} tokens "
            f"(the longest has {report.tokens.max():,}): fit.overlong decides whether they stop the fit or are left out"
        )


def _epochs(report: Audit, steps: int | None, batch_records: int | None) -> None:
    if steps is None or batch_records is None:
        return
    epochs = steps * batch_records / max(report.train, 1)
    report.notes.append(
        f"{steps:,} steps of {batch_records:,} records over {report.train:,} training records: {epochs:.2f} epochs"
        + ("; some records are never shown" if epochs < 1 else "")
    )
