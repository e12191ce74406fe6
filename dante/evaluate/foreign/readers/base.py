"""What a reader of a harness's files is, and what several of them say alike."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dante.evaluate.foreign.result import Harness, Result

PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@runtime_checkable
class Reader(Protocol):
    """Reads the result files of one harness."""

    harness: Harness

    def claims(self, path: Path, content: Any) -> bool:
        """Whether a file is this harness's.

        Args:
            path: of the file; what lies beside it may be looked at.
            content: its JSON.
        """

    def read(self, path: Path, content: Any) -> list[Result]:
        """What a file that it claims says, one result per model and task.

        Raises:
            DanteError: the file lacks what the harness writes.
        """


def number(value: Any) -> float | None:
    """A JSON number; None for anything else, such as lm-eval's "N/A"."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def decoding_in_words(
    *,
    temperature: float | None,
    top_p: float | None = None,
    new_tokens: int | None = None,
    programs: int | None = None,
    seed: int | None = None,
) -> str:
    """How texts were drawn, in words.

    Args:
        temperature: None or 0: the most likely token.
        top_p: of the tokens that were drawn from.
        new_tokens: most tokens of an answer.
        programs: answers per question.
        seed: of the draws.
    """
    drawn = [f"temperature {temperature:g}"] if temperature else ["greedy"]
    if temperature:
        drawn += [f"top-p {top_p:g}"] if top_p is not None and top_p < 1 else []
        drawn += [f"seed {seed}"] if seed is not None else []
    drawn += [f"at most {new_tokens:,} new tokens"] if new_tokens else []
    drawn += [f"{programs} programs per problem"] if programs is not None and programs > 1 else []
    return ", ".join(drawn)
