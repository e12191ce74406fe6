"""Self-consistency: what final answers are, and how a vote over them counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dante.cache.consistency import (
    Boxed,
    CodeBlock,
    FirstThatFits,
    LastNumber,
    MeanSimilarity,
    NormalisedText,
    SelfConsistency,
)
from dante.errors import DanteError


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is 1,000.0 km.", "1000"),
        ("3 apples, then -2.50 euros.", "-2.5"),
        ("so x = 7.", "7"),
        ("0.0", "0"),
        ("In 1999, 12,34 is odd", "34"),
        ("none", None),
    ],
)
def test_last_number(text: str, number: str | None) -> None:
    assert LastNumber().final(text) == number


def test_boxed_and_code() -> None:
    assert Boxed().final(r"\boxed{1} then \boxed{ \frac{1}{2} }") == r"\frac{1}{2}"
    assert Boxed().final(r"\boxed{open") is None
    assert CodeBlock().final("```python\nx = 1  \n\ny = 2\n```\nand\n```\nz = 3\n```") == "z = 3"
    assert CodeBlock().final("no code") is None
    assert NormalisedText().final("  Yes, IT is!") == "yes it is"


def test_votes() -> None:
    measure = SelfConsistency(4, 0.7, None, LastNumber()).measure
    assert measure(["it is 5", "5.0", "5", "6"]) == 0.75
    assert measure(["5", "5", "6", "6"]) == 0.5
    assert measure(["5", "no idea", "none", "nothing"]) == 0.25  # those without an answer agree with nobody
    assert measure(["a", "b", "c", "d"]) == 0.25
    assert measure(["<think>1 2 3</think>5", "<think>9</think>5", "[THINK]8[/THINK]5", "5"]) == 1.0


def test_the_first_that_fits_is_the_one_that_most_samples_have() -> None:
    one = FirstThatFits([Boxed(), LastNumber(), NormalisedText()])
    assert one.agreement([r"\boxed{2} 9", r"\boxed{2} 8", r"\boxed{2} 7", "1"]) == 0.75
    assert one.agreement([r"\boxed{2}", "3", "3", "3"]) == 0.75
    assert one.agreement(["Yes.", "yes", "no", "YES!"]) == 0.75


def test_mean_similarity() -> None:
    assert MeanSimilarity().agreement(["a b", "b a", "a, b"]) == 1.0
    assert MeanSimilarity().agreement(["a b", "a c"]) == pytest.approx(1 / 3)
    assert MeanSimilarity().agreement(["a", "b"]) == 0.0


@given(st.lists(st.sampled_from(["1", "2", "x", ""]), min_size=2, max_size=6))
def test_agreement_is_a_share_and_does_not_depend_on_the_order(texts: list[str]) -> None:
    for extractor in (LastNumber(), NormalisedText(), FirstThatFits([LastNumber(), NormalisedText()])):
        value = extractor.agreement(texts)
        assert 1 / len(texts) <= value <= 1.0
        assert extractor.agreement(texts[::-1]) == value


def test_one_sample_or_greedy_ones_cannot_measure_it() -> None:
    for samples, temperature in ((1, 0.7), (4, 0.0)):
        with pytest.raises(DanteError, match="at least two samples"):
            SelfConsistency(samples, temperature, None, LastNumber())
