"""The cache's records in the student's tokens: rendered once into a memory-mapped Arrow table, reused while nothing
changed.

One row per record, in the cache's order: tokens, mask, and what losses and curricula ask of a record. Nothing is cut
and nothing is left out, so the table does not depend on the length limit of a fit.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from rich.progress import track

from dante.cache import Record, read_records
from dante.cache.records.reader import Policy, shard_paths
from dante.data.spans import ReadByOther, read_by_other, spans_of
from dante.errors import DanteError
from dante.text.chat import FIXED_DATE, ChatRenderer, Rendered
from dante.text.rendering import Renderer
from dante.text.tokens.answer_ends import answer_token_ends

# Raised when the meaning of a column changes, so that old tables are not read.
TABLE_VERSION = 5
# Tokenised in one call: more gain nothing.
RECORDS_PER_BATCH = 256
# A record's numbers that losses may ask for; null in the cache becomes NaN here.
RECORD_FIELDS = ("output_entropy", "output_entropy_upper", "self_consistency", "difficulty_score")
FEATURES = Features(
    {
        "id": Value("string"),
        "input_ids": List(Value("int32")),
        "supervised": List(Value("bool")),
        "tokens": Value("int64"),
        "supervised_tokens": Value("int64"),
        "answer_tokens": Value("int64"),  # with the end of the turn, whether they are targets or not
        "answer_bytes": Value("int64"),
        "prompt_tokens": Value("int64"),  # before the answer
        "teacher_tokens": Value("int64"),  # the answer in the teacher's tokens; 0: not recorded
        "prefix_bytes": Value("int64"),  # of the answer, given to the teacher
        # Where a loss reads spans, else empty: the span of each supervised token (-1: none), its likelihood.
        "span": List(Value("int32")),
        "span_likelihood": List(Value("float64")),
        # Where a loss has the teacher read its own tokens, else empty: these, how many there are and before the answer,
        # the span of each of the answer's, and the span of each supervised token.
        "read_ids": List(Value("int32")),
        "read_tokens": Value("int64"),
        "read_prompt": Value("int64"),
        "read_span": List(Value("int32")),
        "shared_span": List(Value("int32")),
        **{name: Value("float64") for name in RECORD_FIELDS},
    }
)


@dataclass(frozen=True)
class Wanted:
    """What a fit wants of its table besides tokens and mask.

    Attributes:
        mask_prefix: the beginning of an answer that was given to the teacher is no target.
        spans: the spans of each answer, and the teacher's likelihood of them.
        reader: of a teacher that reads the records in its own tokens; None: none does.
    """

    mask_prefix: bool = False
    spans: bool = False
    reader: ChatRenderer | None = None


PLAIN = Wanted()


def tokenised_train_records(
    cache: Path, renderer: Renderer, directory: Path, policy: Policy, wanted: Wanted = PLAIN
) -> Dataset:
    """The table of the cache's training records, made if `directory` does not hold it yet.

    Training records are those of split `train`; in a cache without splits, all.

    Args:
        cache: a finished cache directory.
        renderer: the student's template and form.
        directory: where the table is kept; it appears whole or not at all, so a killed run leaves none that is cut.
        policy: what a bad record does: `error` or `skip`.
        wanted: besides.

    Raises:
        DanteError: a record that cannot be read or rendered exactly, named by its id.
    """
    path = directory / f"tokens-{table_key(cache, renderer, policy, wanted)[:16]}.arrow"
    if not path.is_file():
        write_table(read_records(cache, "train", policy), renderer, path, wanted)
    return Dataset.from_file(str(path))


def table_key(cache: Path, renderer: Renderer, policy: Policy, wanted: Wanted = PLAIN) -> str:
    """Hash of everything a table depends on: the shards' bytes, the tokenizer, the template and its variables."""
    digest = hashlib.sha256(json.dumps([TABLE_VERSION, FIXED_DATE, policy], sort_keys=True).encode())
    for shard in shard_paths(cache):
        with shard.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    _add_renderer(digest, renderer)
    for name in ("mask_prefix", "spans"):
        if getattr(wanted, name):
            digest.update(name.encode())
    if wanted.reader is not None:
        digest.update(b"reader")
        _add_renderer(digest, wanted.reader)
    return digest.hexdigest()


def _add_renderer(digest: Any, renderer: Renderer) -> None:
    tokenizer = renderer.tokenizer
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    digest.update(f"{type(renderer).__name__} {tokenizer.chat_template}".encode())
    digest.update(json.dumps(renderer.template_kwargs, sort_keys=True, default=str).encode())


