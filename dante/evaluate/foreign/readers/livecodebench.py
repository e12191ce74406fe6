"""LiveCodeBench: `*_eval_all.json`, a list of problems with which of their programs have passed.

It lies in `output/MODEL/` and is called `SCENARIO_N_TEMPERATURE_eval_all.json` (`lcb_runner/utils/path_utils.py`).
Which release of the problems was asked is not in it; the dates of the contests are, and they say more: a model may have
seen what was published before its training data ends.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.foreign.readers.problems import Problem, items_of, scores_of
from dante.evaluate.foreign.result import Harness, Result
from dante.evaluate.harness.decoding import decoding_in_words

KS = (1, 5)  # that LiveCodeBench prints
GENERATION = "codegeneration"
_LEVELS = ("easy", "medium", "hard")
_NAME = re.compile(r"(Scenario\.)?(?P<scenario>[a-z]+)_(?P<n>\d+)_(?P<temperature>[\d.]+).*_eval_all\.json")


class LiveCodeBench:
    """Reads LiveCodeBench."""

    harness = Harness(
        "livecodebench", "LiveCodeBench", "https://github.com/LiveCodeBench/LiveCodeBench",
        'NAME_eval_all.json, a list with "question_id" and "graded_list"',
    )  # fmt: skip

    def claims(self, path: Path, content: Any) -> bool:
        first = content[0] if isinstance(content, list) and content else None
        return isinstance(first, dict) and {"question_id", "graded_list"} <= first.keys()

    def read(self, path: Path, content: Any) -> list[Result]:
        ungraded = [str(line.get("question_id")) for line in content if not line.get("graded_list")]
        if ungraded:
            raise _ungraded(path, ungraded)
        name = _NAME.fullmatch(path.name)
        scenario = name["scenario"] if name else GENERATION
        task = "livecodebench" if scenario == GENERATION else f"livecodebench_{scenario}"
        items = items_of(_problems(content), KS)
        present = {part for item in items for part in item.slices}
        slices = [part for part in (f"difficulty={level}" for level in _LEVELS) if part in present]
        window = _window(content)
        return [
            Result(
                path=path,
                when=path.stat().st_mtime,
                model=path.parent.name if name else "",
                task=task,
                n_shot=None,
                harness=self.harness,
                harness_version="",
                scores=scores_of(items, slices, task),
                items=items,
                slices=slices,
                counts="problems",
                decoding=decoding_in_words(temperature=float(name["temperature"]), answers=int(name["n"]))
                if name
                else "",
                task_version=window,
                notes=[f"{task}: {len(items)} problems of {window}."] if window else [],
            )
        ]


def _problems(content: Sequence[Mapping[str, Any]]) -> list[Problem]:
    asked: Counter[str] = Counter()
    problems = []
    for line in content:
        identity = str(line["question_id"])
        asked[identity] += 1  # code execution asks several things of one problem
        number = f"#{asked[identity]}" if asked[identity] > 1 else ""
        text = hashlib.sha256(str(line.get("question_content", "")).encode()).hexdigest()[:16]
        level = line.get("difficulty")
        slices = (f"difficulty={level}",) if level else ()
        problems.append(Problem(identity + number, text, [bool(passed) for passed in line["graded_list"]], slices))
    return problems


def _window(content: Sequence[Mapping[str, Any]]) -> str:
    """First and last day of the contests, where every problem has one."""
    days = sorted(str(line.get("contest_date") or "")[:10] for line in content)
    return f"contests {days[0]} to {days[-1]}" if days[0] else ""


def _ungraded(path: Path, problems: list[str]) -> DanteError:
    return DanteError(
        f"{len(problems)} problems have no graded program, the first of them {problems[0]}",
        where=str(path),
        allowed='a "graded_list" with one entry per program, for every problem',
        fix="run LiveCodeBench again with --evaluate --continue_existing_with_eval",
    )
