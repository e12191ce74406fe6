"""A live teacher's logits, made tile by tile from its hidden states: its LM head runs beside the student's."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dante.losses.tokens import TeacherLogits
from dante.losses.vocabulary.projection import Projection


class HiddenLogits:
    """Logits of one teacher.

    Args:
        projection: its LM head.
        hidden: its hidden states at the supervised positions.
    """

    def __init__(self, projection: Projection, hidden: Float[Tensor, "tokens width"]) -> None:
        self.projection, self.hidden, self.vocabulary = projection, hidden, projection.vocabulary

    def write(self, rows: slice, out: Float[Tensor, "tile vocab"]) -> None:
        """See `TeacherLogits.write`."""
        if self.vocabulary == out.shape[1]:
            self.projection.write(self.hidden[rows], out)
            return
        logits_TV = self.projection.logits(self.hidden[rows])
        shared = min(self.vocabulary, out.shape[1])
        out[:, :shared] = logits_TV[:, :shared]
        out[:, shared:] = -torch.inf


class ChosenLogits:
    """Logits of several teachers, each of some of the tokens.

    Args:
        teachers: what each says of its own tokens.
        places: of each supervised token its number among those of its teacher.
        chosen: of each supervised token the number of its teacher.
    """

    def __init__(
        self, teachers: Sequence[TeacherLogits], places: Int64[Tensor, " tokens"], chosen: Int64[Tensor, " tokens"]
    ) -> None:
        self.teachers, self.places, self.chosen = teachers, places, chosen
        self.vocabulary = min(teacher.vocabulary for teacher in teachers)

    def write(self, rows: slice, out: Float[Tensor, "tile vocab"]) -> None:
        """See `TeacherLogits.write`."""
        for number, teacher in enumerate(self.teachers):
            mine = (self.chosen[rows] == number).nonzero()[:, 0]
            if len(mine) == 0:
                continue
            # Tokens keep their order, so those of one teacher in a tile stand together among all that it has.
            places = self.places[rows][mine]
            first = int(places[0])
            logits_MV = torch.empty(len(mine), out.shape[1], dtype=out.dtype, device=out.device)
            teacher.write(slice(first, first + len(mine)), logits_MV)
            out[mine] = logits_MV
        out[:, self.vocabulary :] = -torch.inf


class AveragedLogits:
    """The mixture Σ w_k p_k of several teachers' distributions, as its logarithm.

    Args:
        teachers: what each says of all supervised tokens.
        weights: positive, one per teacher; they are divided by their sum.
    """

    def __init__(self, teachers: Sequence[TeacherLogits], weights: Sequence[float]) -> None:
        total = sum(weights)
        self.teachers, self.shares = teachers, [weight / total for weight in weights]
        self.vocabulary = min(teacher.vocabulary for teacher in teachers)

    def write(self, rows: slice, out: Float[Tensor, "tile vocab"]) -> None:
        """See `TeacherLogits.write`."""
        shared_TV, logits_TV = out[:, : self.vocabulary].zero_(), torch.empty_like(out)
        for teacher, share in zip(self.teachers, self.shares, strict=True):
            teacher.write(rows, logits_TV)
            shared_TV.add_(logits_TV[:, : self.vocabulary].softmax(-1), alpha=share)
        # What no teacher finds possible stays finite: 0 · log 0 would be no number.
        shared_TV.clamp_min_(torch.finfo(out.dtype).tiny).log_()
        out[:, self.vocabulary :] = -torch.inf
