"""Losses that hold what a live teacher of other tokens says at a span against what the student says there.

A span (`dante.text.tokens.spans`) may be several tokens of either side. Its distribution is the chain rule's: the
tokens before the last one as they stand in the text, then any token,

    m(y) = p(y | t_1 … t_{n−1}) · Π_{i<n} p(t_i)          Σ_y m(y) = Π_{i<n} p(t_i) ≤ 1

and what is missing to one is the mass of all texts that part before the last token: the tail. (TRL's GOLD calls this
merge "bayesian" [C]; its default, the first token's distribution times the later ones, is no probability of anything.)

Where both sides have the span as one token, tokens of equal bytes are the same event on both sides, and may be compared
one by one. Where they do not, their last tokens begin at different bytes: what the two sides have in common is the
observed text alone. TRL compares ids of equal names there, too, which are different texts.

A loss gives its value per span and the *slope* ∂ℓ/∂log m(y); with p the student's softmax at the last token

    ∂ℓ/∂z_y = slope_y − p_y Σ slope          at the last token
    ∂ℓ/∂z   = Σ slope · (onehot(t_i) − p)    at the tokens before it

Sums over spans are divided by the supervised tokens of the optimizer step, as of every token loss here [I].
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dante.losses.base import LinearLoss
from dante.losses.spans.tile import SpanTile
from dante.losses.tokens import Matched, Need, SpanLogits, SupervisedTokens
from dante.losses.vocabulary.tile import Tile

# Of a chunk's teacher logits: spans are worked off in chunks that lie in a cache rather than in memory.
_CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 512 * 2**20}


@dataclass(frozen=True)
class Merged:
    """Some spans of one kind.

    Attributes:
        theirs: log m of the teacher.
        ours: log m of the student.
        their_last: the teacher's last token of each span.
        our_last: the student's.
        one_token: both sides have each of these spans as one token.
        matched: the tokens that both vocabularies share.
    """

    theirs: Float[Tensor, "spans their_vocab"]
    ours: Float[Tensor, "spans vocab"]
    their_last: Int64[Tensor, " spans"]
    our_last: Int64[Tensor, " spans"]
    one_token: bool
    matched: Matched

    @property
    def observed(self) -> tuple[Float[Tensor, "spans 1"], Float[Tensor, "spans 1"]]:
        """log-likelihood of the observed text, the teacher's and the student's."""
        return self.theirs.gather(1, self.their_last[:, None]), self.ours.gather(1, self.our_last[:, None])


class MergedSpans(LinearLoss):
    """Base of losses on the two distributions of a span."""

    needs: ClassVar[frozenset[Need]] = frozenset({"span_logits"})

    @abstractmethod
    def measure(self, merged: Merged) -> tuple[Float[Tensor, " spans"], Float[Tensor, "spans vocab"]]:
        """ℓ of every span, and its slope ∂ℓ/∂log m, a new tensor."""

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        said = tile.tokens.teacher.span_logits
        spans = SpanTile(tile, said.tokens)
        last_S = _last_tokens(tile, said, spans)
        before_S = spans.summed(tile.label_log_probability) - tile.label_log_probability[last_S]
        coefficient_S = spans.coefficients(coefficients)
        value_S, slopes_S = torch.zeros_like(before_S), torch.zeros_like(before_S)
        gradient_TV = torch.zeros_like(tile.logits) if tile.wants_gradient else None
        for one_token, chosen in _chunks(said, spans, tile.logits):
            rows = last_S[chosen]
            log_p_CV = tile.logits[rows] - tile.log_z[rows, None]
            merged = Merged(
                theirs=_log_merged(said, chosen + spans.chosen.start),
                ours=log_p_CV + before_S[chosen, None].to(log_p_CV),
                their_last=said.last[chosen + spans.chosen.start],
                our_last=tile.labels[rows],
                one_token=one_token,
                matched=said.matched,
            )
            values, slope_CV = self.measure(merged)
            value_S[chosen] = values.to(value_S)
            slopes_S[chosen] = slope_CV.sum(-1, dtype=slopes_S.dtype)
            if gradient_TV is not None:
                slope_CV -= log_p_CV.exp_() * slopes_S[chosen, None].to(log_p_CV)
                gradient_TV[rows] = slope_CV.mul_(coefficient_S[chosen, None].to(log_p_CV))
        if gradient_TV is not None:
            tile.add_gradient(gradient_TV)
            gradient_T = spans.at_tokens(coefficient_S * slopes_S)
            gradient_T[last_S] = 0.0  # what the last token has is in the whole gradient
            tile.add_label(gradient_T)
            tile.add_probability(-gradient_T)
        return spans.shares(value_S)

    def metrics(
        self, tokens: SupervisedTokens, values: Float[Tensor, " tokens"], kept: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """ℓ summed over spans, per supervised token."""
        return {"per_token": values.sum() / tokens.step_tokens}


def _last_tokens(tile: Tile, said: SpanLogits, spans: SpanTile) -> Int64[Tensor, " spans"]:
    """Rows of the tile."""
    ranges = said.tokens.ranges[spans.chosen]
    return torch.tensor([behind - 1 - tile.start for _, behind in ranges], dtype=torch.int64).to(tile.labels.device)


def _chunks(said: SpanLogits, spans: SpanTile, logits_TV: Tensor) -> Iterator[tuple[bool, Int64[Tensor, " chosen"]]]:
    """Spans of one kind at a time, as many as a chunk holds."""
    ranges, alone = said.tokens.ranges[spans.chosen], said.alone[spans.chosen]
    one_token = [theirs and behind - first == 1 for theirs, (first, behind) in zip(alone, ranges, strict=True)]
    width = max(said.vocabulary, logits_TV.shape[1]) * logits_TV.element_size()
    most = max(1, _CHUNK_BYTES.get(logits_TV.device.type, _CHUNK_BYTES["cuda"]) // width)
    for kind in (True, False):
        numbers = [number for number, other in enumerate(one_token) if other == kind]
        for start in range(0, len(numbers), most):
            yield kind, torch.tensor(numbers[start : start + most], dtype=torch.int64).to(logits_TV.device)


def _log_merged(said: SpanLogits, chosen: Int64[Tensor, " chosen"]) -> Float[Tensor, "chosen their_vocab"]:
    log_p_CV = said.logits(chosen).log_softmax(-1)
    return log_p_CV + said.before[chosen, None].to(log_p_CV)
