"""Rows of a file or a dataset → checked prompts, each asked once."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dante import console
from dante.cache.prompts.pocket import Prompt
from dante.cache.records.conversation import COLUMNS, column_of, read_conversation, read_prompt
from dante.cache.records.fields import FieldError, short
from dante.cache.records.record import prompt_hash
from dante.errors import DanteError

SLICES = (("domain", "general"), ("language", "en"), ("family", "given"))


def to_prompts(rows: Iterable[tuple[str, Any]], count: int | None, where: str) -> list[Prompt]:
    """Checked prompts of (place, row) pairs in their order, up to `count` of them.

    A row holds a `prompt`, or a whole conversation as `messages` or `conversations`, whose last answer is left out: the
    teacher gives its own. A prompt that occurs again in whatever form (with the same prefix) is left out: several
    answers to one prompt are what `decoding.samples` is for.

    Raises:
        DanteError: a row is no prompt, or there are none.
    """
    prompts: dict[str, Prompt] = {}
    answered = 0
    for place, row in rows:
        if count is not None and len(prompts) >= count:
            break
        try:
            prompt, answer = _read(row)
        except FieldError as error:
            raise error.at(place) from None
        answered += answer is not None
        prompts.setdefault(prompt_hash(prompt.prompt, prompt.prefix), prompt)
    if not prompts:
        raise DanteError("there are no prompts", where=where, fix="give at least one")
    if answered:
        console.note(f"{answered:,} conversations end with an answer; it is left out, and the teacher gives its own")
    return list(prompts.values())


def check_licence(licence: str) -> str:
    """The licence; a source that says nothing is refused, because the cache's manifest has to."""
    if not licence.strip():
        raise DanteError("the prompts have no licence", where="prompts.licence", fix="name it, or say unknown")
    return licence


def check_count(count: int | None) -> int | None:
    if count is not None and count < 1:
        raise DanteError(f"count={count}", where="prompts.count", allowed="at least 1, or null for all")
    return count


def check_file(path: Path) -> None:
    if path.is_dir():
        raise DanteError(f"{path} is a folder", where="prompts.path", allowed="one file", fix="name a file in it")
    if not path.is_file():
        raise DanteError(f"no prompt file at {path}", where="prompts.path", fix="correct the path")


def check_column(field: str, columns: Iterable[str], where: str) -> None:
    columns = list(columns)
    if field not in columns:
        likely = next((name for name in COLUMNS if name in columns), "COLUMN")
        raise DanteError(f"no column {field!r}", where=where, allowed=", ".join(columns), fix=f"prompts.field={likely}")


def row_of(row: Mapping[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A row whose prompt, or whole conversation, stands in the column `field`."""
    name = field if field in COLUMNS else "prompt"
    return {key: other for key, other in row.items() if key != "prompt"} | {name: value}


def _read(row: Any) -> tuple[Prompt, str | None]:
    """The prompt of a row, and the answer to it that a conversation holds already."""
    if type(row) is not dict:
        raise FieldError("(the line)", f"is a {type(row).__name__}", '{"prompt": text or messages}')
    column = column_of(row)
    if column is None and "prompt" not in row:
        raise FieldError("prompt", "is missing", f"one of prompt, {', '.join(COLUMNS)}; here are {', '.join(row)}")
    prompt, answer = (read_prompt(row["prompt"]), None) if column is None else read_conversation(row[column], column)
    for name in ("prefix", "reference", *(name for name, _ in SLICES)):
        if row.get(name) is not None and type(row[name]) is not str:
            raise FieldError(name, f"is {short(row[name])}", "text, or null")
    domain, language, family = (row.get(name) or default for name, default in SLICES)
    return Prompt(prompt, domain, language, family, row.get("prefix") or "", row.get("reference") or ""), answer
