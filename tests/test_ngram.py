"""Counting models: proper distributions, a hand-computable trigram, and the right tokens."""

import numpy as np
import pytest

from dante.evaluate.suites.heldout.ngram import Ngrams, Trigram, Unigram, collect

VOCAB = 23


def text(rng: np.random.Generator, length: int) -> list[int]:
    """A Zipf-like first-order chain: some structure for contexts to catch."""
    tokens = [0]
    for _ in range(length - 1):
        tokens.append(int((tokens[-1] * 3 + rng.zipf(1.7)) % (VOCAB - 3)))  # three tokens never occur
    return tokens


@pytest.fixture(scope="module")
def train() -> Ngrams:
    rng = np.random.default_rng(0)
    sequences = [text(rng, 120) for _ in range(12)]
    return collect([(tokens, [i >= 4 for i in range(120)]) for tokens in sequences], VOCAB)


def everything_after(first: int, second: int) -> Ngrams:
    tokens = np.arange(VOCAB, dtype=np.int64)
    previous = np.tile(np.array([first, second], dtype=np.int64), (VOCAB, 1))
    return Ngrams(previous, tokens, np.zeros(VOCAB, dtype=np.int64))


def test_probabilities_sum_to_one_in_every_context(train: Ngrams) -> None:
    seen = {tuple(pair) for pair in train.previous.tolist()}
    contexts = [(a, b) for a in range(VOCAB + 1) for b in range(VOCAB + 1)]
    assert 0 < len(seen) < len(contexts)
    for model in (Trigram(train, VOCAB), Unigram(train, VOCAB)):
        for context in contexts:
            p = np.exp(model.log_p(everything_after(*context)))
            assert p.min() > 0
            assert p.sum() == pytest.approx(1, abs=1e-12)


def reference_trigram(train: Ngrams, first: int, second: int, word: int) -> float:
    """Modified Kneser-Ney written from the textbook, one word at a time, with dictionaries."""
    three: dict[tuple[int, int, int], int] = {}
    for (a, b), c in zip(train.previous.tolist(), train.tokens.tolist(), strict=True):
        three[a, b, c] = three.get((a, b, c), 0) + 1
    two: dict[tuple[int, int], int] = {}
    for _, b, c in three:
        two[b, c] = two.get((b, c), 0) + 1
    one: dict[int, int] = {}
    for _, c in two:
        one[c] = one.get(c, 0) + 1

    def discount(counts: list[int], count: int) -> float:
        n = [counts.count(k) for k in range(5)]
        if n[1] * n[2] == 0:
            return 0.75
        y = n[1] / (n[1] + 2 * n[2])
        if n[3] * n[4] == 0:
            return y
        modified = [0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        return modified[min(count, 3)] if all(0 < modified[k] <= k for k in (1, 2, 3)) else y

    def level(counts: dict, inside: list, key: object, lower: float) -> float:
        if not inside:
            return lower
        values, total = list(counts.values()), sum(counts[k] for k in inside)
        kept = counts[key] - discount(values, counts[key]) if key in counts else 0.0
        return (kept + sum(discount(values, counts[k]) for k in inside) * lower) / total

    p = level(one, list(one), word, 1 / VOCAB)
    p = level(two, [k for k in two if k[0] == second], (second, word), p)
    return level(three, [k for k in three if k[:2] == (first, second)], (first, second, word), p)


def test_trigram_is_modified_kneser_ney(train: Ngrams) -> None:
    model = Trigram(train, VOCAB)
    assert len({*model.third.left}) > 3  # the discounts of 1, 2 and 3+ really differ here
    contexts = [tuple(train.previous[0]), tuple(train.previous[77]), (1, 22), (VOCAB, 0), (5, 3)]
    for first, second in contexts:
        expected = [reference_trigram(train, first, second, word) for word in range(VOCAB)]
        assert np.exp(model.log_p(everything_after(first, second))) == pytest.approx(expected, rel=1e-10)


def test_a_trigram_beats_a_unigram_and_both_beat_chance_on_new_text(train: Ngrams) -> None:
    new = collect([(text(np.random.default_rng(9), 400), [True] * 400)], VOCAB)
    unigram, trigram = (-model(train, VOCAB).log_p(new).mean() for model in (Unigram, Trigram))
    assert trigram < unigram - 0.2 < np.log(VOCAB) - 0.2


def test_unigram_smoothing_is_the_best_of_leave_one_out() -> None:
    counts = np.array([5, 3, 1, 1, 0, 0])
    tokens = np.repeat(np.arange(6), counts)
    model = Unigram(Ngrams(np.zeros((10, 2), np.int64), tokens, np.zeros(10, np.int64)), 6)

    def left_out(alpha: float) -> float:
        return sum(np.log((counts[t] - 1 + alpha) / (9 + 6 * alpha)) for t in tokens)

    assert left_out(model.alpha) >= max(left_out(model.alpha * 1.2), left_out(model.alpha / 1.2))


def test_only_supervised_tokens_count_but_the_prompt_is_context() -> None:
    ngrams = collect([([7, 8, 9, 10], [False, False, True, True]), ([5], [True])], VOCAB)
    assert ngrams.tokens.tolist() == [9, 10, 5]
    assert ngrams.previous.tolist() == [[7, 8], [8, 9], [VOCAB, VOCAB]]
    assert ngrams.record.tolist() == [0, 0, 1]


def test_tiny_data_and_a_large_vocabulary_still_give_a_distribution() -> None:
    one = collect([([3, 1, 2], [False, True, True])], 200_000)
    model = Trigram(one, 200_000)
    tokens = np.arange(200_000, dtype=np.int64)
    previous = np.tile(np.array([3, 1], dtype=np.int64), (200_000, 1))
    p = np.exp(model.log_p(Ngrams(previous, tokens, np.zeros_like(tokens))))
    assert p.sum() == pytest.approx(1, abs=1e-9)
    assert p.argmax() == 2
