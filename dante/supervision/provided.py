"""What a fit's losses ask of the teacher → who provides it: a part per need, opened before the first step."""

from collections.abc import Mapping, Sequence
from typing import Any

from dante.errors import DanteError
from dante.losses.base import Loss
from dante.losses.tokens import TeacherSide
from dante.run.parts import build
from dante.supervision.asked import (
    Asked,
    BlocksSource,
    LiveBlocks,
    LiveReader,
    LiveSource,
    LiveTeacher,
    ReaderSource,
    SparseProvider,
    SparseSource,
)
from dante.text.chat import ChatRenderer
from dante.text.rendering import Renderer

# By a part of `supervision` each; spans are read of the cache itself.
PROVIDED = ("blocks", "span_logits", "sparse", "teacher_logits")
FROM_CACHE = "spans"


class Supervision:
    """The teacher's side of batches that is there before the student runs. Without needs it adds and costs nothing.

    Args:
        sparse: who provides `sparse`, or None.
    """

    def __init__(self, sparse: SparseProvider | None = None) -> None:
        self.sparse = sparse

    def of(self, record_ids: Sequence[str], tokens: Sequence[int]) -> TeacherSide:
        """For the supervised tokens of some records, one after the other.

        Args:
            record_ids: as the cache names them.
            tokens: supervised tokens of each.
        """
        return TeacherSide(self.sparse.targets(record_ids, tokens) if self.sparse is not None else None)

    def expect(self, record_ids: Sequence[str]) -> None:
        """Told which records `of` is asked for next."""
        if self.sparse is not None:
            self.sparse.expect(record_ids)

    def close(self) -> None:
        """Ends what was begun for `of`; it is not asked any more."""
        if self.sparse is not None:
            self.sparse.close()


def needed(losses: Sequence[Loss]) -> frozenset[str]:
    """What the losses of a fit declare as `needs`.

    Raises:
        DanteError: nobody provides a need.
    """
    for loss in losses:
        for need in sorted(loss.needs):
            if need not in (*PROVIDED, FROM_CACHE):
                raise DanteError(
                    f"the loss {loss.name!r} needs {need!r} of the teacher, which nothing provides",
                    where=f"losses.{loss.name}",
                    allowed=", ".join((*PROVIDED, FROM_CACHE)),
                    fix=f"take the loss away: ~losses.{loss.name}",
                )
    return frozenset(need for loss in losses for need in loss.needs)


def needs_spans(losses: Sequence[Loss], renderer: Renderer) -> bool:
    """Whether a loss reads the likelihoods of spans, which lie in the cache.

    Raises:
        DanteError: it does, and the fit renders plain text.
    """
    wanted = FROM_CACHE in needed(losses)
    if wanted:
        _check_chat(renderer)
    return wanted


def reader_for(parts: Mapping[Any, Any], losses: Sequence[Loss], asked: Asked) -> ChatRenderer | None:
    """How the teacher that reads its own tokens renders records, where a loss has it read.

    Raises:
        DanteError: see `needed`; the fit renders plain text, or the part refuses.
    """
    if "span_logits" not in needed(losses):
        return None
    _check_chat(asked.renderer)
    source: ReaderSource = build(dict(parts["span_logits"]))
    return source.renderer(asked.below("span_logits"))


def _check_chat(renderer: Renderer) -> None:
    if not isinstance(renderer, ChatRenderer):
        raise DanteError(
            "spans are those of a chat's answers, and this fit renders plain text",
            where="fit.rendering",
            allowed="chat",
            fix="fit.rendering=chat",
        )


def sparse_kind(losses: Sequence[Loss]) -> str | None:
    """Which kept logits the losses read, as each says by `sparse_kind`; None: none.

    Raises:
        DanteError: they read different kinds.
    """
    kinds = {str(getattr(loss, "sparse_kind", "topk_tail")) for loss in losses if "sparse" in loss.needs}
    if len(kinds) > 1:
        raise DanteError(
            f"losses read sparse logits of different kinds: {', '.join(sorted(kinds))}",
            where="losses",
            allowed="one kind in a fit",
            fix="give them one kind",
        )
    return kinds.pop() if kinds else None


def supervision_for(parts: Mapping[Any, Any], losses: Sequence[Loss], asked: Asked) -> Supervision:
    """Opens what is there before the student runs: sparse logits, where a loss reads them.

    Args:
        parts: `supervision` of the configuration, a part per need.
        losses: of the fit.
        asked: the fit.

    Raises:
        DanteError: see `needed` and `sparse_kind`, or the part refuses.
    """
    return Supervision(_opened("sparse", parts, losses, asked))


def live_teacher_for(parts: Mapping[Any, Any], losses: Sequence[Loss], asked: Asked) -> LiveTeacher | None:
    """Loads who runs beside the student, where a loss reads a live teacher's logits.

    Raises:
        DanteError: see `needed`, or the part refuses.
    """
    teacher: LiveTeacher | None = _opened("teacher_logits", parts, losses, asked)
    return teacher


def live_reader_for(parts: Mapping[Any, Any], losses: Sequence[Loss], asked: Asked) -> LiveReader | None:
    """Loads the teacher that reads its own tokens, where a loss has it read.

    Raises:
        DanteError: see `needed`, or the part refuses.
    """
    reader: LiveReader | None = _opened("span_logits", parts, losses, asked)
    return reader


def blocks_for(parts: Mapping[Any, Any], losses: Sequence[Loss], asked: Asked) -> LiveBlocks | None:
    """Loads whose blocks the units are to match, where a loss reads them.

    Raises:
        DanteError: see `needed`, or the part refuses.
    """
    blocks: LiveBlocks | None = _opened("blocks", parts, losses, asked)
    return blocks


def _opened(need: str, parts: Mapping[Any, Any], losses: Sequence[Loss], asked: Asked) -> Any:
    """The part that provides a need, open; None where no loss has it."""
    return build(dict(parts[need])).open(asked.below(need)) if need in needed(losses) else None


def scored_once(parts: Mapping[Any, Any], losses: Sequence[Loss]) -> bool:
    """Whether a loss reads what the teacher had to run over its answers once more for: that has a price."""
    # Log-probabilities of its own tokens come with its answers.
    kept = needed(losses) - {"teacher_logits", "span_logits", FROM_CACHE}
    return any(not build(dict(parts[need])).scoring_inputs() for need in kept)


def scoring_inputs(parts: Mapping[Any, Any], losses: Sequence[Loss]) -> list[str]:
    """Inputs of the fit, teacher steps, whose teacher scores every draw in the student's tokens: that has a price in
    every step."""
    return [name for source in _read(parts, needed(losses) - {"span_logits"}) for name in source.scoring_inputs()]


def reading_inputs(parts: Mapping[Any, Any], losses: Sequence[Loss]) -> list[str]:
    """Those whose teacher reads every draw in its own tokens."""
    return [name for source in _read(parts, needed(losses) & {"span_logits"}) for name in source.scoring_inputs()]


def resident_inputs(parts: Mapping[Any, Any], losses: Sequence[Loss]) -> list[str]:
    """Those of both whose weights lie beside the student's."""
    return [name for source in _read(parts, needed(losses)) for name in source.resident_inputs()]


def _read(
    parts: Mapping[Any, Any], needs: frozenset[str]
) -> list[SparseSource | LiveSource | BlocksSource | ReaderSource]:
    return [build(dict(parts[need])) for need in sorted(needs - {FROM_CACHE})]
