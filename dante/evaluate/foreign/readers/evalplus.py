"""evalplus: `*_eval_results.json`, per problem the programs with their status on the base and on the added tests.

A program counts for the plus task where it passes both, as evalplus counts (`evalplus/evaluate.py`). The number of
worked examples, the model and its decoding are not in the file; the file's name has the last two where evalplus itself
has asked the model: `MODEL_BACKEND_temp_T_eval_results.json`, with `--` for a slash.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.foreign.readers.problems import Problem, items_of, scores_of
from dante.evaluate.foreign.result import Harness, Result
from dante.evaluate.harness.decoding import decoding_in_words

PASS = "pass"
KS = (1, 10, 100)  # that evalplus prints
_NAME = re.compile(r"(?P<model>.+)_[a-z]+_temp_(?P<temperature>[\d.]+?)(-sanitized)?[._]eval_results\.json")


class EvalPlus:
    """Reads evalplus."""

    harness = Harness(
        "evalplus", "EvalPlus", "https://github.com/evalplus/evalplus", 'NAME_eval_results.json with "eval" per problem'
    )

    def claims(self, path: Path, content: Any) -> bool:
        programs = content.get("eval") if isinstance(content, dict) else None
        if not isinstance(programs, dict) or not programs:
            return False
        first = next(iter(programs.values()))
        first = first[0] if isinstance(first, list) and first else first
        return isinstance(first, dict) and ("base_status" in first or "base" in first)

    def read(self, path: Path, content: Any) -> list[Result]:
        data_set = next(iter(content["eval"])).partition("/")[0].lower()
        statuses = {problem: _statuses(programs) for problem, programs in content["eval"].items()}
        if not all(statuses.values()):
            raise _no_program(path, [problem for problem, found in statuses.items() if not found])
        base = {problem: [base == PASS for base, _ in found] for problem, found in statuses.items()}
        plus = {problem: [base == plus == PASS for base, plus in found] for problem, found in statuses.items()}
        results = [self._result(path, content, "base", data_set, base)]
        if all(added is not None for found in statuses.values() for _, added in found):  # not with --base-only
            results.append(self._result(path, content, "plus", f"{data_set}_plus", plus))
        return results

    def _result(
        self, path: Path, content: Mapping[str, Any], tests: str, task: str, passed: Mapping[str, list[bool]]
    ) -> Result:
        said: dict[str, float] = (content.get("pass_at_k") or {}).get(tests) or {}
        ks = {*KS, *(int(key.partition("@")[2]) for key in said)}
        version = str(content.get("hash") or "")
        items = items_of([Problem(problem, version[:16], found) for problem, found in passed.items()], sorted(ks))
        scores = scores_of(items, (), task)
        own = {score.said.partition(" ")[2]: score.value for score in scores}
        differ = [key for key, value in said.items() if abs(own[key] - value) > 1e-6]
        name = _NAME.fullmatch(path.name)
        return Result(
            path=path,
            when=_when(path, content),
            model=name["model"].replace("--", "/") if name else "",
            task=task,
            n_shot=None,
            harness=self.harness,
            harness_version="",
            scores=scores,
            items=items,
            counts="problems",
            decoding=decoding_in_words(
                temperature=float(name["temperature"]), answers=max(len(found) for found in passed.values())
            )
            if name
            else "",
            task_version=version,
            notes=[
                f"{path.name} says {key} = {said[key]:.4f} of {task}, its programs {own[key]:.4f}." for key in differ
            ],
        )


def _statuses(programs: Any) -> list[tuple[str, str | None]]:
    """Per program its status on the base tests and on the added ones, in the form of before and after version 0.2."""
    if isinstance(programs, list):
        return [(program["base_status"], program.get("plus_status")) for program in programs]
    added = programs.get("plus") or [[None]] * len(programs["base"])
    return [(base[0], plus[0]) for base, plus in zip(programs["base"], added, strict=True)]


def _when(path: Path, content: Mapping[str, Any]) -> float:
    try:
        return datetime.strptime(str(content.get("date")), "%Y-%m-%d %H:%M").timestamp()
    except ValueError:
        return path.stat().st_mtime


def _no_program(path: Path, problems: list[str]) -> DanteError:
    return DanteError(
        f"{len(problems)} problems have no program, the first of them {problems[0]}",
        where=str(path),
        allowed="at least one program per problem",
        fix="give evalplus a program for every problem, and evaluate again",
    )
