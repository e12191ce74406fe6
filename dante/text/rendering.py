"""How a fit renders its records: the forms of `fit.rendering`."""

from typing import Any

from dante.text.chat import ChatRenderer
from dante.text.raw import RawRenderer

Renderer = ChatRenderer | RawRenderer
_FORMS: dict[str, type[ChatRenderer] | type[RawRenderer]] = {"chat": ChatRenderer, "raw": RawRenderer}


def renderer_of(form: str, tokenizer: Any) -> Renderer:
    """The renderer of a form: `chat` (the template, answers as targets) or `raw` (plain text, all of it)."""
    return _FORMS[form](tokenizer)
