"""Whether prompts are rendered now as they were put to the teacher: template variables have one home, `chat`.

A thinking template writes two different prompts with `enable_thinking` true and false. What a teacher was asked with
stands in its cache's manifest (`decoding.chat`); whoever trains on the answers or scores them has to render alike.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dante.cache.records.manifest import FILE_NAME, load_manifest
from dante.errors import DanteError
from dante.run.store import read_description
from dante.teachers.teacher import FILE_NAME as TEACHER_FILE
from dante.teachers.teacher import SOURCE, load_teacher

Variables = Mapping[str, Any]

# Conversations in which a template shows what it does with its variables.
_USER = {"role": "user", "content": "Why?"}
_PROBES = (
    [_USER],
    [{"role": "system", "content": "Be brief."}, _USER],
    [_USER, {"role": "assistant", "content": "So."}, _USER],
)


def read_by(template: str, chat: Variables) -> dict[str, Any]:
    """Those of the variables whose names stand in a template: the others change nothing."""
    return {name: value for name, value in chat.items() if re.search(rf"\b{re.escape(name)}\b", template)}


def asked_with(cache: Path) -> dict[str, Any] | None:
    """The template variables that a cache's teacher was asked with; None where its manifest does not know."""
    if not (cache / FILE_NAME).is_file():
        return None
    decoding = load_manifest(cache).get("decoding")
    # Caches that were generated before there were variables were asked without any.
    return None if decoding is None else dict(decoding.get("chat") or {})


def asked_without_system_prompt(cache: Path) -> bool:
    """Whether a cache's teacher was asked without what its template inserts by itself."""
    if not (cache / FILE_NAME).is_file():
        return False
    return (load_manifest(cache).get("decoding") or {}).get("system_prompt") == ""


def rendered_with(init: Path) -> dict[str, Any]:
    """The template variables that an initialisation's template has as its defaults."""
    described = read_description(init) or {}
    return dict((described.get("settings") or {}).get("chat") or {})


def check_rendering(cache: Path, teacher: Path | None, chat: Variables) -> None:
    """Refuses to render the teacher's conversations with other variables than it was asked with.

    Variables that make no difference to its template are no difference. Where the manifest does not say what was asked,
    or the teacher's template is not on this machine, nothing can be compared.

    Args:
        cache: finished cache directory.
        teacher: finished teacher step, or None.
        chat: the variables that are used now.
    """
    asked = asked_with(cache)
    if asked is None or asked == chat or teacher is None or not (teacher / TEACHER_FILE).is_file():
        return
    handle = load_teacher(teacher)
    if not handle.local or not handle.chat_template:
        return
    from dante.text.chat import written
    from dante.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(handle.location(teacher), where=SOURCE)
    if all(written(tokenizer, probe, asked) == written(tokenizer, probe, chat) for probe in _PROBES):
        return
    raise DanteError(
        f"the teacher was asked with {_named(asked)}, and here its prompts are rendered with {_named(chat)}: these are "
        "two different prompts",
        where="chat",
        allowed="the variables of the cache's manifest (decoding.chat)",
        fix=f"{_typed(asked)}; or let the teacher answer with yours: cache=generated",
    )


def _named(chat: Variables) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in chat.items()) or "its template's defaults"


def _typed(chat: Variables) -> str:
    if not chat:
        return "leave chat.* out"
    return " ".join(f"+chat.{name}={json.dumps(value)}" for name, value in chat.items())
