"""Imports point down: the floors of the house, as the README draws them."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from dante.errors import DanteError
from dante.run import renamed
from dante.run.directory import opened
from dante.run.parts import locate
from dante.run.pipeline import plan_steps
from tests.test_config import composed

FLOORS = (
    ("errors", "statistics", "look", "__init__"),
    ("system", "losses", "sandbox"),
    ("console",),
    ("models", "testsets"),
    ("text",),
    ("run",),
    ("teachers",),
    ("cache", "students"),
    ("densify",),
    ("supervision",),
    ("cost", "select", "evaluate"),
    ("data", "report"),
    ("fit", "sweep", "experiments"),
    ("release",),
)
MOST_FILES = 12
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
DANTE = Path(__file__).parents[1] / "dante"


def room_of(module: str) -> str:
    return (module.split(".") + ["__init__"])[1]


def test_a_room_imports_only_rooms_below_it() -> None:
    wrong = []
    for path in DANTE.rglob("*.py"):
        own = path.relative_to(DANTE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "dante"):
                continue
            names = [f"dante.{alias.name}" for alias in node.names] if node.module == "dante" else [node.module]
            for other in map(room_of, names):
                if other != own and FLOOR[other] >= FLOOR[own]:
                    wrong.append(f"{path.relative_to(DANTE)}:{node.lineno} imports {other}")
    assert wrong == []


def test_no_room_is_a_heap() -> None:
    folders = {path.parent for path in DANTE.rglob("*.py")}
    shown = {f: [p.name for p in f.glob("*.py") if p.name != "__init__.py"] for f in folders}
    assert {str(f.relative_to(DANTE)): len(names) for f, names in shown.items() if len(names) > MOST_FILES} == {}


def recipe_with(curriculum: str) -> dict[str, Any]:
    cfg = composed("+experiment=sft", "scale=smoke", "run.dir=/tmp/nowhere/run")
    cfg["steps"]["fit"]["settings"]["fit"]["curriculum"] = {"_target_": curriculum}
    return cfg


def test_a_part_that_was_moved_makes_the_same_steps() -> None:
    now, then, other = (
        {step.label: step.fingerprint for step in plan_steps(recipe_with(f"dante.{place}"))}
        for place in ("data.curriculum.Shuffled", "curriculum.Shuffled", "data.curriculum.SortedOnceRepeat")
    )
    assert now == then
    assert {label for label in now if now[label] != other[label]} == {"fit", "release", "eval", "report"}


@pytest.mark.parametrize(("now", "first"), renamed._FIRST.items())
def test_every_move_is_a_real_one_and_the_old_name_says_where(now: str, first: str) -> None:
    assert importlib.util.find_spec(now.rstrip(".")) is not None
    with pytest.raises(DanteError, match="lies elsewhere now") as caught:
        locate(f"{first}Part", "key")
    assert caught.value.fix == f"write {now}Part"


def test_a_run_that_was_begun_before_a_move_goes_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    cfg = composed("+experiment=sft", "scale=smoke", f"run.dir={run_dir}")
    with opened(run_dir, cfg, {}):
        pass
    stored = run_dir / "config.yaml"
    then = stored.read_text().replace("dante.data.curriculum.", "dante.curriculum.")
    assert then != stored.read_text()
    stored.write_text(then)
    (tmp_path / ".steps" / "teacher-1").mkdir(parents=True)
    (run_dir / "teacher").symlink_to("../.steps/teacher-1")
    with opened(run_dir, cfg, {}):  # refused where anything differs and a step is finished
        pass
    stored.write_text(then.replace("Shuffled", "SortedOnceRepeat"))
    with pytest.raises(DanteError, match="another configuration"), opened(run_dir, cfg, {}):
        pass
