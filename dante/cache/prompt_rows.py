"""Rows of a file or a dataset → checked prompts, each asked once."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dante.cache.record import FieldError, check_prompt, messages_of
from dante.errors import DanteError
from dante.teachers.prompts import Prompt

SLICES = (("domain", "general"), ("language", "en"), ("family", "given"))


def to_prompts(rows: Iterable[tuple[str, Any]], count: int | None, where: str) -> list[Prompt]:
    """Checked prompts of (place, row) pairs in their order, up to `count` of them.

    A prompt that occurs again (with the same prefix) is left out: its records would have the same ids. Several answers
    to one prompt are what `decoding.samples` is for.

    Raises:
        DanteError: a row is no prompt, or there are none.
    """
    prompts: dict[str, Prompt] = {}
    for place, row in rows:
        if count is not None and len(prompts) >= count:
            break
        prompt = _prompt(place, row)
        prompts.setdefault(json.dumps([messages_of(prompt.prompt), prompt.prefix]), prompt)
    if not prompts:
        raise DanteError("there are no prompts", where=where, fix="give at least one")
    return list(prompts.values())


def check_licence(licence: str) -> str:
    """The licence; a source that says nothing is refused, because the cache's manifest has to."""
    if not licence.strip():
        raise DanteError(
            "the prompts have no licence", where="cache.source.prompts.licence", fix="name it, or say unknown"
        )
    return licence


def check_count(count: int | None) -> int | None:
    if count is not None and count < 1:
        raise DanteError(f"count={count}", where="cache.source.prompts.count", allowed="at least 1, or null for all")
    return count


def check_file(path: Path) -> None:
    if not path.is_file():
        raise DanteError(f"no prompt file at {path}", where="cache.source.prompts.path", fix="correct the path")


def check_column(field: str, columns: Iterable[str], where: str) -> None:
    columns = list(columns)
    if field not in columns:
        raise DanteError(
            f"no column {field!r}", where=where, allowed=", ".join(columns), fix="set cache.source.prompts.field"
        )


def _prompt(place: str, row: Any) -> Prompt:
    try:
        check_prompt(row.get("prompt") if isinstance(row, dict) else None)
    except FieldError as error:
        raise DanteError(str(error), where=place, allowed=error.allowed) from None
    domain, language, family = (str(row.get(name) or default) for name, default in SLICES)
    prefix = row.get("prefix") or ""
    if not isinstance(prefix, str):
        raise DanteError(f"prefix is {prefix!r}", where=place, allowed="text")
    return Prompt(row["prompt"], domain, language, family, prefix)
