"""What a fit's losses ask of the teacher → who provides it: one class per need, built before the first step."""

from collections.abc import Sequence
from pathlib import Path

from dante.errors import DanteError
from dante.losses.base import Loss
from dante.losses.tokens import TeacherSide
from dante.supervision.sparse import CachedSparse, rendering_of
from dante.text.chat import ChatRenderer

PROVIDED = ("sparse",)


class Supervision:
    """The teacher's side of batches. Without needs it adds nothing and costs nothing.

    Args:
        sparse: who provides `sparse`, or None.
    """

    def __init__(self, sparse: CachedSparse | None = None) -> None:
        self.sparse = sparse

    def of(self, record_ids: Sequence[str], tokens: Sequence[int]) -> TeacherSide:
        """For the supervised tokens of some records, one after the other.

        Args:
            record_ids: as the cache names them.
            tokens: supervised tokens of each.
        """
        return TeacherSide(self.sparse.targets(record_ids, tokens) if self.sparse is not None else None)


def supervision_for(losses: Sequence[Loss], cache: Path, renderer: ChatRenderer) -> Supervision:
    """What the losses of a fit declare as `needs`.

    Args:
        losses: of the fit; one that needs `sparse` says by `sparse_kind` which files it reads.
        cache: finished cache directory of the fit.
        renderer: the student's.

    Raises:
        DanteError: nobody provides a need, losses read different kinds, or the cache lacks what is needed.
    """
    wanted = {need: loss for loss in losses for need in sorted(loss.needs)}
    for need, loss in wanted.items():
        if need not in PROVIDED:
            raise DanteError(
                f"the loss {loss.name!r} needs {need!r} of the teacher, which nothing provides yet",
                where=f"losses.{loss.name}",
                allowed=", ".join(PROVIDED),
                fix=f"take the loss away: ~losses.{loss.name}",
            )
    kinds = {str(getattr(loss, "sparse_kind", "topk_tail")) for loss in losses if "sparse" in loss.needs}
    if len(kinds) > 1:
        raise DanteError(
            f"losses read sparse logits of different kinds: {', '.join(sorted(kinds))}",
            where="losses",
            allowed="one kind in a fit",
            fix="give them one kind",
        )
    return Supervision(CachedSparse(cache, kinds.pop(), rendering_of(renderer)) if kinds else None)
