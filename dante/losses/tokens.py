"""What a loss is shown: the supervised tokens of a step, and what is known of each."""

import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dante.errors import DanteError

#: What a loss may ask of the teacher beside its text: logits of the live teacher, kept sparse ones, activations of its
#: blocks, how likely it found each span of the text that ends where tokens of both end, and a live teacher's logits at
#: the ends of such spans, whose tokens are its own.
Need = Literal["teacher_logits", "sparse", "blocks", "spans", "span_logits"]


@dataclass(frozen=True)
class SparseTargets:
    """What was kept of the teacher's distribution at each supervised token.

    Attributes:
        ids: kept token ids; −1 fills rows that keep fewer.
        probabilities: theirs; 0 where there is no id.
        tail: mass of all other tokens; 0 where the kept ones are a whole distribution.
    """

    ids: Int64[Tensor, "tokens kept"]
    probabilities: Float[Tensor, "tokens kept"]
    tail: Float[Tensor, " tokens"]

    def rows(self, chosen: slice) -> "SparseTargets":
        """Those of some tokens, such as a tile's (`Tile.rows`)."""
        return SparseTargets(self.ids[chosen], self.probabilities[chosen], self.tail[chosen])

    def map(self, function: Callable[[Tensor], Tensor]) -> "SparseTargets":
        """The same with every tensor put through a function: to a device, into pinned memory."""
        return SparseTargets(function(self.ids), function(self.probabilities), function(self.tail))


@dataclass(frozen=True)
class TokenSpans:
    """Which spans (`dante.text.tokens.spans`) the supervised tokens make up.

    Attributes:
        span: number of the span that each supervised token is in; −1: in none, as the end of a turn.
        ranges: first supervised token of each span and the one behind its last, on the host.
    """

    span: Int64[Tensor, " tokens"]
    ranges: tuple[tuple[int, int], ...]

    def within(self, rows: slice) -> slice:
        """The spans of a tile, which cuts none."""
        firsts = [first for first, _ in self.ranges]
        return slice(bisect.bisect_left(firsts, rows.start), bisect.bisect_left(firsts, rows.stop))

    def map(self, function: Callable[[Tensor], Tensor]) -> "TokenSpans":
        """See `SparseTargets.map`."""
        return replace(self, span=function(self.span))


@dataclass(frozen=True)
class TeacherSpans:
    """How likely the teacher found the spans of the answers.

    Attributes:
        tokens: the spans.
        log_likelihood: of each span, in nats: a sum over the teacher's tokens, in float64.
    """

    tokens: TokenSpans
    log_likelihood: Float64[Tensor, " spans"]

    def map(self, function: Callable[[Tensor], Tensor]) -> "TeacherSpans":
        """See `SparseTargets.map`."""
        return TeacherSpans(self.tokens.map(function), function(self.log_likelihood))


@dataclass(frozen=True)
class Matched:
    """The tokens that two vocabularies share, byte for byte.

    Attributes:
        theirs: ids of the teacher's, rising.
        ours: ids of the student's, in the same order.
    """

    theirs: Int64[Tensor, " matched"]
    ours: Int64[Tensor, " matched"]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Matched":
        """See `SparseTargets.map`."""
        return Matched(function(self.theirs), function(self.ours))


@runtime_checkable
class SpanLogits(Protocol):
    """What a live teacher that reads its own tokens says at the last token of each span.

    Attributes:
        tokens: the spans, in the student's tokens.
        before: log-likelihood of the teacher's tokens of each span but its last, in nats; 0 where there is only one.
        last: the teacher's last token of each span.
        alone: whether the teacher has the span as one token, on the host.
        vocabulary: rows of the teacher's head.
        matched: the tokens that both vocabularies share.
    """

    tokens: TokenSpans
    before: Float64[Tensor, " spans"]
    last: Int64[Tensor, " spans"]
    alone: tuple[bool, ...]
    vocabulary: int
    matched: Matched

    def logits(self, spans: Int64[Tensor, " chosen"]) -> Float[Tensor, "chosen their_vocab"]:
        """Its logits where it predicts the last token of some spans, a tensor that the next call may overwrite."""


