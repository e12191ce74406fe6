"""Sentence probabilities: exact sums over any text and tokenizer, by the bytes of the text."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dante.select.sentence_scores import SentenceScores, byte_ends, sentence_of_tokens, sentence_scores
from dante.text.sentences import Sentence, sentences
from dante.text.tokens.offsets import token_ends
from tests.test_offsets import FALLBACK, LEVEL

TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(["Sì. ", "日本。", "🙂! ", "Ab c. ", "é\n", "```\n", "  x\n", "3.1 "])).map("".join),
)


def naive(text: str, spans: list[Sentence], ends: list[int]) -> list[int]:
    """Token by token: the sentence of the character that it completes, or helps to."""
    owner = [number for number, (start, end) in enumerate(spans) for _ in text[start:end].encode()]
    found = []
    for index, end in enumerate(ends):
        start = ends[index - 1] if index else 0
        later = [e for e in ends[index:] if e > start]
        completed = later[0] if end == start and later else end
        found.append(owner[completed - 1] if completed else 0)
    return found


@pytest.mark.parametrize("tokenizer", [LEVEL, FALLBACK], ids=["bytes", "fallback"])
@given(text=TEXTS, seed=st.integers(0, 2**32 - 1))
def test_sums_are_exact_for_any_tokenizer(tokenizer: object, text: str, seed: int) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)  # type: ignore[attr-defined]
    decoded, ends = token_ends(tokenizer, ids)
    if not ids or not decoded:
        return
    spans = sentences(decoded)
    logprobs = -np.random.default_rng(seed).exponential(size=len(ids))
    found = sentence_scores(decoded, spans, ends, logprobs.tolist())
    owners = naive(decoded, spans, ends)
    assert sentence_of_tokens(byte_ends(decoded, spans), ends).tolist() == owners
    assert math.isclose(found.logprob.sum(), logprobs.sum(), rel_tol=1e-12, abs_tol=1e-12)
    assert found.tokens.sum() == len(ids)
    for number, probability in enumerate(found.probability):
        own = [value for value, owner in zip(logprobs, owners, strict=True) if owner == number]
        if own:
            assert math.isclose(probability, math.exp(sum(own) / len(own)), rel_tol=1e-12)
        else:
            assert math.isnan(probability)
    assert math.isclose(found.of_text, math.exp(logprobs.mean()), rel_tol=1e-12)


def test_a_known_case() -> None:
    """`Sì. Ok.` in tokens `S`, half of ì, `ì.`, ` O`, `k.`: the space and the half go where they are completed."""
    text, half = "Sì. Ok.", [math.log(p) for p in (0.5, 0.25, 0.125, 0.9, 0.4)]
    found = sentence_scores(text, sentences(text), [1, 1, 4, 6, 8], half)
    assert found.tokens.tolist() == [3, 2]
    assert found.probability == pytest.approx([0.25, 0.6])


def test_bytes_not_characters() -> None:
    text = "ééé. A."
    spans = sentences(text)
    assert byte_ends(text, spans).tolist() == [8, 10]
    assert sentence_scores(text, spans, [7, 8, 10], [-1.0, -1.0, -4.0]).logprob.tolist() == [-2.0, -4.0]


def test_a_sentence_in_which_no_token_ends() -> None:
    found = sentence_scores("A!\nB!\nC", sentences("A!\nB!\nC"), [2, 7], [-1.0, -3.0])
    assert found.tokens.tolist() == [1, 0, 1]
    assert found.logprob.tolist() == [-1.0, 0.0, -3.0]
    assert np.isnan(found.probability).tolist() == [False, True, False]


def test_no_tokens() -> None:
    found = sentence_scores("", [], [], [])
    assert (len(found.logprob), found.of_text) == (0, 1.0)
    assert isinstance(found, SentenceScores)
