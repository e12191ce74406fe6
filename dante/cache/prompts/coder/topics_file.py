"""The lists that the coder's prompts are made of: `topics/<name>.json`."""

import json
from importlib.resources import files
from typing import Any


def load(name: str) -> dict[str, Any]:
    """The content of one file."""
    text = files("dante.cache.prompts.coder").joinpath("topics", f"{name}.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
