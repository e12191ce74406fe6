"""Run notebooks and write their outputs: `python notebooks/execute.py`, or with some of the `.py` files.

The `.py` file (jupytext, percent format) is what is edited; the `.ipynb` beside it is that file with outputs.
"""

import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
TIMEOUT_S = 120
# tqdm asks for widgets, which no cell of these notebooks shows.
KERNEL = {**os.environ, "PYTHONWARNINGS": "ignore:IProgress not found"}


def executed(source: Path) -> nbformat.NotebookNode:
    """The notebook of a `.py` file with its outputs; what depends on the machine is left out.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"  # else a random one, and every execution would change the file
    place = {"metadata": {"path": FOLDER}}
    client = NotebookClient(notebook, kernel_name="python3", timeout=TIMEOUT_S, record_timing=False, resources=place)
    client.execute(env=KERNEL)
    notebook.metadata.pop("language_info", None)  # the exact version of Python
    return notebook


def main(sources: list[Path]) -> None:
    for source in sources:
        target = source.with_suffix(".ipynb")
        nbformat.write(executed(source), target)
        print(f"wrote {target.name}")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]] or SOURCES)
