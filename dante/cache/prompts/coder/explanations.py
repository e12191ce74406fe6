"""Ideas of programming to explain."""

import random

from dante.cache.prompts.coder.topics_file import load
from dante.cache.prompts.pocket import Prompt

TOPICS = load("explanations")
_WORDINGS_OF_A_TOPIC = 5


def prompts(draw: random.Random) -> list[Prompt]:
    """Every idea in five wordings."""
    return [
        Prompt(wording.format(topic), "knowledge", "en", "explanation")
        for topic in TOPICS["topics"]
        for wording in draw.sample(TOPICS["wordings"], _WORDINGS_OF_A_TOPIC)
    ]
