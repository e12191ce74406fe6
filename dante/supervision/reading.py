"""A teacher of other tokens beside the student: it reads the same records in its own rendering, in rows of its own.

Its tokens and where spans of both end were made with the fit's table (`dante.data.spans`). Of its logits those are read
that predict the last token of a span; those of a span's tokens before give the likelihood of what stands there.
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from transformers import PreTrainedModel

from dante.cache.asked import asked_with, asked_without_system_prompt
from dante.losses.tokens import Matched, TokenSpans
from dante.losses.vocabulary.teacher import HiddenLogits
from dante.losses.vocabulary.tile import auto_tile_tokens
from dante.supervision.asked import Asked, Reading
from dante.supervision.live import OfStep, WithHead
from dante.teachers.teacher import SOURCE, load_teacher
from dante.text.chat import ChatRenderer
from dante.text.system_prompt import with_system_prompt
from dante.text.tokenizer import load_tokenizer
from dante.text.tokens.matching import matched_ids


class Model(OfStep):
    """What a teacher of other tokens says at the spans of the answers."""

    def renderer(self, asked: Asked) -> ChatRenderer:
        """See `ReaderSource`: with the variables and the system prompt that the cache's answers were asked with.

        Raises:
            DanteError: the fit has no such input, or its tokenizer is not there.
        """
        folder, cache = asked.teacher(self.step), asked.inputs["cache"]
        handle = load_teacher(folder)
        tokenizer = load_tokenizer(handle.location(folder), handle.revision, SOURCE)
        variables = asked_with(cache) or asked.chat
        if asked_without_system_prompt(cache):
            tokenizer.chat_template = with_system_prompt(tokenizer, "", variables, "cache.source.system_prompt")
        return ChatRenderer(tokenizer, **variables)

    def open(self, asked: Asked) -> "BesideReading":
        """Load it, and find the tokens that it shares with the student."""
        theirs = self.renderer(asked).tokenizer
        ids = (torch.from_numpy(side) for side in matched_ids(theirs, asked.renderer.tokenizer))
        return BesideReading(Matched(*ids), *self.loaded(asked, own_tokens=True))


class BesideReading(WithHead):
    """A teacher that reads its own rows.

    Args:
        matched: the tokens that it shares with the student.
        model: see `WithHead`.
        device: see `WithHead`.
        spread: see `WithHead`.
    """

    def __init__(
        self, matched: Matched, model: PreTrainedModel, device: str | None = None, spread: bool = True
    ) -> None:
        super().__init__(model, device, spread)
        self.matched = matched

    @torch.no_grad()
    def said(self, reading: Reading) -> "ReadLogits":
        """See `LiveReader.said`."""
        spans, labels_R = reading.their_tokens, reading.row.labels
        said = self.hidden_logits(reading.row)
        device = said.hidden.device
        self.matched = self.matched.map(lambda ids: ids.to(device))
        last_S = torch.tensor([behind - 1 for _, behind in spans.ranges], dtype=torch.int64).to(device)
        return ReadLogits(
            tokens=reading.tokens,
            before=_before(said, spans, labels_R),
            last=labels_R[last_S],
            alone=tuple(behind - first == 1 for first, behind in spans.ranges),
            matched=self.matched,
            said=said,
            places=last_S,
        )


class ReadLogits:
    """See `SpanLogits`.

    Args:
        tokens: see there.
        before: see there.
        last: see there.
        alone: see there.
        matched: see there.
        said: what the teacher says at each of its tokens that are in a span.
        places: of each span's last token among them.
    """

    def __init__(
        self,
        tokens: TokenSpans,
        before: Float64[Tensor, " spans"],
        last: Int64[Tensor, " spans"],
        alone: tuple[bool, ...],
        matched: Matched,
        said: HiddenLogits,
        places: Int64[Tensor, " spans"],
    ) -> None:
        self.tokens, self.before, self.last, self.alone, self.matched = tokens, before, last, alone, matched
        self.vocabulary = said.vocabulary
        self._said, self._places = said, places

    def logits(self, spans: Int64[Tensor, " chosen"]) -> Float[Tensor, "chosen their_vocab"]:
        """See `SpanLogits.logits`."""
        return self._said.projection.logits(self._said.hidden[self._places[spans]])


def _before(said: HiddenLogits, spans: TokenSpans, labels_R: Int64[Tensor, " read"]) -> Float64[Tensor, " spans"]:
    """Log-likelihood of each span's tokens but its last."""
    total_S = torch.zeros(len(spans.ranges), dtype=torch.float64, device=labels_R.device)
    # Most spans are one token: few rows are left. Found on the host, so that nothing waits for the device.
    earlier = [place for first, behind in spans.ranges for place in range(first, behind - 1)]
    for places in torch.tensor(earlier, dtype=torch.int64).split(auto_tile_tokens(said.vocabulary, labels_R.device)):
        places = places.to(labels_R.device)
        logits_CV = said.projection.logits(said.hidden[places])
        log_p_C = logits_CV.gather(1, labels_R[places, None])[:, 0] - logits_CV.logsumexp(-1)
        total_S.index_add_(0, spans.span[places], log_p_C.double())
    return total_S
