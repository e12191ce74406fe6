"""Families and generators → a shuffled list of unique prompts."""

import random
from dataclasses import dataclass

from dante.cache.prompts.pocket import code, dialogue, italian, knowledge, maths, passages, practical, writing
from dante.cache.prompts.pocket.family import Family
from dante.errors import DanteError

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Prompt:
    """One prompt: text or chat messages, its slice, a given beginning of its answer, and what is right, if known."""

    prompt: str | Messages
    domain: str
    language: str
    family: str
    prefix: str = ""
    reference: str = ""


def families(seed: int) -> list[Family]:
    """All families; those with generated numbers and names depend on the seed."""
    fixed = [*knowledge.FAMILIES, *practical.FAMILIES, *writing.FAMILIES, *code.FAMILIES, *italian.FAMILIES]
    return [*fixed, *passages.families(seed), *maths.families(seed), *italian.generated(seed), *dialogue.FAMILIES]


def build_prompts(count: int | None, seed: int) -> list[Prompt]:
    """The first `count` prompts of the seeded shuffle (all of them when None); a shorter list begins a longer one."""
    prompts = [Prompt(text, f.domain, f.language, f.name) for f in families(seed) for _, text in f.expand()]
    prompts += [Prompt(messages, "dialogue", language, family) for messages, language, family in dialogue.multi_turn()]
    unique: dict[str, Prompt] = {}
    for prompt in prompts:
        unique.setdefault(str(prompt.prompt), prompt)
    ordered = list(unique.values())
    random.Random(seed).shuffle(ordered)
    if count is None:
        return ordered
    if not 0 < count <= len(ordered):
        raise DanteError(f"{count} prompts are asked for", where="prompts.count", allowed=f"1 to {len(ordered)}")
    return ordered[:count]
