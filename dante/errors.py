"""The one way this lab reports bad input: what, where, what is allowed, how to fix it.

Every mistake that a user can make ends in a `DanteError`; `train.py` prints it as one paragraph and exits non-zero.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator


class DanteError(ValueError):
    """A mistake in the input, told in one paragraph.

    Args:
        what: what is wrong, with the bad value.
        where: the config key, or the file and line.
        allowed: what would have been accepted.
        fix: what to type or change.
    """

    def __init__(self, what: str, *, where: str = "", allowed: str = "", fix: str = "") -> None:
        self.what, self.where, self.allowed, self.fix = what, where, allowed, fix
        parts = [_sentence(what)]
        parts += [_sentence(f"{label}: {text}") for label, text in self._labelled() if text]
        super().__init__(" ".join(parts))

    def _labelled(self) -> tuple[tuple[str, str], ...]:
        return ("Where", self.where), ("Allowed", self.allowed), ("Fix", self.fix)


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!", ".")) else text + "."


class StepFailed(Exception):
    """A stage raised what nobody expected; the cause is the exception it raised.

    Args:
        label: the step.
    """

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label

    def __str__(self) -> str:
        return f"step {self.label!r} failed (see above); what is complete stays, and the same command continues there"


class PointsFailed(Exception):
    """Points of a sweep have no result; which, and why, has been told."""


def causes(error: BaseException, context_counts: Callable[[BaseException], bool]) -> Iterator[BaseException]:
    """An exception and those behind it, each once.

    Args:
        error: what was caught.
        context_counts: whether what was being handled (`__context__`) counts where no cause was named.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        context = cause.__context__
        cause = cause.__cause__ or (context if context is not None and context_counts(context) else None)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest choice, or an empty string."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else ""
