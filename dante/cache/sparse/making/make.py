"""Sparse logits of a cache, made from beginning to end: by the command, and by a recipe's step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dante.cache.asked import asked_with
from dante.cache.generate.requests import Renderer
from dante.cache.records.manifest import FILE_NAME, load_manifest
from dante.cache.records.reader import read_records
from dante.cache.records.record import Record, Split, stable_hash
from dante.cache.sparse.files import Header
from dante.cache.sparse.making.build import build
from dante.cache.sparse.making.measure import refuse_unable, texts_of
from dante.cache.sparse.making.progress import Bar
from dante.cache.sparse.making.store import Store, opened
from dante.cache.sparse.sidecar import SparseLogits
from dante.errors import DanteError
from dante.models.pretrained import Source, read_config
from dante.teachers.engines.base import Engine
from dante.teachers.teacher import SOURCE, Teacher, load_teacher
from dante.text.chat import ChatRenderer

SAMPLE = 64  # records from which tokens are estimated


@dataclass(frozen=True)
class Order:
    """What is to be made.

    Attributes:
        cache: finished cache directory.
        teacher: finished teacher step: the cache's own teacher.
        kind: `topk_tail` or `random_sampling`.
        size: K, or draws.
        seed: of the draws.
        split: of the records; None: all.
        count: as many of them, chosen by a stable hash; None: all.
        batch_records: records per batch: what an interruption costs at most.
    """

    cache: Path
    teacher: Path
    kind: str
    size: int
    seed: int
    split: Split | None = "train"
    count: int | None = None
    batch_records: int = 32


def make(
    order: Order, engine: Engine, resources: Mapping[str, Any], out: Path, tell: Callable[[str], None]
) -> SparseLogits:
    """Makes what is missing in a folder.

    Args:
        order: what.
        engine: not yet open.
        resources: that it is opened with.
        out: folder of the files.
        tell: is given one line before the work.

    Raises:
        DanteError: another teacher's cache, an engine that cannot do what the kind needs, or files of another making.
    """
    teacher = load_teacher(order.teacher)
    _refuse_another_teacher(order, teacher)
    records = read_records(order.cache, order.split)
    wanted = sorted(records, key=lambda record: stable_hash(record.id))[: order.count]
    model = teacher.location(order.teacher)
    rendering = Renderer(model, teacher.revision, None, 0, asked_with(order.cache) or {})
    renderer = ChatRenderer(rendering.tokenizer, **rendering.chat)
    header = Header(
        kind=order.kind,
        size=order.size,
        vocabulary=vocabulary_of(engine, model, teacher.revision),
        teacher=teacher.sha256 or f"{teacher.model}@{teacher.revision}",
        tokenizer=stable_hash(rendering.identity()),
        seed=order.seed if order.kind == "random_sampling" else 0,
    )
    refuse_unable(engine, header)
    with opened(out, header, wanted) as store:
        tell(_plan(store, wanted, renderer, engine, order.batch_records))
        if store.missing:
            log = store.partial / "engine.log"
            with (
                engine.open(model, teacher.revision, dict(resources), log),
                Bar(header.kind, len(wanted), len(wanted) - len(store.missing)) as bar,
            ):
                build(store, wanted, engine, renderer, order.batch_records, bar)
        store.finish()
    return SparseLogits(out, header.kind)


def _refuse_another_teacher(order: Order, teacher: Teacher) -> None:
    if not (order.cache / FILE_NAME).is_file():
        return
    written = (load_manifest(order.cache).get("teacher") or {}).get("sha256")
    if written and written != teacher.sha256:
        raise DanteError(
            f"the cache was written by {written[:12]}…, this teacher is {str(teacher.sha256)[:12]}…",
            where=str(order.teacher),
            fix="name the cache's own teacher",
        )


def vocabulary_of(engine: Engine, model: str, revision: str | None) -> int:
    """V: as the engine was told, else as the teacher's config says."""
    told: int | None = getattr(engine, "vocabulary", None)
    return told or int(read_config(Source(model, SOURCE, revision)).get_text_config().vocab_size)


def _plan(store: Store, wanted: Sequence[Record], renderer: ChatRenderer, engine: Engine, batch: int) -> str:
    """One line before the work."""
    header, there = store.header, len(wanted) - len(store.missing)
    if not store.missing:
        return f"plan             nothing to do: all {there} records have {header.kind} logits"
    sample = store.missing[:SAMPLE]
    tokens = round(sum(text.tokens for text in texts_of(sample, renderer)) / len(sample) * len(store.missing))
    density = header.codec().expected_bytes()
    settings = engine.settings()
    return (
        f"plan             {len(store.missing)} of {len(wanted)} records to go, {there} are there; about {tokens:,} "
        f"tokens, {tokens * density / 1e6:,.2f} MB at {density} bytes per token; batches of {batch}; engine "
        f"{settings['name']}{' ' + settings['dtype'] if 'dtype' in settings else ''}"
    )


def summary(logits: SparseLogits) -> list[str]:
    """Lines behind the work."""
    shown = [f"wrote {path}" for path in logits.paths[:2]]
    if len(logits.paths) > 2:
        shown.append(f"… and {len(logits.paths) - 2} more, the last is {logits.paths[-1]}")
    return [
        f"records          {len(logits)}",
        f"tokens           {logits.tokens}",
        f"bytes per token  {logits.bytes_per_token:.1f} at a vocabulary of {logits.header.vocabulary:,}",
        *shown,
    ]
