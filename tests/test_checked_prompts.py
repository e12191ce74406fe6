"""Questions with one right answer: what is right, and whether an answer is."""

import re
from pathlib import Path

import pytest

from dante.cache import read_records
from dante.cache.grading import is_correct
from dante.cache.prompts.checked import PROBLEMS, CheckedPrompts
from dante.cache.prompts.sources import JsonlPrompts
from dante.cache.records.record import parse_record
from dante.errors import DanteError
from dante.run.step import Step
from tests.test_cache_generated import Counted, source, teacher

__all__ = ["teacher"]  # a fixture


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("2 + 2 is 4.", "4", True),
        ("So it is **1,000.0** km", "1000", True),
        ("It is 4, not 5", "4", False),  # the last number counts
        ("It is four.", "4", False),
        ("-3", "3", False),
        ("<think>\nMaybe 5?\n</think>\n\nIt is 4", "4", True),
        ("<think>\nIt is 4\n</think>\n\nI do not know.", "4", False),
        ("The answer is:\n\n**Paris!**", "paris", True),
        ("Paris, or Rome", "Paris", False),
        ("…\nNew  York.\n\n---\n", "New York", True),
        ("", "4", False),
        ("words", "", False),
    ],
)
def test_an_answer_is_judged_by_its_end(text: str, reference: str, right: bool) -> None:
    assert is_correct(text, reference) is right


def test_what_is_right_is_right() -> None:
    """By a second road: the numbers of the question, and the words that say what to do with them."""
    prompts = CheckedPrompts(300, seed=1).load()
    assert len({prompt.prompt for prompt in prompts}) == 300
    for prompt in prompts:
        text = str(prompt.prompt)
        n, right = [int(number) for number in re.findall(r"\d+", text)], int(prompt.reference)
        if "divided" in text or "shares" in text:
            assert n[0] == right * n[1]
        elif len(n) == 3:
            assert sum(n) == right
        elif "next" in text:
            assert right - n[3] == n[3] - n[2] == n[1] - n[0]
        elif "weeks" in text:
            assert 7 * n[0] + n[1] == right
        elif "twice" in text:
            assert n[0] * 2 + n[1] == right
        elif any(word in text for word in ("times", "boxes", "A ticket")):
            assert n[0] * n[1] == right
        elif any(word in text for word in (" - ", "gives")):
            assert n[0] - n[1] == right > 0
        else:
            assert n[0] + n[1] == right


def test_wordings_are_equally_frequent_and_a_seed_decides() -> None:
    first, again, other = (CheckedPrompts(30, seed).load() for seed in (0, 0, 1))
    assert first == again != other
    starts = [problem.text.split("{")[0] for problem in PROBLEMS]
    assert all(any(str(prompt.prompt).startswith(start) for prompt in first) for start in starts if start)
    with pytest.raises(DanteError, match="not 100000 different problems"):
        CheckedPrompts(100_000, 0).load()


def test_records_say_whether_they_are_right(teacher: Path, tmp_path: Path) -> None:
    lines = ['{"prompt": "What is 1 + 1?", "reference": "2"}', '{"prompt": "Why?"}'] + [
        f'{{"prompt": "Say {number}.", "reference": "the"}}' for number in range(20)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    prompts = JsonlPrompts(str(tmp_path / "prompts.jsonl"), "MIT")
    made = source(Counted(), heldout=2, validation=1, prompts=prompts)
    made.build(Step("cache", "cache", {}, {"store": str(tmp_path / "s")}, {"teacher": teacher}, tmp_path / "c", "", 7))
    records = read_records(tmp_path / "c")
    assert all((record.reference is None) == (record.correct is None) for record in records)
    assert sum(record.correct is not None for record in records) >= len(records) - 1
    for record in records:
        if record.reference is not None:
            assert record.correct == is_correct(record.teacher_text, record.reference)


def test_a_field_that_is_no_verdict_is_refused() -> None:
    line = {
        "prompt": "a",
        "teacher_text": "b",
        "output_entropy": 0.1,
        "self_consistency": None,
        "difficulty_score": None,
    }
    assert parse_record(line | {"correct": True, "reference": "b"}).correct is True
    for wrong in ({"correct": 1}, {"correct": "yes"}, {"reference": 4}):
        with pytest.raises(Exception, match=next(iter(wrong))):
            parse_record(line | wrong)
