"""What a kind asks of an engine: the K largest log-probabilities of given texts, or whole distributions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dante.cache.records.record import Record, stable_hash
from dante.cache.sparse.files import Header
from dante.cache.sparse.kinds import RandomSampling, Sparse, TopKTail
from dante.errors import DanteError
from dante.teachers.engines.base import Engine
from dante.text.rendering import Renderer


@dataclass(frozen=True)
class Text:
    """A record's conversation in the teacher's tokens.

    Attributes:
        record: whose it is.
        ids: prompt, answer and end of turn.
        start: where the answer begins.
    """

    record: Record
    ids: list[int]
    start: int

    @property
    def tokens(self) -> int:
        """Supervised ones, which get rows."""
        return len(self.ids) - self.start


def texts_of(records: Sequence[Record], renderer: Renderer) -> list[Text]:
    """The records as a renderer has them, the teacher's or one like it: rows line up with what it supervises.

    Raises:
        DanteError: the template cannot hold a record; it is named.
    """
    texts = []
    for record in records:
        try:
            rendered = renderer.render(record.prompt, record.teacher_text)
        except DanteError as error:
            raise DanteError(error.what, where=f"record {record.id}", allowed=error.allowed, fix=error.fix) from None
        start = rendered.supervised.index(True)
        texts.append(Text(record, rendered.input_ids[: start + sum(rendered.supervised)], start))
    return texts


def refuse_unable(engine: Engine, header: Header) -> None:
    """Refuses what an engine says beforehand that it cannot give.

    Raises:
        DanteError: random_sampling without whole distributions, or a K above `max_logprobs` of the engine.
    """
    name = engine.settings()["name"]
    if header.kind == RandomSampling.name:
        if getattr(engine, "full_logprobs", None) is None:
            raise DanteError(
                f"the engine {name} does not return whole distributions, and draws from the largest K would be biased",
                where="--kind random_sampling",
                allowed="an engine with full_logprobs: transformers",
                fix="--engine transformers, or --kind topk_tail",
            )
        return
    wanted, limit = _width(header), getattr(engine, "max_logprobs", None)
    if limit is not None and limit < wanted:
        raise _too_many(name, wanted, limit, f"engine.{'engine.' * hasattr(engine, 'engine')}max_logprobs={wanted}")


def probe(engine: Engine, header: Header, text: Text, size: str = "--size ") -> None:
    """One question to an open engine, before the work: some limits are known to a server alone.

    Of a whole text, because the token that stands there comes on top of the K largest: one position may hold K + 1.

    Args:
        engine: open.
        header: what is wanted.
        text: any of them.
        size: how a smaller K is typed, up to the number.

    Raises:
        DanteError: it does not give what the kind needs.
    """
    if header.kind == RandomSampling.name:
        return

    def gives(k: int) -> bool:
        try:
            list(_largest(engine, header, [text], k))
        except DanteError:
            return False
        return True

    wanted = _width(header)
    try:
        list(_largest(engine, header, [text], wanted))
    except DanteError:
        if not gives(1):  # it is not the number
            raise
        most, too_many = 1, wanted
        while too_many - most > 1:
            middle = (most + too_many) // 2
            most, too_many = (middle, too_many) if gives(middle) else (most, middle)
        more = f"a server that gives more: launch/serve_teacher.sh VLLM_ENV MODEL_DIR 8000 --max-logprobs {wanted}"
        raise _too_many(engine.settings()["name"], wanted, most, more, size) from None


def measure(engine: Engine, header: Header, texts: Sequence[Text]) -> Iterator[Sparse]:
    """The rows of every text of a batch, in order.

    Raises:
        DanteError: the engine fails, or gives less than was asked for.
    """
    codec = header.codec()
    if isinstance(codec, TopKTail):
        yield from _largest(engine, header, texts, _width(header))
        return
    whole: Any = engine
    for text in texts:
        rng = np.random.default_rng(int(stable_hash(header.seed, text.record.id), 16))
        yield codec.draw(whole.full_logprobs(text.ids, text.start).numpy(), rng)


def _largest(engine: Engine, header: Header, texts: Sequence[Text], k: int) -> Iterator[Sparse]:
    codec = TopKTail(k, header.vocabulary)
    scores = engine.score([(text.ids, text.start) for text in texts], k)
    for text, scored in zip(texts, scores, strict=True):
        rows = {len(row) for row in scored.top_logprobs}
        if rows != {k} or len(scored.top_logprobs) != text.tokens:
            raise DanteError(
                f"the engine gave {sorted(rows)} log-probabilities at {len(scored.top_logprobs)} positions of record "
                f"{text.record.id}, which has {text.tokens}",
                where="--engine",
                allowed=f"{k} at each",
                fix="another engine: --engine transformers",
            )
        yield codec.keep(np.array(scored.top_logprobs), np.array(scored.top_ids, dtype=np.int64))


def _width(header: Header) -> int:
    return min(header.size, header.vocabulary)


def _too_many(name: str, wanted: int, limit: int, otherwise: str, size: str = "--size ") -> DanteError:
    return DanteError(
        f"the {wanted} largest log-probabilities are wanted, and the engine {name} gives at most {limit}",
        where=size.rstrip(" ="),
        allowed=f"1 to {limit}",
        fix=f"{size}{limit}, or {otherwise}",
    )