@runtime_checkable
class TeacherLogits(Protocol):
    """Whole distributions of the teacher at the supervised tokens, one tile at a time: they never live all at once.

    Attributes:
        vocabulary: rows of the teacher's head. Ids that only one of both has are padding, and count for neither side.
    """

    vocabulary: int

    def write(self, rows: slice, out: Float[Tensor, "tile vocab"]) -> None:
        """Write the logits of some tokens, those of a tile, for the student's ids; −∞ where the teacher has none."""


@runtime_checkable
class TeacherBlocks(Protocol):
    """What enters and leaves the teacher's sparse blocks, of every token of a row, prompts too."""

    def of(self, layer: int) -> tuple[Float[Tensor, "row_tokens width"], Float[Tensor, "row_tokens width"]]:
        """A block's input, after the norm, and its output, as it is added to the residual."""


@dataclass(frozen=True)
class TeacherSide:
    """The teacher's side of the supervised tokens: what the losses of the fit declared as `needs`, and nothing else."""

    maybe_sparse: SparseTargets | None = None
    maybe_logits: TeacherLogits | None = None
    maybe_blocks: TeacherBlocks | None = None
    maybe_spans: TeacherSpans | None = None
    maybe_span_logits: SpanLogits | None = None

    @property
    def blocks(self) -> TeacherBlocks:
        """Present when a loss of the fit declares `needs` with `blocks`."""
        assert self.maybe_blocks is not None, "a loss that reads the teacher's blocks must declare needs = {'blocks'}"
        return self.maybe_blocks

    @property
    def logits(self) -> TeacherLogits:
        """Present when a loss of the fit declares `needs` with `teacher_logits`."""
        assert self.maybe_logits is not None, "a loss that reads the teacher's logits must declare needs"
        return self.maybe_logits

    @property
    def sparse(self) -> SparseTargets:
        """Present when a loss of the fit declares `needs` with `sparse`."""
        assert self.maybe_sparse is not None, "a loss that reads sparse targets must declare needs = {'sparse'}"
        return self.maybe_sparse

    @property
    def spans(self) -> TeacherSpans:
        """Present when a loss of the fit declares `needs` with `spans`."""
        assert self.maybe_spans is not None, "a loss that reads spans must declare needs = {'spans'}"
        return self.maybe_spans

    @property
    def span_logits(self) -> SpanLogits:
        """Present when a loss of the fit declares `needs` with `span_logits`."""
        assert self.maybe_span_logits is not None, "a loss that reads logits of spans must declare needs"
        return self.maybe_span_logits

    def map(self, function: Callable[[Tensor], Tensor]) -> "TeacherSide":
        """See `SparseTargets.map`; logits and blocks are where they are made."""
        sparse = self.maybe_sparse.map(function) if self.maybe_sparse is not None else None
        spans = self.maybe_spans.map(function) if self.maybe_spans is not None else None
        return replace(self, maybe_sparse=sparse, maybe_spans=spans)


@dataclass(frozen=True)
class SupervisedTokens:
    """The supervised tokens of one micro-batch, and how many the whole optimizer step has.

    Attributes:
        labels: token ids to predict.
        record: for each token the row of its record in `fields`.
        fields: per-record values, each of shape [records of this micro-batch].
        step_tokens: supervised tokens of the optimizer step, over all micro-batches and ranks.
        step_records: records of the optimizer step, over all micro-batches and ranks.
        teacher: what losses declared that they need of the teacher, token by token.
        step_row_tokens: all tokens of the optimizer step, prompts too, over all micro-batches and ranks; 0 where nobody
            counts them.
    """

    labels: Int64[Tensor, " tokens"]
    record: Int64[Tensor, " tokens"]
    fields: Mapping[str, Tensor]
    step_tokens: int
    step_records: int
    teacher: TeacherSide = TeacherSide()
    step_row_tokens: int = 0

    def per_token(self, field: str) -> Float[Tensor, " tokens"]:
        """A record's field, repeated for each of its tokens; float64, as coefficients are.

        Raises:
            DanteError: the records have no such field.
        """
        if field not in self.fields:
            raise DanteError(
                f"the records carry no field {field!r}",
                allowed=", ".join(sorted(self.fields)),
                fix="add it to the cache",
            )
        return self.fields[field].double()[self.record]

    def uniform(self) -> Float[Tensor, " tokens"]:
        """1 / supervised tokens of the optimizer step: the coefficients of a plain mean over tokens."""
        return torch.full(self.labels.shape, 1.0 / self.step_tokens, dtype=torch.float64, device=self.labels.device)
