"""Self-consistency: what final answers are, and how a vote over them counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dante.cache.generate.consistency import (
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
        ("12,34 euro", "12.34"),
        ("0,125 g", "0.125"),
        ("choose 1,2,3", "3"),
        ("1,234,567", "1234567"),
        ("x is .5", "0.5"),
        ("the years 2020-2021", "2021"),
        ("GPT-4", "4"),
        ("= −5", "-5"),
        ("1 000 km with a narrow space: 1\u202f000", "1000"),
        ("about 1e-5 m", "0.00001"),
        ("version 3.11.2", "2"),
        ("none", None),
    ],
)
def test_last_number(text: str, number: str | None) -> None:
    assert LastNumber().final(text) == number


def test_long_numbers_that_differ_in_one_digit_are_two_answers() -> None:
    number = 2**100
    assert LastNumber().final(f"2^100 = {number:,}") == str(number)
    assert LastNumber().final(str(number + 1)) == str(number + 1)


@given(st.integers(-(10**40), 10**40), st.integers(0, 6))
def test_every_way_to_write_a_number_is_the_same_answer(number: int, zeros: int) -> None:
    written = [f"{number}", f"{number:,}", f"{number}.{'0' * (zeros + 1)}", f"so {number:,}. ", f"{number} km"]
    assert {LastNumber().final(text) for text in written} == {str(number)}
    # the boxed number may have TeX's spaces, the sign is never lost
    assert Boxed().final(rf"\boxed{{\, {number:,}\!.0 }}".replace(r"\!", "")) == str(number)


def test_boxed_and_code() -> None:
    assert Boxed().final(r"\boxed{1} then \boxed{ \frac{1}{2} }") == r"\frac{1}{2}"
    assert Boxed().final(r"\boxed{open") is None
    assert CodeBlock().final("```python\nx = 1  \n\ny = 2\n```\nand\n```\nz = 3\n```") == "z = 3"
    assert CodeBlock().final("no code") is None
    assert Boxed().final(r"\boxed{\left\{ 1, 2 \right\}}") == r"\{1,2\}"
    assert Boxed().final(r"\boxed{\dfrac{1}{2}}") == Boxed().final(r"\boxed{ \frac{1}{2} }")
    assert Boxed().final(r"\boxed{\{}") == r"\{"  # a printed brace groups nothing
    assert NormalisedText().final("  Yes, IT is!") == "yes it is"
    assert NormalisedText().final("- **Yes**, it `is`.") == "yes it is"
    assert NormalisedText().final("x > 3") != NormalisedText().final("x < 3")
    assert NormalisedText().final("−5") == NormalisedText().final("-5") != NormalisedText().final("5")
    assert NormalisedText().final("3.5") != NormalisedText().final("35")


def test_votes() -> None:
    measure = SelfConsistency(4, 0.7, None, LastNumber()).measure
    assert measure(["it is 5", "5.0", "5", "6"]) == 0.75
    assert measure(["5", "5", "6", "6"]) == 0.5
    assert measure(["5", "no idea", "none", "nothing"]) == 0.25  # those without an answer agree with nobody
    assert measure(["a", "b", "c", "d"]) == 0.25
    assert measure(["<think>1 2 3</think>5", "<think>9</think>5", "[THINK]8[/THINK]5", "5"]) == 1.0


def test_samples_that_never_stop_thinking_agree_with_nobody() -> None:
    extractor = FirstThatFits([Boxed(), LastNumber(), MeanSimilarity()])
    measure = SelfConsistency(4, 0.7, None, extractor).measure
    assert measure(["<think>a 1", "<think>b 1", "<think>c", "<think>d"]) == 0.0
    assert measure(["<think>x</think>yes", "yes", "<think>a", "<think>b"]) == pytest.approx(1 / 6)
    with pytest.raises(DanteError, match="no extractors"):
        FirstThatFits([])


def test_the_first_that_fits_is_the_one_that_most_samples_have() -> None:
    one = FirstThatFits([Boxed(), LastNumber(), NormalisedText()])
    assert one.agreement([r"\boxed{2} 9", r"\boxed{2} 8", r"\boxed{2} 7", "1"]) == 0.75
    assert one.agreement([r"\boxed{2}", "3", "3", "3"]) == 0.75
    assert one.agreement(["Yes.", "yes", "no", "YES!"]) == 0.75
    assert one.agreement([r"\boxed{2} 3", r"\boxed{2} 3", "3", "3"]) == 1.0  # half of them are not most


def test_mean_similarity() -> None:
    assert MeanSimilarity().agreement(["a b", "b a", "a, b"]) == 1.0
    assert MeanSimilarity().agreement(["a b", "a c"]) == pytest.approx(1 / 3)
    assert MeanSimilarity().agreement(["a", "b"]) == 0.0
    assert MeanSimilarity().agreement(["我喜欢茶", "我喜欢水"]) == pytest.approx(3 / 5)


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
