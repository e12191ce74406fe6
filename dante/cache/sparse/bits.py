"""Numbers of a few bits each, packed row by row: every row of a block has the same number of bits.

A row is one token's distribution. Blocks are numpy arrays over tokens, so that nothing here loops over tokens.

Token ids are coded with Elias and Fano's code for rising sequences (Elias 1974 [C]): n ids below V cost about
2 + log2(V / n) bits each instead of log2(V). The low bits of every id stand as they are; the high parts are a row of
bits in which the i-th one stands at place high_i + i.
"""

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from numpy import ndarray


def fields_to_bits(values: Int64[ndarray, "rows n"], width: int) -> Bool[ndarray, "rows bits"]:
    """Each value as `width` bits, the highest first."""
    places = np.arange(width - 1, -1, -1)
    return ((values[:, :, None] >> places) & 1).astype(bool).reshape(len(values), values.shape[1] * width)


def bits_to_fields(bits: Bool[ndarray, "rows bits"], width: int) -> Int64[ndarray, "rows n"]:
    """The inverse of `fields_to_bits`."""
    count = bits.shape[1] // width if width else 0
    powers = 1 << np.arange(width - 1, -1, -1, dtype=np.int64)
    return (bits.reshape(len(bits), count, width) * powers).sum(-1, dtype=np.int64)


def low_width(n: int, vocabulary: int) -> int:
    """How many low bits of every id stand as they are: ⌊log2(V / n)⌋."""
    return max(0, (vocabulary // n).bit_length() - 1)


def ids_width(n: int, vocabulary: int) -> int:
    """Bits of a row of n ids."""
    low = low_width(n, vocabulary)
    return n * low + n + ((vocabulary - 1) >> low) + 1


def ids_to_bits(ids: Int64[ndarray, "rows n"], vocabulary: int) -> Bool[ndarray, "rows bits"]:
    """Rising, different ids of every row in `ids_width(n, V)` bits."""
    rows, n = ids.shape
    low = low_width(n, vocabulary)
    high = np.zeros((rows, n + ((vocabulary - 1) >> low) + 1), dtype=bool)
    np.put_along_axis(high, (ids >> low) + np.arange(n), True, axis=1)
    return np.concatenate([fields_to_bits(ids & ((1 << low) - 1), low), high], axis=1)


def bits_to_ids(bits: Bool[ndarray, "rows bits"], n: int, vocabulary: int) -> Int64[ndarray, "rows n"]:
    """The inverse of `ids_to_bits`."""
    low = low_width(n, vocabulary)
    lows = bits_to_fields(bits[:, : n * low], low) if low else np.zeros((len(bits), n), dtype=np.int64)
    places = np.nonzero(bits[:, n * low :])[1].reshape(len(bits), n)
    return ((places - np.arange(n)) << low) | lows


def counts_to_bits(counts: Int64[ndarray, "rows n"], total: int) -> Bool[ndarray, "rows total"]:
    """Positive counts that sum to `total`, in `total` bits: a one where each part ends."""
    bits = np.zeros((len(counts), total), dtype=bool)
    np.put_along_axis(bits, counts.cumsum(axis=1) - 1, True, axis=1)
    return bits


def bits_to_counts(bits: Bool[ndarray, "rows total"], n: int) -> Int64[ndarray, "rows n"]:
    """The inverse of `counts_to_bits`."""
    ends = np.nonzero(bits)[1].reshape(len(bits), n) + 1
    return np.diff(ends, axis=1, prepend=0).astype(np.int64)


def to_bytes(bits: Bool[ndarray, "rows bits"]) -> UInt8[ndarray, "rows bytes"]:
    """Each row padded to whole bytes."""
    return np.packbits(bits, axis=1)


def from_bytes(data: UInt8[ndarray, "rows bytes"], bits: int) -> Bool[ndarray, "rows bits"]:
    """The first `bits` bits of each row."""
    return np.unpackbits(data, axis=1, count=bits).astype(bool)
