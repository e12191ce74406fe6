"""The program in an answer."""

import ast
import re
from abc import ABC, abstractmethod

# A fence, its language, what stands in it, and its end, or the end of an answer that was cut off.
_FENCED = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\1|\Z)", re.DOTALL | re.MULTILINE)
_BEGINS = re.compile(r"^(?:def |class |async def |import |from |@)", re.MULTILINE)


class Program(ABC):
    """How a program is read out of an answer."""

    @abstractmethod
    def read(self, answer: str, beginning: str, entry: str | None) -> str:
        """The program.

        Args:
            answer: of the model, without what stands behind a stop string.
            beginning: code that the question gave.
            entry: the name that it has to define; None: any.
        """


class Completion(Program):
    """The answer goes on from the beginning: base models, and the raw form of HumanEval and MBPP."""

    def read(self, answer: str, beginning: str, entry: str | None) -> str:
        return beginning + answer


class Fenced(Program):
    """The answer goes on inside a fence that the prompt has opened, until the fence ends."""

    def read(self, answer: str, beginning: str, entry: str | None) -> str:
        return beginning + answer.partition("```")[0]


class FreeAnswer(Program):
    """The answer of a chat: a program somewhere in it, in a fence or not, perhaps cut off, perhaps a body alone."""

    def read(self, answer: str, beginning: str, entry: str | None) -> str:
        program = parsable(_chosen(answer, entry))
        if entry is None or _defines(program, entry):
            return f"{_before(beginning, entry)}{program}"
        body = _chosen(answer, None)
        return beginning + (body if body[:1] in (" ", "\t") else "\n".join(f"    {line}" for line in body.splitlines()))


def _chosen(answer: str, entry: str | None) -> str:
    """The block that defines the name, else the longest; without blocks, what begins like a program."""
    blocks = [match[3] for match in _FENCED.finditer(answer)]
    defining = [block for block in blocks if entry is not None and _mentions(block, entry)]
    if defining:
        return defining[0]
    if blocks:
        return max(blocks, key=len)
    begins = _BEGINS.search(answer)
    return answer[begins.start() :] if begins else answer


def parsable(text: str) -> str:
    """The longest beginning, by lines, that is a program; all of it where none is."""
    lines = text.splitlines()
    for end in range(len(lines), 0, -1):
        try:
            ast.parse("\n".join(lines[:end]))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return "\n".join(lines[:end]) + "\n"
    return text


def _mentions(text: str, entry: str) -> bool:
    return re.search(rf"(?:def\s+{re.escape(entry)}\s*\(|^{re.escape(entry)}\s*=)", text, re.MULTILINE) is not None


def _defines(program: str, entry: str) -> bool:
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    assigned = {
        name.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for name in node.targets
        if isinstance(name, ast.Name)
    }
    defined = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    return entry in assigned | defined


def _before(beginning: str, entry: str | None) -> str:
    """What the question gives in front of the function that it asks for: imports, helpers."""
    if entry is None:
        return ""
    asked = re.search(rf"^(?:async )?def {re.escape(entry)}\b", beginning, re.MULTILINE)
    return beginning[: asked.start()] if asked else ""
