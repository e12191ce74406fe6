"""What counts as the final answer: named and pluggable, since the DANTE-Mosaic-3.5B card does not say [I].

A vote compares what an extractor finds; a sample in which it finds nothing agrees with no other one.
"""

import re
import unicodedata
from collections import Counter
from itertools import combinations
from typing import Protocol, runtime_checkable

from dante.cache.generate.consistency.numbers import canonical, numbers
from dante.errors import DanteError
from dante.text.words import words

CODE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
BULLET = re.compile(r"^\s*[-*+•]\s+", re.MULTILINE)
# Words, numbers with their separators, and the signs that change what is said; sentence marks and markup do not.
TOKENS = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[-+=<>≤≥≠/^%$€×÷|&~]")
LAYOUT = re.compile(r"\\[,!; ]|\\left|\\right|\\displaystyle|\s+")


@runtime_checkable
class Extractor(Protocol):
    """How far several samples agree."""

    def agreement(self, texts: list[str]) -> float:
        """In [0, 1]: 1 when all agree."""
        ...

    def describe(self) -> str:
        """For a manifest."""
        ...


class Named:
    """Described by its name."""

    def describe(self) -> str:
        return type(self).__name__


class Vote(Named):
    """Share of the most frequent final answer; subclasses say what an answer is."""

    def final(self, text: str) -> str | None:
        """The final answer in a normal form; None where there is none."""
        raise NotImplementedError

    def agreement(self, texts: list[str]) -> float:
        return share_of_mode([self.final(text) for text in texts])


class LastNumber(Vote):
    """The last number, whatever its separators, trailing zeros and unit: `1,000.0 km` is `1000`."""

    def final(self, text: str) -> str | None:
        text_numbers = numbers(text)
        return text_numbers[-1] if text_numbers else None


class Boxed(Vote):
    r"""What the last `\boxed{…}` holds, nested braces included, without spacing; a number in its normal form."""

    def final(self, text: str) -> str | None:
        start = text.rfind("\\boxed{")
        if start < 0:
            return None
        depth, begin = 1, start + len("\\boxed{")
        for at in range(begin, len(text)):
            # \{ and \} are signs that are printed, not braces that group.
            if text[at - 1] != "\\":
                depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                inside = LAYOUT.sub("", text[begin:at]).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
                return canonical(inside) or inside or None
        return None


class CodeBlock(Vote):
    """The last fenced block, its lines without trailing white space and without empty lines."""

    def final(self, text: str) -> str | None:
        blocks = CODE.findall(text)
        if not blocks:
            return None
        return "\n".join(line.rstrip() for line in blocks[-1].splitlines() if line.strip()) or None


class NormalisedText(Vote):
    """The whole answer in lower case, without markup and sentence marks; signs stay: `x > 3` is not `x < 3`."""

    def final(self, text: str) -> str | None:
        plain = BULLET.sub("", unicodedata.normalize("NFKC", text).replace("−", "-").lower())
        return " ".join(TOKENS.findall(plain)) or None


class MeanSimilarity(Named):
    """Mean over pairs of samples of Jaccard's similarity of their word sets: for texts that are never equal.

    A sample without words (one that never stopped thinking) resembles no other, not even another such one.
    """

    def agreement(self, texts: list[str]) -> float:
        sets = [frozenset(words(text)) for text in texts]
        pairs = list(combinations(sets, 2))
        if not pairs:
            return 1.0
        return sum(len(a & b) / len(a | b) if a and b else 0.0 for a, b in pairs) / len(pairs)


class FirstThatFits:
    """The first vote whose answer most samples have; the last extractor where none fits.

    Args:
        extractors: in the order in which they are tried.
    """

    def __init__(self, extractors: list[Extractor]) -> None:
        if not extractors:
            raise DanteError("no extractors", where="cache.source.consistency.extractor", allowed="at least one")
        self.extractors = extractors

    def agreement(self, texts: list[str]) -> float:
        for extractor in self.extractors:
            if isinstance(extractor, Vote) and 2 * sum(extractor.final(text) is not None for text in texts) <= len(
                texts
            ):
                continue
            return extractor.agreement(texts)
        return self.extractors[-1].agreement(texts)

    def describe(self) -> str:
        return f"the first that fits of {', '.join(extractor.describe() for extractor in self.extractors)}"


def share_of_mode(answers: list[str | None]) -> float:
    """Share of the most frequent answer among all samples; a sample without one is alone with it."""
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts.values(), default=1) / len(answers)
