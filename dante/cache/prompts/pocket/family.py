"""What the data files are made of: a family of prompts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

MAX_PER_TEMPLATE = 12


@dataclass(frozen=True)
class Family:
    """One kind of task.

    Attributes:
        name: unique; becomes the prompt's `family`.
        domain: slice of the cache: general, knowledge, writing, code, maths or dialogue.
        language: language of the answer.
        templates: wordings; `{}` is a plain topic, `{name}` a topic's field.
        topics: strings or field mappings.
        rounds: with how many different wordings every topic is asked.
    """

    name: str
    domain: str
    language: str
    templates: Sequence[str]
    topics: Sequence[str | Mapping[str, object]]
    rounds: int = 1

    def expand(self) -> list[tuple[str, str]]:
        """All (template, prompt) pairs: topic i meets template i first, so that uses are spread evenly."""
        pairs = []
        for turn in range(self.rounds):
            for i, topic in enumerate(self.topics):
                template = self.templates[(i + turn * (1 + i // len(self.templates))) % len(self.templates)]
                text = template.format(topic) if isinstance(topic, str) else template.format(**topic)
                pairs.append((template, text))
        return pairs


def load_topics(name: str) -> dict[str, list[Any]]:
    """The topic lists of one data file, `topics/<name>.json`."""
    text = files("dante.cache.prompts.pocket").joinpath("topics", f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)
