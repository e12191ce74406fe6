"""The same prompts answered by several models: what is shown, how it is marked, and why answers did not stop."""

import re
from typing import Any

from dante.report.evaluation import details
from dante.report.read import Json, Run
from dante.report.words import MODELS, sentence, the

# Where the evaluation does not say which answers looped: an answer that ran into the limit did when at least this share
# of its 4-grams had been written before.
LOOPING = 0.5
# Words of a shown answer are marked where the last so many words stood in it before.
MARKED_WORDS = 4


def shown(run: Run, count: int) -> list[Json]:
    """The first so many prompts in file order, with a flag and marked repetitions per answer."""
    return [_line(line) for line in run.generations[:count]]


def cached_side(run: Run) -> str:
    """Whose answer the cached text is."""
    if not any("cache" in line["answers"] for line in run.generations):
        return "The teacher's side is the cached text."
    writer = (run.cache.get("teacher") or {}).get("name", "another model")
    return f"Cached answers are by {writer}, which wrote the cache and is not the teacher."


def summary(run: Run) -> list[str]:
    """One sentence per model: how many of all asked prompts it ended by itself, and why the others did not end."""
    limit = details(run.evaluation, "max_new_tokens").get("student")
    within = f" within {limit} tokens" if limit else ""
    texts = []
    for model in dict.fromkeys(name for line in run.generations for name in line["answers"]):
        answers = [line["answers"][model] for line in run.generations if model in line["answers"]]
        if any(answer.get("tokens") is None for answer in answers):
            continue  # cached text: nobody asked this model here
        cut = [answer for answer in answers if not answer["stopped"]]
        stopped = len(answers) - len(cut)
        text = (
            f"{the(model)} ended {stopped} of {len(answers)} answers by itself{within} ({stopped / len(answers):.0%})"
        )
        loops = [loop for answer in cut if (loop := looped(answer)) is not None]
        if cut and len(loops) == len(cut):
            text += f"; of the other {len(cut)}, {sum(loops)} looped and {len(cut) - sum(loops)} went on without a loop"
        texts.append(sentence(text) + ".")
    return texts


def looped(answer: Json) -> bool | None:
    """Whether an answer that did not stop ran into a loop; None where nothing tells."""
    if "looped" in answer:
        return bool(answer["looped"])
    return None if answer.get("repetition") is None else answer["repetition"] >= LOOPING


def what_loops(run: Run) -> str:
    """What counts as a loop: the rule that the evaluation ended answers by, or the threshold that stands in for it."""
    if any("looped" in answer for line in run.generations for answer in line["answers"].values()):
        rule = next(iter(details(run.evaluation, "loop").values()), None)
        if rule is None:
            return "An answer that repeated itself was ended there and counts as looping."
        return (
            "An answer was ended and counts as looping when the same "
            f"{rule['min_tokens']} to {rule['max_tokens']} tokens had come {rule['count']} times in a row."
        )
    return (
        "An answer that ran into the limit counts as looping when at least "
        f"{LOOPING:.0%} of its 4-grams of tokens had been written before."
    )


def flag(answer: Json) -> tuple[str, str]:
    """What became of an answer: (kind for its colour, words)."""
    if answer.get("tokens") is None:
        return "cached", "cached text" + ("" if answer["stopped"] else ", which did not end by itself")
    repetition = answer.get("repetition")
    share = "" if repetition is None else f", {repetition:.0%} of its 4-grams repeat"
    if answer["stopped"]:
        return "stopped", "stopped by itself" + (share if repetition is not None and repetition >= LOOPING else "")
    if looped(answer):
        where = "looping, ended there" if "looped" in answer else "looping, cut at the limit"
        return "looping", where + share
    return "cut", f"cut at the limit{share}"


def marked(text: str) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it repeats: its words end a run of four that stood there before.

    Words here are what stands between spaces: a reading aid beside `repetition`, which counts tokens.
    """
    words = re.findall(r"\s*\S+|\s+$", text)
    repeated = [False] * len(words)
    seen: set[tuple[str, ...]] = set()
    for end in range(MARKED_WORDS, len(words) + 1):
        run = tuple(word.strip() for word in words[end - MARKED_WORDS : end])
        if run in seen:
            repeated[end - MARKED_WORDS : end] = [True] * MARKED_WORDS
        seen.add(run)
    pieces: list[tuple[str, bool]] = []
    for word, flagged in zip(words, repeated, strict=True):
        if pieces and pieces[-1][1] == flagged:
            pieces[-1] = (pieces[-1][0] + word, flagged)
        else:
            pieces.append((word, flagged))
    return pieces


def _line(line: Json) -> Json:
    prompt = line["prompt"]
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return line | {"turns": turns, "answers": [_answer(model, answer) for model, answer in line["answers"].items()]}


def _answer(model: str, answer: Json) -> dict[str, Any]:
    kind, words = flag(answer)
    facts = {"model": model, "name": MODELS.get(model, model), "kind": kind, "flag": words}
    return answer | facts | {"pieces": marked(answer["text"]), "tokens": answer.get("tokens")}
