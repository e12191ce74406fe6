"""Four-way choice of the right continuation: the teacher's answer against its answers to prompts of the same kind.

An item is one held-out record. Its question is the prompt, its right option the teacher's text, its three wrong options
the teacher's texts of other prompts. A model picks the option it finds most likely (`harness.py`), so the task asks
whether a model's answer depends on the question, which bits per byte cannot tell from knowing the style.

Everything here is [I]; the reasons:

- Wrong options come from the same task family and language: a code block or a list of four steps says what kind of
  question it answers. Where a family has fewer than four texts, the domain takes its place; every item says which level
  it used.
- Every option is cut by the same rule, at the last sentence or line end within `characters`: it bounds what an item
  costs, and what separates right from wrong is the beginning of an answer, not how long the teacher went on. The
  end-of-turn token is no part of an option.
- Length must not give the answer away. The family's texts stand in order of length, the right one among them, and four
  neighbours of that order become the options, the right one first, second, third or last of the four with equal
  probability (at the two ends of the order only as far as there are neighbours). Taking the three *nearest* instead
  would make "neither the shortest nor the longest" a winning rule.
- Texts come from held-out and train prompts. A student has been trained on some of the wrong options (under their own
  prompts) and never on the right one, so its score errs on the low side.

The right option is the teacher's own, usually greedy, answer, so the teacher's score is a ceiling by construction and
no measure of its quality; and a wrong option may answer the question as well ("17 is a prime number."). On 120 items
of the pocket cache at 200 characters, bfloat16, `acc` is 0.97 for the teacher, 0.37 for the pruned student before
training and 0.59 for one after it; at 100 characters 0.99, 0.37 and 0.70. One standard error is at most 0.05.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from dante.cache import Record
from dante.cache.records.record import prompt_hash
from dante.errors import DanteError
from dante.evaluate.items import by_hash

OPTIONS = 4

# Where wrong options may come from, closest first. A record without a family has no family level.
LEVELS: dict[str, Callable[[Record], Hashable]] = {
    "family": lambda record: record.family and (record.family, record.language),
    "domain": lambda record: (record.domain, record.language),
}

# The end of a sentence (not the dot of a numbered line) with what closes it, or of a line.
_SENTENCE_END = re.compile(r"(?<!\d)[.!?]['\"”’)\]*`]*(?=\s)|(?=\n)")
_SPACE = re.compile(r"(?=\s)")


@dataclass(frozen=True)
class ChoiceItem:
    """One question with four options.

    Attributes:
        id: of the held-out record.
        question: the prompt's one user message.
        options: what may follow it, cut; all different.
        gold: index of the right option.
        level: where the wrong options come from, `family` or `domain`.
        sources: ids of the records the options come from, in the same order.
    """

    id: str
    question: str
    options: list[str]
    gold: int
    level: str
    sources: list[str]


@dataclass(frozen=True)
class ChoiceSet:
    """Items, and which records could not be one.

    Attributes:
        items: in the order of the records' hashes.
        left_out: records that make no item, counted by reason: `conversation` (more than one message) and
            `few_candidates` (fewer than three other texts at every level).
        characters: at most this many in an option.
        seed: of wrong options and of the right one's place.
    """

    items: list[ChoiceItem]
    left_out: dict[str, int]
    characters: int
    seed: int

    @property
    def levels(self) -> dict[str, int]:
        """Number of items by the level of their wrong options."""
        return dict(Counter(item.level for item in self.items))


def choice_items(
    records: Sequence[Record], pool: Sequence[Record], count: int | None, seed: int, *, characters: int
) -> ChoiceSet:
    """Items of held-out records; a function of the records and the seed alone, not of any order.

    Args:
        records: held-out records. Those that come first by hash are taken, whatever the seed, as `heldout.select` does.
        pool: every record whose text may be a wrong option, `records` included.
        count: most items to make, None for all.
        seed: decides wrong options and the right option's place, for each item by itself: fewer items are the
            first of more.
        characters: at most this many in an option.

    Raises:
        DanteError: not a single record makes an item.
    """
    shelves = _shelves([*records, *pool], characters)
    items: list[ChoiceItem] = []
    left_out: Counter[str] = Counter()
    for record in by_hash(records):
        question = _question(record)
        if question is None:
            left_out["conversation"] += 1
            continue
        item = _item(record, question, shelves, seed, characters)
        if item is None:
            left_out["few_candidates"] += 1
        else:
            items.append(item)
    if not items:
        raise DanteError(
            f"none of {len(records)} held-out records makes a four-way choice ({dict(left_out)})",
            where="eval.choices",
            allowed="prompts of one user message, with three other texts of the same family, or domain, and language",
            fix="hold out more prompts, or set eval.choices=0",
        )
    return ChoiceSet(items[:count], dict(sorted(left_out.items())), characters, seed)


def cut(text: str, characters: int) -> str:
    """The beginning of a text, to the last end of a sentence or line within `characters`.

    Where the first half has the last such end, the last white space is taken, and without one the limit itself.
    """
    text = text.strip()
    if len(text) <= characters:
        return text
    for ending in (_SENTENCE_END, _SPACE):
        # What follows an ending is looked at, too: one place beyond the limit.
        ends = [match.end() for match in ending.finditer(text, 0, characters + 1)]
        if ends and ends[-1] > characters / 2:
            return text[: ends[-1]].rstrip()
    return text[:characters].rstrip()


_Shelf = dict[str, tuple[str, str]]  # cut text -> (hash of the prompt, id of the record)


def _shelves(pool: Sequence[Record], characters: int) -> dict[tuple[str, Hashable], _Shelf]:
    """Different texts by level and key. Of records with one text, the first by hash stands for all."""
    shelves: dict[tuple[str, Hashable], _Shelf] = defaultdict(dict)
    for record in by_hash(list({record.id: record for record in pool}.values())):
        text = cut(record.teacher_text, characters)
        for level, key in LEVELS.items():
            if key(record):
                shelves[level, key(record)].setdefault(text, (prompt_hash(record.prompt), record.id))
    return shelves


def _item(
    record: Record, question: str, shelves: dict[tuple[str, Hashable], _Shelf], seed: int, characters: int
) -> ChoiceItem | None:
    right = cut(record.teacher_text, characters)
    rng = np.random.default_rng([seed, *hashlib.sha256(record.id.encode()).digest()])
    for level, key in LEVELS.items():
        shelf = shelves.get((level, key(record)), {}) if key(record) else {}
        # Another sample of the same prompt is a right answer, too.
        own_prompt_hash = prompt_hash(record.prompt)
        others = [text for text, (prompt, _) in shelf.items() if text != right and prompt != own_prompt_hash]
        if len(others) >= OPTIONS - 1:
            wrong = _neighbours(right, others, rng)
            gold = int(rng.integers(OPTIONS))
            options = [*wrong[:gold], right, *wrong[gold:]]
            sources = [record.id if text == right else shelf[text][1] for text in options]
            return ChoiceItem(record.id, question, options, gold, level, sources)
    return None


def _neighbours(right: str, others: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Three texts that stand beside the right one in the order of length, the right one's rank of the four at random.

    Equal lengths are ordered at random, anew for each item; the three come back in random order.
    """
    texts = [right, *others]
    # By place in a sorted list, so that the result depends on the texts and not on how they are held.
    texts.sort()
    shuffled = [texts[index] for index in rng.permutation(len(texts))]
    shuffled.sort(key=len)
    at = shuffled.index(right)
    first = int(np.clip(at - rng.integers(OPTIONS), 0, len(shuffled) - OPTIONS))
    window = [text for text in shuffled[first : first + OPTIONS] if text != right]
    return [window[index] for index in rng.permutation(len(window))]


def _question(record: Record) -> str | None:
    """The prompt's one user message, or None where there are more."""
    if isinstance(record.prompt, str):
        return record.prompt
    only = record.prompt[0] if len(record.prompt) == 1 else {}
    return only.get("content") if only.get("role") == "user" else None
