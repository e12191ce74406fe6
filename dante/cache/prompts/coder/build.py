"""Families → a shuffled list of unique prompts, in fixed shares of kinds."""

import random

from dante.cache.prompts.coder import explanations, functions, problems
from dante.cache.prompts.pocket import Prompt
from dante.errors import DanteError

# Of ten prompts in a row: what a student of a coder has to learn most stands most often.
SHARES = {"code": 6, "maths": 2, "knowledge": 2}


def build_prompts(count: int | None, seed: int) -> list[Prompt]:
    """The first `count` prompts (all of them when None); a shorter list begins a longer one, in the same shares.

    Args:
        count: how many.
        seed: of their order, of numbers and of wordings.

    Raises:
        DanteError: there are not so many.
    """
    draw = random.Random(seed)
    kinds = {
        "code": functions.prompts(draw),
        "maths": problems.prompts(draw),
        "knowledge": explanations.prompts(draw),
    }
    queues = {}
    for kind, prompts in kinds.items():
        unique = list({prompt.prompt: prompt for prompt in prompts}.values())
        draw.shuffle(unique)
        queues[kind] = unique
    rounds = min(len(queue) // SHARES[kind] for kind, queue in queues.items())
    ordered = []
    for turn in range(rounds):
        block = [p for kind, share in SHARES.items() for p in queues[kind][turn * share : (turn + 1) * share]]
        draw.shuffle(block)
        ordered += block
    if count is None:
        return ordered
    if not 0 < count <= len(ordered):
        raise DanteError(f"{count} prompts are asked for", where="prompts.count", allowed=f"1 to {len(ordered)}")
    return ordered[:count]
