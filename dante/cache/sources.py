"""Where prompts come from: our own generator, or a file of the user's."""

import json
from pathlib import Path
from typing import Protocol, runtime_checkable

from dante.cache.reader import read_lines
from dante.cache.record import FieldError, check_prompt
from dante.errors import DanteError
from dante.teachers.prompts import Prompt, build_prompts


@runtime_checkable
class Prompts(Protocol):
    """A source of prompts, and where they may be used."""

    licence: str

    def load(self) -> list[Prompt]: ...


class PocketPrompts:
    """Our own prompts (see `dante.teachers.prompts`).

    Args:
        count: how many; null takes all.
        seed: of their order and of generated numbers.
    """

    licence = "Apache-2.0 (our own)"

    def __init__(self, count: int | None, seed: int) -> None:
        self.count, self.seed = count, seed

    def load(self) -> list[Prompt]:
        return build_prompts(self.count, self.seed)


class JsonlPrompts:
    """A JSONL file with `prompt` (text or messages) and, if known, `domain`, `language` and `family` per line.

    Args:
        path: the file, `.jsonl` or `.jsonl.zst`.
        licence: under which its prompts may be used.
    """

    def __init__(self, path: str, licence: str) -> None:
        self.path, self.licence = Path(path).expanduser(), licence

    def load(self) -> list[Prompt]:
        if not self.path.is_file():
            raise DanteError(f"no prompt file at {self.path}", where="cache.source.prompts.path")
        prompts = []
        for number, line in read_lines(self.path):
            where = f"{self.path}, line {number}"
            try:
                data = json.loads(line)
                check_prompt(data.get("prompt") if isinstance(data, dict) else None)
            except FieldError as error:
                raise DanteError(str(error), where=where, allowed=error.allowed) from None
            except ValueError as error:
                raise DanteError(f"the line is not JSON ({error})", where=where) from None
            slices = (data.get("domain") or "general", data.get("language") or "en", data.get("family") or "given")
            prompts.append(Prompt(data["prompt"], *slices))
        if not prompts:
            raise DanteError("the prompt file is empty", where=str(self.path))
        return prompts
