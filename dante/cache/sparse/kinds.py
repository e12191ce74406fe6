"""What is kept of a teacher's distribution over its vocabulary, and how many bytes that takes.

topk_tail: the K largest probabilities and the mass of all others, for the tail-bucket loss. Ids cost Elias-Fano's
code; of every probability p_i six bits are kept of d_i = log p_1 − log p_i, on a scale that is fine near p_1 and coarse
far from it; of the tail's mass, the logarithm in float16. The kept probabilities are scaled on reading so that they and
the tail sum to one, which is what makes p_1 exact where it is large. 126 bytes per token at V = 152,064, K = 50.

random_sampling (RS-KD, arXiv 2503.16870 [C]): N tokens drawn with replacement; the target of a token is how often it
was drawn, over N: an unbiased estimate of the distribution, of which about twelve tokens differ. A quarter of the size.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray

from dante.cache.sparse import bits

VALUE_BITS, SPAN_BITS, TAIL_BITS = 6, 8, 16
STEPS = (1 << VALUE_BITS) - 1
SPANS_PER_NAT = 8.0  # d_K is kept in eighths of a nat, rounded up
USUAL_UNIQUE = 12  # different tokens of 50 draws (arXiv 2503.16870 [C])
LONGEST_SPAN = ((1 << SPAN_BITS) - 1) / SPANS_PER_NAT


@dataclass(frozen=True)
class Sparse:
    """Distributions of one record's supervised tokens.

    Attributes:
        ids: kept token ids, rising; −1 fills rows that keep fewer.
        probabilities: theirs; 0 where there is no id.
        tail: mass of all other tokens; 0 for random_sampling, whose kept probabilities sum to one.
    """

    ids: Int64[ndarray, "tokens n"]
    probabilities: Float[ndarray, "tokens n"]
    tail: Float[ndarray, " tokens"]


@dataclass(frozen=True)
class TopKTail:
    """The K largest probabilities and the mass of the rest.

    `encode` gives the payload and how many ids each token keeps, which says how long its row is; `decode` is its
    inverse, up to the rounding of probabilities (their KL is below 1e-3 nats, see the tests).

    Attributes:
        size: K.
        vocabulary: V.
        name: in files and on the command line.
    """

    size: int
    vocabulary: int
    name: str = "topk_tail"

    def keep(self, logprobs: Float[ndarray, "tokens k"], ids: Int64[ndarray, "tokens k"]) -> Sparse:
        """From the K largest log-probabilities per token, in any order."""
        order = ids.argsort(axis=1)
        p = np.exp(np.take_along_axis(logprobs.astype(np.float64), order, axis=1))
        tail = np.maximum(0.0, 1.0 - p.sum(axis=1)) if self.vocabulary > ids.shape[1] else np.zeros(len(ids))
        return Sparse(np.take_along_axis(ids, order, axis=1), p, tail)

    def encode(self, kept: Sparse) -> tuple[UInt8[ndarray, " bytes"], UInt8[ndarray, " tokens"]]:
        with np.errstate(divide="ignore"):
            log_p = np.log(kept.probabilities)
            log_tail = np.log(kept.tail).astype(np.float16)
        d = np.minimum(log_p.max(axis=1, keepdims=True) - log_p, LONGEST_SPAN)
        spans = np.ceil(d.max(axis=1) * SPANS_PER_NAT).astype(np.int64)
        scale = np.log1p(np.maximum(spans, 1) / SPANS_PER_NAT)[:, None]
        values = np.rint(STEPS * np.log1p(d) / scale).astype(np.int64)
        parts = [
            bits.ids_to_bits(kept.ids, self.vocabulary),
            bits.fields_to_bits(values, VALUE_BITS),
            bits.fields_to_bits(spans[:, None], SPAN_BITS),
            bits.fields_to_bits(log_tail.view(np.uint16).astype(np.int64)[:, None], TAIL_BITS),
        ]
        rows = bits.to_bytes(np.concatenate(parts, axis=1))
        return rows.reshape(-1), np.full(len(rows), kept.ids.shape[1], dtype=np.uint8)

    def decode(self, payload: UInt8[ndarray, " bytes"], numbers: UInt8[ndarray, " tokens"]) -> Sparse:
        n = self._kept
        if not len(numbers):
            return Sparse(np.zeros((0, n), np.int64), np.zeros((0, n)), np.zeros(0))
        row = bits.from_bytes(payload.reshape(len(numbers), -1), self._bits)
        cuts = np.cumsum([bits.ids_width(n, self.vocabulary), n * VALUE_BITS, SPAN_BITS])
        ids, values, spans, tails = np.split(row, cuts, axis=1)
        span = bits.bits_to_fields(spans, SPAN_BITS)
        scale = np.log1p(np.maximum(span, 1) / SPANS_PER_NAT)
        d = np.expm1(bits.bits_to_fields(values, VALUE_BITS) * scale / STEPS)
        log_tail = bits.bits_to_fields(tails, TAIL_BITS)[:, 0].astype(np.uint16).view(np.float16)
        tail = np.minimum(np.exp(log_tail.astype(np.float64)), 1.0)
        weights = np.exp(-d)
        p = weights / weights.sum(axis=1, keepdims=True) * (1.0 - tail)[:, None]
        return Sparse(bits.bits_to_ids(ids, n, self.vocabulary), p, tail)

    def row_bytes(self, numbers: UInt8[ndarray, " tokens"]) -> Int64[ndarray, " tokens"]:
        return np.full(len(numbers), (self._bits + 7) // 8, dtype=np.int64)

    def expected_bytes(self) -> int:
        """Of one token in a file, the number of its ids included."""
        return (self._bits + 7) // 8 + 1

    @property
    def _kept(self) -> int:
        return min(self.size, self.vocabulary)

    @property
    def _bits(self) -> int:
        return bits.ids_width(self._kept, self.vocabulary) + self._kept * VALUE_BITS + SPAN_BITS + TAIL_BITS


@dataclass(frozen=True)
class RandomSampling:
    """N draws with replacement from every distribution (RS-KD). `decode` gives back exactly what was drawn.

    Attributes:
        size: N.
        vocabulary: V.
        name: in files and on the command line.
    """

    size: int
    vocabulary: int
    name: str = "random_sampling"

    def draw(self, logprobs: Float[ndarray, "tokens vocab"], rng: np.random.Generator) -> Sparse:
        """Draws from the whole distributions."""
        p = np.exp(logprobs.astype(np.float64))
        counts = rng.multinomial(self.size, p / p.sum(axis=1, keepdims=True))
        rows, ids = np.nonzero(counts)
        numbers = np.bincount(rows, minlength=len(p))
        places = np.arange(len(rows)) - np.repeat(numbers.cumsum() - numbers, numbers)
        kept = np.full((len(p), int(numbers.max(initial=0))), -1, dtype=np.int64)
        shares = np.zeros(kept.shape)
        kept[rows, places], shares[rows, places] = ids, counts[rows, ids] / self.size
        return Sparse(kept, shares, np.zeros(len(p)))

    def encode(self, kept: Sparse) -> tuple[UInt8[ndarray, " bytes"], UInt8[ndarray, " tokens"]]:
        numbers = (kept.ids >= 0).sum(axis=1)
        lengths = self.row_bytes(numbers.astype(np.uint8))
        starts = lengths.cumsum() - lengths
        payload = np.zeros(int(lengths.sum()), dtype=np.uint8)
        for n in np.unique(numbers):
            rows = np.nonzero(numbers == n)[0]
            counts = np.rint(kept.probabilities[rows, :n] * self.size).astype(np.int64)
            parts = [bits.ids_to_bits(kept.ids[rows, :n], self.vocabulary), bits.counts_to_bits(counts, self.size)]
            data = bits.to_bytes(np.concatenate(parts, axis=1))
            payload[starts[rows][:, None] + np.arange(data.shape[1])] = data
        return payload, numbers.astype(np.uint8)

    def decode(self, payload: UInt8[ndarray, " bytes"], numbers: UInt8[ndarray, " tokens"]) -> Sparse:
        lengths = self.row_bytes(numbers)
        starts = lengths.cumsum() - lengths
        ids = np.full((len(numbers), int(numbers.max(initial=0))), -1, dtype=np.int64)
        shares = np.zeros(ids.shape)
        for n in map(int, np.unique(numbers)):
            rows = np.nonzero(numbers == n)[0]
            width = bits.ids_width(n, self.vocabulary)
            data = payload[starts[rows][:, None] + np.arange(lengths[rows[0]])]
            row = bits.from_bytes(data, width + self.size)
            ids[rows, :n] = bits.bits_to_ids(row[:, :width], n, self.vocabulary)
            shares[rows, :n] = bits.bits_to_counts(row[:, width:], n) / self.size
        return Sparse(ids, shares, np.zeros(len(numbers)))

    def row_bytes(self, numbers: UInt8[ndarray, " tokens"]) -> Int64[ndarray, " tokens"]:
        widths = np.zeros(256, dtype=np.int64)
        for n in map(int, np.unique(numbers)):
            widths[n] = (bits.ids_width(n, self.vocabulary) + self.size + 7) // 8
        return widths[numbers]

    def expected_bytes(self) -> int:
        """Of one token in a file, the number of its ids included, where as many differ as usual."""
        usual = np.array([min(USUAL_UNIQUE, self.size, self.vocabulary)], dtype=np.uint8)
        return int(self.row_bytes(usual)[0]) + 1


Kind = TopKTail | RandomSampling
KINDS: dict[str, type[TopKTail] | type[RandomSampling]] = {"topk_tail": TopKTail, "random_sampling": RandomSampling}
