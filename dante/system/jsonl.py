"""JSON lines, written and read whole."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dante.errors import DanteError


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object per line; NaN is an error."""
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file; an absent file has none.

    Raises:
        DanteError: a line is not JSON; names file and line.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as lines:
        return list(parse_lines(lines, path))


def parse_lines(lines: Iterable[str], path: Path) -> Iterator[dict[str, Any]]:
    """The objects of lines that come from `path`."""
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise DanteError(f"not JSON: {error}", where=f"{path}:{number}", fix="rerun the step") from error
