"""Imports point down: the floors of the house, as the README draws them."""

import ast
from pathlib import Path

FLOORS = (
    ("errors", "statistics", "look", "__init__"),
    ("system", "losses"),
    ("console",),
    ("models", "testsets"),
    ("text",),
    ("run",),
    ("teachers",),
    ("cache", "students"),
    ("cost", "supervision", "select", "evaluate"),
    ("data", "report"),
    ("fit", "sweep", "experiments"),
    ("release",),
)
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
