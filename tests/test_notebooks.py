"""Notebooks: both files of a pair are one notebook, and running it gives what is shown."""

import itertools
from pathlib import Path

import jupytext
import nbformat
import pytest

from notebooks.execute import SOURCES, executed

LARGEST_BYTES = 500_000
SHORTEST = 4  # notebooks that there are


def paired(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell prints; figures are not compared, for their pixels depend on the fonts' renderer."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(out.text for out in cell.outputs if out.output_type == "stream") for cell in code]


def shown(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """The kinds of each cell's outputs; what is printed may arrive in one piece or in several, as time has it."""
    every = [[out.output_type for out in cell.get("outputs", [])] for cell in notebook.cells]
    return [[kind for kind, _ in itertools.groupby(kinds)] for kinds in every]


def test_every_notebook_is_found() -> None:
    assert len(SOURCES) >= SHORTEST
    assert [s.with_suffix(".ipynb").name for s in SOURCES] == sorted(p.name for p in SOURCES[0].parent.glob("*.ipynb"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_stored(source: Path) -> None:
    stored, fresh = paired(source), executed(source)
    assert cells(stored) == cells(fresh), f"python notebooks/execute.py notebooks/{source.name}"
    assert printed(fresh) == printed(stored), f"python notebooks/execute.py notebooks/{source.name}"
    assert shown(fresh) == shown(stored)
    streams = {out.name for cell in fresh.cells for out in cell.get("outputs", []) if out.output_type == "stream"}
    assert streams == {"stdout"}, "nothing warns"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_stored_notebook_is_small_and_knows_no_machine(source: Path) -> None:
    text = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST_BYTES
    for trace in (str(Path.home()) + "/", str(source.parents[1]), "/tmp/", "site-packages"):
        assert trace not in text
    assert '"image/png"' in text


def test_what_is_edited_is_in_percent_format() -> None:
    for source in SOURCES:
        assert jupytext.read(source).metadata.jupytext.text_representation.format_name == "percent"
