"""Pydantic's first complaint about plain content, in the lab's words: what, where, what is allowed, what to type."""

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from dante.errors import DanteError, did_you_mean

# Groups of the configuration whose files say themselves where their keys go.
_PACKAGES = {"loss": "losses", "suite": "eval.suites", "recipe": "_global_", "experiment": "_global_"}


def first_of(error: ValidationError) -> dict[str, Any]:
    """The complaint that says the most: an unknown key, rather than the missing one that it usually stands for."""
    return dict(min(error.errors(), key=lambda complaint: complaint["type"] != "extra_forbidden"))


def complaint(error: ValidationError, content: Any, schema: type[BaseModel], where: str = "") -> DanteError:
    """The first complaint as an error.

    Args:
        error: of `schema.model_validate(content)`.
        content: plain containers.
        schema: what it was checked against.
        where: keys above `content`, with dots between them.
    """
    first = first_of(error)
    location = [str(part) for part in first["loc"]]
    key = ".".join([where, *location] if where else location)
    if first["type"] == "extra_forbidden":
        allowed_keys = sorted(fields_at(location[:-1], schema))
        guess = did_you_mean(location[-1], allowed_keys) or _guess_below(content, location)
        if key in _PACKAGES:  # the group's own name: where a file without a package line ends up
            guess = f"the first line of a file in conf/{key}/ is: # @package {_PACKAGES[key]}"
        return DanteError(
            f"unknown key {key!r}", where=key, allowed=", ".join(allowed_keys), fix=guess or f"remove {key}"
        )
    if first["type"] == "missing":
        return DanteError(f"{key} is missing", where=key, fix=f"set it: {key}=VALUE")
    value = first["input"]
    message = first["msg"].removeprefix("Value error, ")
    return DanteError(
        f"{key}={value!r} is not accepted", where=key, allowed=message, fix=f"set {key} to what is allowed"
    )


def fields_at(location: list[str], root: type[BaseModel]) -> list[str]:
    """The keys that a schema knows below a path of keys; none for a free-form node."""
    model: Any = root
    for part in location:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return []
        annotation = fields[part].annotation
        options = [annotation, *get_args(annotation)]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), annotation)
    return list(model.model_fields) if hasattr(model, "model_fields") else []


def _guess_below(content: Any, location: list[str]) -> str:
    """A key one or two levels further down that the unknown one may have meant: `suites.generation`."""
    for part in location[:-1]:
        content = content.get(part, {}) if isinstance(content, dict) else {}
    below: dict[str, str] = {}
    for first, child in content.items() if isinstance(content, dict) else ():
        for second, grandchild in child.items() if isinstance(child, dict) else ():
            below.setdefault(str(second), f"{first}.{second}")
            for third in grandchild if isinstance(grandchild, dict) else ():
                below.setdefault(str(third), f"{first}.{second}.{third}")
    close = difflib.get_close_matches(location[-1], below, n=1)
    return f"did you mean {below[close[0]]!r}?" if close else ""
