"""Where student and teacher part: a few held-out answers, each token coloured by KL(teacher ‖ student).

Steps of one hue that differ in lightness: told apart without colour vision and in print, where lines below the tokens
say the same.
"""

import math
import unicodedata
from typing import Any, NamedTuple

from dante.report.evaluation import MAIN
from dante.report.read import Json, Run
from dante.report.words import MODELS

# Upper ends of the colour steps in nats; the last step is open.
STEPS_NATS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
# (paper, ink) of every step but the first, which has no colour.
LIGHT = (("#ece9f5", "#1d2733"), ("#d3cfe8", "#1d2733"), ("#b4add8", "#1d2733"), ("#9189c4", "#14181f"),
         ("#6a51a3", "#ffffff"), ("#3f0f7a", "#ffffff"))  # fmt: skip
DARK = (("#2c2753", "#ffffff"), ("#3f3672", "#ffffff"), ("#574a94", "#ffffff"), ("#7363b8", "#ffffff"),
        ("#a99be4", "#14181f"), ("#dcd4ff", "#14181f"))  # fmt: skip
# As many tokens of an answer are named below it.
NAMED = 3
# Models in the order of the page: the first one sorts the answers, the others are folded.
ORDER = ("student", "init")


class Piece(NamedTuple):
    """One token as the page shows it.

    Attributes:
        parts: its text in parts, each with whether it is a mark that stands for something that cannot be seen.
        step: which of the colour steps, from 0.
        title: what is told of it.
    """

    parts: list[tuple[str, bool]]
    step: int
    title: str


def page(run: Run) -> Json | None:
    """What the page shows, as plain values; None where the evaluation kept no tokens."""
    if not run.tokens:
        return None
    answers = sorted((_answer(line) for line in run.tokens), key=lambda one: -one["models"][0]["mean"])
    return {
        "answers": answers,
        "steps": step_names(),
        "light": LIGHT,
        "dark": DARK,
        "of": len(run.items.get(MAIN, [])),
    }


def sentence(run: Run) -> str:
    """Which answers the page shows; empty where there is none."""
    if not run.tokens:
        return ""
    shown, of = len(run.tokens), len(run.items.get(MAIN, []))
    return (
        f"{shown} of {of} held-out answers, chosen by the hashes of their ids and the same for every model, token by "
        "token: how far the student is from the teacher at each, and what either would have said."
    )


def step_names() -> list[str]:
    """What the colour steps stand for."""
    starts = (0.0, *STEPS_NATS)
    return [f"{start:g}–{end:g}" for start, end in zip(starts, STEPS_NATS, strict=False)] + [f"> {STEPS_NATS[-1]:g}"]


def step_of(kl_nats: float) -> int:
    """The colour step of a token."""
    return sum(kl_nats > limit for limit in STEPS_NATS)


def visible(text: str) -> list[tuple[str, bool]]:
    """A token's text in parts, each with whether it is a mark.

    Line breaks and tabs are marked, spaces where nothing else is there, and characters that have no shape or turn the
    direction of what follows are written as their number: nothing that a model wrote is invisible.
    """
    parts: list[tuple[str, bool]] = []
    blank = not text.strip(" \n\t")
    for character in text:
        mark = _mark(character, blank)
        shown = character if mark is None else mark
        if parts and parts[-1][1] == (mark is not None):
            parts[-1] = (parts[-1][0] + shown, parts[-1][1])
        else:
            parts.append((shown, mark is not None))
    return parts


def _mark(character: str, blank: bool) -> str | None:
    """What stands for a character that cannot be seen; None for one that can."""
    if character == " ":
        return "·" if blank else None
    if character in "\n\t":
        return {"\n": "↵\n", "\t": "⇥\t"}[character]
    # Control, format (direction, zero width), surrogate, private use; separators of lines and odd spaces.
    if unicodedata.category(character)[0] == "C" or unicodedata.category(character) in ("Zl", "Zp", "Zs"):
        return f"\\u{{{ord(character):x}}}"
    return None


def _answer(line: Json) -> Json:
    prompt = line["prompt"]
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    models = [name for name in ORDER if name in line["models"]]
    return {
        "id": line["id"],
        "tags": [tag for tag in (line.get("domain"), line.get("language")) if tag],
        "turns": turns,
        "models": [_side(model, line["models"][model]) for model in models],
    }


def _side(model: str, tokens: list[Json]) -> dict[str, Any]:
    """One model's tokens of an answer."""
    name = MODELS[model]
    divergent = sorted(tokens, key=lambda token: -token["kl_nats"])[:NAMED]
    return {
        "model": model,
        "name": name,
        "mean": sum(token["kl_nats"] for token in tokens) / max(len(tokens), 1),
        "tokens": len(tokens),
        "agreement": sum(token["agrees"] for token in tokens) / max(len(tokens), 1),
        "pieces": [_piece(token, name) for token in tokens],
        "named": [_told(token, name) for token in divergent if step_of(token["kl_nats"])],
    }


def _piece(token: Json, name: str) -> Piece:
    # A part of a character has no text of its own: its bytes are shown.
    parts = visible(token["text"]) if token["text"] else [(str(token.get("bytes", "")), True)]
    return Piece(parts, step_of(token["kl_nats"]), "\n".join(_told(token, name)))


def _told(token: Json, name: str) -> list[str]:
    """The lines of what is told of a token."""
    written, teacher, model = token.get("bytes") or token["text"], token["teacher"], token["model"]
    return [
        f"{_quoted(written)}: KL {token['kl_nats']:.3f} nats; the teacher's entropy {teacher['entropy_nats']:.2f} nats",
        f"teacher: {_quoted(teacher['token'])} {_percent(teacher['p'])}",
        f"{name}: {_quoted(model['token'])} {_percent(model['p'])}",
        f"written token under the {name}: {_percent(math.exp(min(token['log_p'], 0.0)))}",
    ]


def _percent(probability: float) -> str:
    """`49.4%`, `0.02%`, `< 0.0001%`."""
    if probability < 1e-6:
        return "< 0.0001%"
    return f"{100 * probability:.1f}%" if probability >= 1e-3 else f"{100 * probability:.1g}%"


def _quoted(text: str) -> str:
    return "“" + "".join(part for part, _ in visible(text)).replace("\n", "").replace("\t", "") + "”"
