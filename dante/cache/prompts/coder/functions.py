"""Python functions to write: composed of a part of what is given and an action, and some that were written by hand."""

import random

from dante.cache.prompts.coder.topics_file import load
from dante.cache.prompts.pocket import Prompt

TOPICS = load("functions")
_WORDINGS_OF_COMPOSED, _WORDINGS_OF_WRITTEN = 2, 6


def prompts(draw: random.Random) -> list[Prompt]:
    """Every composed function in two wordings, every written one in all six."""
    found = []
    for group in TOPICS["composed"]:
        for part, part_words in group["parts"]:
            for action, action_words in group["actions"]:
                task = action_words.format(part=part_words, given=group["given"])
                for wording in draw.sample(TOPICS["wordings"], _WORDINGS_OF_COMPOSED):
                    found.append(_prompt(wording, f"{action}_{part}", group["argument"], task, "function"))
    for name, arguments, task in TOPICS["written"]:
        for wording in draw.sample(TOPICS["wordings"], _WORDINGS_OF_WRITTEN):
            found.append(_prompt(wording, name, arguments, task, "algorithm"))
    return found


def _prompt(wording: str, name: str, arguments: str, task: str, family: str) -> Prompt:
    docstring = task[0].upper() + task[1:]
    text = wording.format(name=name, arguments=arguments, task=task, Task_docstring=docstring)
    return Prompt(text, "code", "en", family)
