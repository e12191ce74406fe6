"""Four-way items: what is asked, what may be wrong, and that neither place nor length betrays the right option."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dante.cache import Record, read_records
from dante.cache.shipped import POCKET
from dante.errors import DanteError
from dante.evaluate.suites.continuation.choices import ChoiceItem, choice_items, cut

LONG = 10_000


def record(name: str, text: str, family: str | None = "f", prompt: object = None, **fields: object) -> Record:
    values = {"domain": "d", "language": "en"} | fields
    return Record(name, prompt or f"Prompt of {name}?", text, 0.5, family=family, **values)  # type: ignore[arg-type]


def family(name: str, count: int, **fields: object) -> list[Record]:
    return [record(f"{name}-{i}", f"{name} says x" + "x" * i, family=name, **fields) for i in range(count)]


def one(records: list[Record], name: str, pool: list[Record], seed: int = 0) -> ChoiceItem:
    chosen = [r for r in records if r.id == name]
    (item,) = choice_items(chosen, pool, None, seed, characters=LONG).items
    return item


def test_an_item_is_the_prompt_its_answer_and_three_answers_of_the_same_family() -> None:
    records = family("a", 9) + family("b", 9)
    by_id = {r.id: r for r in records}
    chosen = choice_items(records, records, None, 3, characters=LONG)
    assert {item.id for item in chosen.items} == set(by_id)
    for item in chosen.items:
        right = by_id[item.id]
        assert item.question == right.prompt
        assert item.options[item.gold] == right.teacher_text
        assert item.sources[item.gold] == item.id
        assert item.options == [by_id[source].teacher_text for source in item.sources]
        assert len(set(item.options)) == 4
        assert {by_id[source].family for source in item.sources} == {right.family}
    assert chosen.levels == {"family": 18}
    assert chosen.left_out == {}


def test_another_language_of_the_family_is_no_candidate() -> None:
    english = family("a", 4)
    italian = [record(f"it{i}", "ciao " * (i + 1), family="a", language="it") for i in range(4)]
    for r in english + italian:
        item = one(english + italian, r.id, english + italian)
        assert all(source.startswith("it") == r.id.startswith("it") for source in item.sources)


def test_a_small_family_falls_back_to_its_domain_and_language_and_says_so() -> None:
    small, big = family("small", 3), family("big", 9)
    other = family("far", 9, domain="elsewhere") + family("it", 9, language="it")
    item = one(small, "small-0", small + big + other)
    assert item.level == "domain"
    assert all(source.startswith(("small", "big")) for source in item.sources)
    # A fourth text makes the family large enough: the domain is not asked any more.
    enough = small + [record("small-3", "one more", family="small")]
    assert one(small, "small-0", enough + big + other).level == "family"


def test_texts_are_counted_once_and_after_the_cut() -> None:
    """Four records of three different beginnings are three texts."""
    texts = ["Same start here. And one end.", "Same start here. And another.", "Two two two two.", "Three three."]
    records = [record(f"r{i}", text) for i, text in enumerate(texts)]
    with pytest.raises(DanteError, match="none of 4 held-out records"):
        choice_items(records, records, None, 0, characters=18)
    assert len(choice_items(records, records, None, 0, characters=LONG).items) == 4


def test_another_answer_to_the_same_prompt_is_not_wrong() -> None:
    samples = [record(f"s{i}", f"sample {i}", prompt="The question?", sample_index=i) for i in range(8)]
    others = [record(f"o{i}", f"other {i} " + "x" * 80) for i in range(3)]
    item = one(samples, "s0", samples + others)
    assert sorted(item.sources) == ["o0", "o1", "o2", "s0"]


def test_what_makes_no_item_is_counted() -> None:
    talk = [{"role": role, "content": "Hi"} for role in ("user", "assistant", "user")]
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    single = [{"role": "user", "content": "Only me?"}]
    records = [
        *family("a", 5),
        record("talk", "t1", "a", talk),
        record("system", "t2", "a", system),
        record("single", "t3", "a", single),
        record("alone", "alone", "none", domain="nowhere"),
    ]
    chosen = choice_items(records, records, None, 0, characters=LONG)
    assert chosen.left_out == {"conversation": 2, "few_candidates": 1}
    assert {item.id for item in chosen.items} == {"a-0", "a-1", "a-2", "a-3", "a-4", "single"}
    assert next(item for item in chosen.items if item.id == "single").question == "Only me?"


def test_the_cards_five_fields_are_enough() -> None:
    records = [Record(f"r{i}", f"p{i}", f"text {i}", 0.1) for i in range(5)]
    assert choice_items(records, records, None, 0, characters=LONG).levels == {"domain": 5}


def test_items_depend_on_records_and_seed_and_not_on_order_or_count() -> None:
    records = family("a", 30) + family("b", 12)
    # Every text of the pool twice: which record stands for it must not depend on the order either.
    pool = [record(f"{name}{i}", "more " + "y" * i, family="a") for name in ("more", "twin") for i in range(30)]
    first = choice_items(records, pool, None, 5, characters=LONG)
    shuffled = [random.Random(1).sample(group, len(group)) for group in (records, pool)]
    assert choice_items(*shuffled, None, 5, characters=LONG) == first
    assert choice_items(records, pool, 7, 5, characters=LONG).items == first.items[:7]
    other = choice_items(records, pool, None, 6, characters=LONG)
    assert [item.id for item in other.items] == [item.id for item in first.items]
    assert [item.sources for item in other.items] != [item.sources for item in first.items]


def test_neither_the_place_nor_the_rank_in_length_betrays_the_right_option() -> None:
    """Chance is 25 %; 800 draws put a fair rule between 19 % and 31 % in all but one of 10,000 cases."""
    records = family("a", 800)
    items = choice_items(records, records, None, 0, characters=LONG).items
    lengths = np.array([[len(option) for option in item.options] for item in items])
    gold = np.array([item.gold for item in items])
    ranks = (lengths < lengths[np.arange(len(items)), gold][:, None]).sum(1)
    for found in (Counter(gold.tolist()), Counter(ranks.tolist())):
        assert set(found) == {0, 1, 2, 3}
        assert all(0.19 < share / len(items) < 0.31 for share in found.values()), found
    assert (lengths.max(1) - lengths.min(1)).max() == 3  # neighbours among the lengths that there are


def test_equal_lengths_do_not_favour_a_text() -> None:
    """Forty texts of one length: every one of them is a wrong option about equally often, not the first few."""
    records = [record(f"r{i:02}", f"text {i:02}") for i in range(40)]
    used = Counter(
        source
        for seed in range(20)
        for item in choice_items(records, records, None, seed, characters=LONG).items
        for source in item.sources
        if source != item.id
    )
    assert len(used) == 40
    assert max(used.values()) < 2 * min(used.values())


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("Short.", 20, "Short."),
        ("  white space  ", 20, "white space"),
        ("One two. Three four five.", 12, "One two."),
        ("Exactly twelve", 14, "Exactly twelve"),
        ("Ends here ok. More.", 13, "Ends here ok."),
        ('He said "go." Then he went.', 16, 'He said "go."'),
        ("a line of text\nanother line", 20, "a line of text"),
        ("Steps are these\n1. Cook it", 19, "Steps are these"),
        ("A. one two three four five", 16, "A. one two three"),
        ("version 3.11 of it is out", 14, "version 3.11"),
        ("unbreakableword", 6, "unbrea"),
        ("Perché è così. E poi?", 15, "Perché è così."),
    ],
)
def test_cut(text: str, limit: int, expected: str) -> None:
    assert cut(text, limit) == expected


@given(st.text(alphabet="ab .\n!è1", min_size=1), st.integers(1, 40))
def test_a_cut_is_a_beginning_within_the_limit_and_cutting_again_changes_nothing(text: str, limit: int) -> None:
    found = cut(text, limit)
    assert text.strip().startswith(found)
    assert len(found) <= limit
    assert bool(found) == bool(text.strip())
    assert found == found.strip()
    assert cut(found, limit) == found


def test_the_pocket_cache_makes_items_of_its_families() -> None:
    heldout, everything = read_records(POCKET, split="heldout"), read_records(POCKET)
    chosen = choice_items(heldout, everything, None, 0, characters=100)
    conversations = sum(not isinstance(r.prompt, str) for r in heldout)
    assert chosen.left_out == {"conversation": conversations}
    assert chosen.levels == {"family": len(heldout) - conversations}
    lengths = np.array([[len(option) for option in item.options] for item in chosen.items])
    gold = np.array([item.gold for item in chosen.items])
    # "Take the longest" and "take the shortest" are worth no more than a guess, within three standard errors.
    for rule in (lengths.argmax(1), lengths.argmin(1)):
        assert abs(np.mean(rule == gold) - 0.25) < 3 * np.sqrt(0.25 * 0.75 / len(gold))
