"""bigcode-evaluation-harness: one JSON of `{TASK: {METRIC: value}, …, "config": {…}}`, of any name.

It says neither which programs have passed nor how many problems there were. The programs, where they were kept, lie
beside it (`generations_TASK.json`, a list per problem): their number is n, and with one program per problem the
standard error follows, √(p(1 − p)/(n − 1)). Two runs write their programs to one name, so they count only if
p·n is whole.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dante.evaluate.foreign.result import Harness, Result, Score
from dante.evaluate.harness.decoding import decoding_in_words, number
from dante.system.files import read_json


class BigCode:
    """Reads bigcode-evaluation-harness."""

    harness = Harness(
        "bigcode-evaluation-harness", "bigcode-evaluation-harness",
        "https://github.com/bigcode-project/bigcode-evaluation-harness",
        'evaluation_results.json with "config" and a task\'s "pass@1"',
    )  # fmt: skip

    def claims(self, path: Path, content: Any) -> bool:
        if not isinstance(content, dict) or not isinstance(content.get("config"), dict) or "results" in content:
            return False
        return "model" in content["config"] and bool(_tasks(content))

    def read(self, path: Path, content: Any) -> list[Result]:
        return [self._result(path, content["config"], task, found) for task, found in _tasks(content).items()]

    def _result(self, path: Path, config: Mapping[str, Any], task: str, found: Mapping[str, float]) -> Result:
        counts = _programs(path, config, task)
        single = counts is not None and set(counts) == {1}
        notes = []
        if counts is None:
            notes.append(f"{task}: {path.name} does not say of how many problems, and no programs lie beside it.")
        elif single and not _is_whole(found.get("pass@1", 0.0) * len(counts)):
            notes.append(f"{task}: the programs beside {path.name} are of another run, so n is not known.")
            counts = None
        n = None if counts is None else len(counts)
        return Result(
            path=path,
            when=path.stat().st_mtime,
            model=str(config["model"] or ""),
            task=task,
            n_shot=None,
            harness=self.harness,
            harness_version="",
            scores=[_score(task, metric, value, n, single) for metric, value in found.items()],
            counts="problems",
            decoding=_decoding(config),
            split="test" if task in ("humaneval", "mbpp") else "",
            limit=config.get("limit"),
            precision=config.get("precision"),
            notes=notes,
        )


def _tasks(content: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The numbers of every task; APPS has its pass@k one level deeper."""
    tasks = {task: _numbers(found) for task, found in content.items() if task != "config" and isinstance(found, dict)}
    return {task: found for task, found in tasks.items() if found}


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    flat = {key: value for outer in found.values() if isinstance(outer, dict) for key, value in outer.items()} | dict(
        found
    )
    return {key: value for key, value in ((key, number(value)) for key, value in flat.items()) if value is not None}


def _score(task: str, metric: str, value: float, n: int | None, single: bool) -> Score:
    key = metric.replace("@", "_at_")
    of_problems = single and key == "pass_at_1" and n is not None and n > 1 and value <= 1
    stderr = math.sqrt(value * (1 - value) / (n - 1)) if of_problems and n is not None else None
    return Score(key, value, stderr, n, better="higher" if "_at_" in key else "", said=f"{task} {metric}")


def _programs(path: Path, config: Mapping[str, Any], task: str) -> list[int] | None:
    """Programs per problem, or None where they were not kept."""
    stem = Path(config.get("save_generations_path") or "generations.json").stem
    for name in (f"{stem}_{task}.json", f"{stem}.json"):
        kept = path.with_name(name)
        if kept.is_file():
            found = read_json(kept)
            return [len(programs) for programs in found] if isinstance(found, list) else None
    return None


def _is_whole(problems: float) -> bool:
    return abs(problems - round(problems)) < 1e-6 * max(problems, 1)


def _decoding(config: Mapping[str, Any]) -> str:
    if not {"do_sample", "temperature"} & config.keys():  # earlier versions keep the model alone
        return ""
    sampled = config.get("do_sample", True)
    return decoding_in_words(
        temperature=number(config.get("temperature")) if sampled else None,
        top_p=number(config.get("top_p")),
        answers=config.get("n_samples"),
        seed=config.get("seed"),
    )
