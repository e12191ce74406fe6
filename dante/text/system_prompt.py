"""The system prompt that a chat template inserts by itself: what it says, and templates that say another or none.

Qwen's and SmolLM2's templates put a sentence of their own before conversations that have no system message, so that the
prompt which a model reads is not the one that stands in a file. Whatever is inserted is found by looking at what the
template writes, never by reading the template.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from dante.errors import DanteError
from dante.text.chat import written

_SYSTEM, _USER = "Qsystemq", "Quserq"


class _Turns(NamedTuple):
    """How a template writes a system turn: what stands before its text and behind it."""

    before: str
    behind: str


def inserted(tokenizer: Any, variables: Mapping[str, Any]) -> str | None:
    """The text that stands in the place of a system message where a conversation has none; None: nothing does.

    Args:
        tokenizer: with a chat template.
        variables: of the template.
    """
    with_one, without = _written(tokenizer, variables, _SYSTEM), _written(tokenizer, variables, None)
    if with_one is None or without is None:
        return None
    before, found, behind = with_one.partition(_SYSTEM)
    if not found or not without.startswith(before) or not without.endswith(behind):
        return None
    return without[len(before) : len(without) - len(behind)]


def with_system_prompt(tokenizer: Any, wanted: str, variables: Mapping[str, Any], where: str) -> str:
    """The tokenizer's template, changed for conversations without a system message.

    Args:
        tokenizer: with a chat template.
        wanted: what it inserts; empty: nothing, not even an empty turn.
        variables: of the template.
        where: the key that says so, for messages.

    Raises:
        DanteError: the template knows no system messages, or its system turn cannot be told from the rest.
    """
    template = str(tokenizer.chat_template)
    if _written(tokenizer, variables, _SYSTEM) is None:
        if not wanted:
            return template  # it refuses them, and inserts none
        raise _refused("refuses system messages", where)
    content = json.dumps(wanted or _SYSTEM, ensure_ascii=False)
    given = f'{{%- if messages[0]["role"] != "system" %}}{{%- set messages = [{{"role": "system", "content": {content}}}] + messages %}}{{%- endif %}}'  # noqa: E501
    if wanted:
        return given + template
    turn = _system_turn(tokenizer, variables, where)
    whole = json.dumps(turn.before + _SYSTEM + turn.behind, ensure_ascii=False)
    changed = f"{{%- macro _written(messages) -%}}{template}{{%- endmacro -%}}{given}{{{{ _written(messages) | replace({whole}, '') }}}}"  # noqa: E501
    before, tokenizer.chat_template = tokenizer.chat_template, changed
    try:
        left = inserted(tokenizer, variables)
        if left is not None or _USER not in (_written(tokenizer, variables, None) or ""):
            raise _refused("writes something in the place of a system message that cannot be taken away", where)
    finally:
        tokenizer.chat_template = before
    return changed


def _system_turn(tokenizer: Any, variables: Mapping[str, Any], where: str) -> _Turns:
    """A system turn from its first character to its last, without what begins a text."""
    text = str(_written(tokenizer, variables, _SYSTEM))
    alone = str(_written(tokenizer, variables, _SYSTEM, prompt=False))
    before, _, behind = text.partition(_SYSTEM)
    end_of_turn = alone.rpartition(_USER)[2]
    if not end_of_turn or not behind.startswith(end_of_turn):
        raise _refused("ends a system turn in another way than a user's", where)
    users = behind[len(end_of_turn) :].partition(_USER)[0]
    begins = str(getattr(tokenizer, "bos_token", "") or "")
    if begins and before.startswith(begins) and not users.startswith(begins):
        before = before.removeprefix(begins)
    return _Turns(before, end_of_turn)


def _written(tokenizer: Any, variables: Mapping[str, Any], system: str | None, prompt: bool = True) -> str | None:
    """A conversation of one question; None where the template refuses it."""
    messages = [{"role": "user", "content": _USER}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return written(tokenizer, messages, variables, prompt)


def _refused(what: str, where: str) -> DanteError:
    return DanteError(
        f"the chat template {what}",
        where=where,
        allowed="null: what the template does by itself; for templates with system messages also a text",
        fix=f"{where}=null",
    )
