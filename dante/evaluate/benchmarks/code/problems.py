"""What the sets of programming problems ask, each with its own columns."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from dante.sandbox.run import Task

Doc = Mapping[str, Any]


class Problem(ABC):
    """How a set's items are to be read."""

    @abstractmethod
    def judged_by(self, doc: Doc) -> Task:
        """What a program is judged by."""

    @abstractmethod
    def beginning(self, doc: Doc) -> str:
        """Code that the question gives and an answer goes on from; empty: none."""

    @abstractmethod
    def entry(self, doc: Doc) -> str | None:
        """The name that a program has to define, where the set names one."""


class HumanEval(Problem):
    """A function's head with its docstring, to be completed; `check(candidate)` judges it.

    HumanEval+ has the same columns and more tests.
    """

    def judged_by(self, doc: Doc) -> Task:
        # Some tests call helpers that the question gives beside the function.
        return Task(f"{doc['prompt']}    pass\n", doc["test"], doc["entry_point"])

    def beginning(self, doc: Doc) -> str:
        return str(doc["prompt"])

    def entry(self, doc: Doc) -> str | None:
        return str(doc["entry_point"])


class MBPP(Problem):
    """A task in words and three assertions, which name the function."""

    def judged_by(self, doc: Doc) -> Task:
        defined = tuple(re.findall(r"^def (\w+)", doc["code"], re.MULTILINE))
        return Task(doc.get("test_setup_code") or "", "\n".join(doc["test_list"]), None, defined)

    def beginning(self, doc: Doc) -> str:
        return ""

    def entry(self, doc: Doc) -> str | None:
        called = re.search(r"assert\s+(?:not\s+)?(?:\w+\()*?(\w+)\(", doc["test_list"][0])
        names = re.findall(r"^def (\w+)", doc["code"], re.MULTILINE)
        return called[1] if called and called[1] in names else (names[-1] if names else None)


class MBPPPlus(MBPP):
    """MBPP of EvalPlus: its own tests, which compare with results on many inputs, instead of the three assertions."""

    def judged_by(self, doc: Doc) -> Task:
        shown = super().judged_by(doc)
        return Task("\n".join(doc.get("test_imports") or []), doc["test"], None, shown.defines)