def write_table(records: Sequence[Record], renderer: Renderer, path: Path, wanted: Wanted = PLAIN) -> None:
    """Renders `records` into an Arrow file; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")  # nodes may share the folder
    try:
        with ArrowWriter(path=str(partial), features=FEATURES) as writer:
            starts = range(0, len(records), RECORDS_PER_BATCH)
            for start in track(starts, description="tokenising records", transient=True, disable=len(starts) < 10):
                batch = rows(records[start : start + RECORDS_PER_BATCH], renderer, wanted)
                writer.write_batch({name: [item[name] for item in batch] for name in FEATURES})
            writer.finalize()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def rows(records: Sequence[Record], renderer: Renderer, wanted: Wanted = PLAIN) -> list[dict[str, Any]]:
    """Records as rows of the table, tokenised together.

    Raises:
        DanteError: a record cannot be rendered exactly; the message names the first one.
    """
    try:
        rendered = renderer.render_many([(record.prompt, record.teacher_text) for record in records])
    except DanteError:
        return [row(record, renderer, wanted) for record in records]  # which raises again, with the name
    return [row(record, renderer, wanted, one) for record, one in zip(records, rendered, strict=True)]


def row(record: Record, renderer: Renderer, wanted: Wanted = PLAIN, rendered: Rendered | None = None) -> dict[str, Any]:
    """One record as a row of the table.

    Args:
        record: of the cache.
        renderer: the student's template and form.
        wanted: besides tokens and mask.
        rendered: the record, where it has been rendered before.

    Raises:
        DanteError: the record cannot be rendered exactly, or lacks what is wanted; the message names it.
    """
    try:
        if rendered is None:
            rendered = renderer.render(record.prompt, record.teacher_text)
        return _row(record, rendered, renderer, wanted)
    except DanteError as error:
        where = f"record {record.id}" + (f", {error.where}" if error.where else "")
        raise DanteError(error.what, where=where, allowed=error.allowed, fix=error.fix) from error


def _row(record: Record, rendered: Rendered, renderer: Renderer, wanted: Wanted) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in RECORD_FIELDS}
    prompt_tokens, answer_tokens = int(np.argmax(rendered.supervised)), sum(rendered.supervised)
    whole = rendered
    if wanted.mask_prefix and record.prefix_bytes:
        rendered = _without_prefix(record, rendered, renderer)
    targets = [target for target, answer in zip(rendered.supervised, whole.supervised, strict=True) if answer]
    span, likelihood = np.zeros(0, dtype=np.int64), np.zeros(0)
    if wanted.spans:
        span, likelihood = spans_of(record, whole, renderer.tokenizer, targets)
    read = ReadByOther([], 0, span[:0], span[:0])
    if wanted.reader is not None:
        read = read_by_other(record, whole, renderer.tokenizer, wanted.reader, targets)
    return {
        "id": record.id,
        "input_ids": np.array(rendered.input_ids, dtype=np.int32),
        "supervised": np.array(rendered.supervised),
        "tokens": len(rendered.input_ids),
        "supervised_tokens": sum(rendered.supervised),
        "answer_tokens": answer_tokens,
        "answer_bytes": rendered.answer_bytes,
        "prompt_tokens": prompt_tokens,
        "teacher_tokens": len(record.token_ends or ()),
        "prefix_bytes": record.prefix_bytes or 0,
        "span": span.astype(np.int32),
        "span_likelihood": likelihood,
        "read_ids": np.array(read.input_ids, dtype=np.int32),
        "read_tokens": len(read.input_ids),
        "read_prompt": read.prompt_tokens,
        "read_span": read.their_span.astype(np.int32),
        "shared_span": read.span.astype(np.int32),
        **{name: float("nan") if value is None else float(value) for name, value in values.items()},
    }


def _without_prefix(record: Record, rendered: Rendered, renderer: Renderer) -> Rendered:
    """Only tokens that the teacher wrote are targets; one that holds bytes of both is the teacher's."""
    given = record.prefix_bytes or 0
    ends = [0, *answer_token_ends(renderer.tokenizer, rendered, record.teacher_text)]
    # A token that ends where the one before it did holds a part of a character that a later one completes.
    written = (end > given or end == before == given for before, end in zip(ends, ends[1:], strict=False))
    targets = iter([*written, True])  # the end of the turn
    return replace(rendered, supervised=[target and next(targets) for target in rendered.supervised])


def rows_of(table: Dataset, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of a table in the given order, tokens and masks as numpy arrays."""
    columns = table.with_format("numpy")[list(indices)] if len(indices) else {}
    for number in range(len(indices)):
        yield {name: values[number] for name, values in columns.items()}


def column(table: Dataset, name: str) -> np.ndarray:
    """A scalar column as one array."""
    return table.data.column(name).to_numpy()


def names_of(table: Dataset, indices: Iterable[int]) -> list[str]:
    """Record ids of some rows."""
    return [table.data.column("id")[int(index)].as_py() for index in indices]
