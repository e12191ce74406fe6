"""Files and folders → what the result files in them say. A harness is a reader in `READERS`; nothing else knows one."""

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.foreign.readers.base import Reader
from dante.evaluate.foreign.readers.bigcode import BigCode
from dante.evaluate.foreign.readers.evalplus import EvalPlus
from dante.evaluate.foreign.readers.livecodebench import LiveCodeBench
from dante.evaluate.foreign.readers.lm_eval import LmEval
from dante.evaluate.foreign.result import Result

READERS: tuple[Reader, ...] = (LmEval(), BigCode(), EvalPlus(), LiveCodeBench())
COMMAND = "python -m dante.evaluate import"


def collect(paths: Sequence[Path]) -> list[Result]:
    """Everything that files and folders say, in the order of their paths.

    Raises:
        DanteError: a path that does not exist or holds no results, a file that is broken or of no known harness.
    """
    by_file: dict[Path, list[Result]] = {}  # a file that lies in two of the paths counts once
    for path in paths:
        by_file |= _of_folder(path) if path.is_dir() else {path.resolve(): _of_file(path)}
    return [result for results in by_file.values() for result in results]


def _of_folder(folder: Path) -> dict[Path, list[Result]]:
    """A folder may hold any other file as well: configurations, programs, prompts."""
    results = {file.resolve(): list(_results(file, _content(file))) for file in sorted(folder.rglob("*.json"))}
    if not any(results.values()):
        raise DanteError(
            f"{folder} has no result file in it",
            where=str(folder),
            allowed=_known(),
            fix=f"give the folder that the harness wrote to; what is in this one: ls -R {shlex.quote(str(folder))}",
        )
    return results


def _of_file(path: Path) -> list[Result]:
    if not path.is_file():
        raise DanteError(
            f"{path} does not exist",
            where=str(path),
            allowed="files and folders that a harness wrote",
            fix=f"ls {shlex.quote(str(path.parent))}",
        )
    # A file of samples or programs is lines of JSON; the scores are in another one.
    results = [] if path.suffix == ".jsonl" else list(_results(path, _content(path)))
    if not results:
        raise DanteError(
            f"{path} is a result of no harness that is known here",
            where=str(path),
            allowed=_known(),
            fix=f"give the file with the scores, or the folder around it: {COMMAND} {shlex.quote(str(path.parent))}; "
            "for another harness write a reader (dante/evaluate/foreign/readers)",
        )
    return results


def _results(path: Path, content: Any) -> Iterator[Result]:
    for reader in READERS:
        if reader.claims(path, content):
            try:
                yield from reader.read(path, content)
            except (KeyError, TypeError, AttributeError, IndexError) as error:
                raise _incomplete(path, reader, error) from error
            return


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        aside = f"{path}.broken"
        raise DanteError(
            f"{path.name} is not whole ({error})",
            where=str(path),
            allowed="JSON, written to its end",
            fix=f"repeat the evaluation, or import without it: mv {shlex.quote(str(path))} {shlex.quote(aside)}",
        ) from None


def _incomplete(path: Path, reader: Reader, error: Exception) -> DanteError:
    return DanteError(
        f"{path.name} looks like {reader.harness.title}'s and lacks what it writes ({type(error).__name__}: {error})",
        where=str(path),
        allowed=reader.harness.files,
        fix=f"repeat the evaluation, or import without it: mv {shlex.quote(str(path))} {shlex.quote(f'{path}.broken')}",
    )


def _known() -> str:
    return "; ".join(f"{reader.harness.title} ({reader.harness.files})" for reader in READERS)
