"""Prompts in all the forms in which people keep them, and when two of them are the same one.

A prompt is text or chat messages. Files hold messages in more ways than one, and each is read as what it is:

| where | form |
|---|---|
| `prompt` | text; a list of `{"role", "content"}` |
| `prompt`, out of a CSV or a Parquet column of text | the same list as JSON, or as Python prints it |
| `messages`, `conversations` instead of `prompt` | the same; ShareGPT's `{"from", "value"}` |

Text that looks like messages and cannot be read as such is refused: a student that is trained on it learns to answer
brackets.
"""

import ast
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from dante.cache.records.fields import FieldError, short

Message = dict[str, str]
Prompt = str | list[Message]

ROLES = ("system", "user", "assistant")
# Columns that hold a whole conversation.
COLUMNS = ("messages", "conversations")
MESSAGE = '{"role": system|user|assistant, "content": text}'
FORMS = f"text, or a list of chat messages {MESSAGE}"
_SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
BEGINNINGS = ("[", "{", "array(")
# How a list of messages begins, as JSON, as Python prints it, or as NumPy does.
_BEGINNING = re.compile(
    r"\s*(?:array\()?[\[{]\s*\{?\s*['\"](?:role|content|from|value|messages|conversations)['\"]\s*:"
)


def read_prompt(value: Any, field: str = "prompt") -> Prompt:
    """A checked prompt: text, or messages that end with the user's.

    Raises:
        FieldError: it is neither, or text that looks like messages and is none.
    """
    if type(value) is str:
        if not value.strip():
            raise FieldError(field, "is empty", FORMS)
        if not value.lstrip().startswith(BEGINNINGS):
            return value
    content = messages_in(value, field) if type(value) is str else value
    if type(content) is str:
        return content
    messages = _messages(content, field)
    if messages[-1]["role"] != "user":
        raise FieldError(field, f"ends with the role {messages[-1]['role']!r}", "messages that end with the user's")
    if not messages[-1]["content"].strip():
        raise FieldError(field, "ends with an empty message", "a user's message with text")
    return messages


def read_conversation(value: Any, field: str) -> tuple[list[Message], str | None]:
    """Messages up to the user's last, and the assistant's answer to it where the conversation ends with one."""
    messages = _messages(messages_in(value, field) if type(value) is str else value, field)
    answer = messages[-1]["content"] if messages[-1]["role"] == "assistant" else None
    asked = read_prompt(messages if answer is None else messages[:-1], field)
    assert not isinstance(asked, str)
    return asked, answer


def column_of(row: Mapping[str, Any]) -> str | None:
    """The column of a row that holds a conversation; None where it has a `prompt`, or neither."""
    if "prompt" in row:
        return None
    return next((name for name in COLUMNS if row.get(name) is not None), None)


def messages_in(text: str, field: str) -> Any:
    """What a text holds that was written for a list of messages; the text itself where it is none.

    Raises:
        FieldError: it begins like messages, and cannot be read.
    """
    if _BEGINNING.match(text) is None:
        return text
    try:
        content, end = json.JSONDecoder().raw_decode(text.strip())
        if text.strip()[end:].strip():  # a text about messages, which goes on
            return text
    except (ValueError, RecursionError):
        try:
            content = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise _unreadable(text, field) from None
    if isinstance(content, dict):
        content = next((content[name] for name in COLUMNS if name in content), [content])
    if not (isinstance(content, list) and all(isinstance(message, dict) for message in content)):
        raise _unreadable(text, field)
    refuse_half_characters(content)
    return content


def messages_of(prompt: Prompt) -> list[Message]:
    """Chat messages of a prompt; plain text is one user message."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def same_prompt(prompt: Prompt) -> Prompt:
    """One form for all forms of a prompt: equal for prompts that ask the same.

    Text, a list of one user message, white space at the ends, line breaks of Windows and decomposed accents make no
    other prompt. One user message becomes text.
    """
    messages = [{"role": m["role"], "content": _plain(m["content"])} for m in messages_of(prompt)]
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return messages


def refuse_half_characters(data: object) -> None:
    """Refuses text with half of a surrogate pair: no tokenizer reads it and no file can hold it."""
    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise FieldError("(the line)", "holds half of a surrogate pair", "whole Unicode characters") from None


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip()


def _messages(raw_messages: Any, field: str) -> list[Message]:
    """Messages, each checked; ShareGPT's are renamed."""
    if type(raw_messages) is not list or not raw_messages:
        raise FieldError(field, f"is {short(raw_messages)}", f"{FORMS} that is not empty")
    messages = [_renamed(message) for message in raw_messages]
    for message in messages:
        good = type(message) is dict and message.get("role") in ROLES and type(message.get("content")) is str
        if not good:
            raise FieldError(field, f"holds {short(message)}", MESSAGE)
    return messages


def _renamed(message: Any) -> Any:
    if type(message) is not dict or "role" in message or type(message.get("from")) is not str:
        return message
    return {"role": _SHAREGPT.get(message["from"], message["from"]), "content": message.get("value")}


def _unreadable(text: str, field: str) -> FieldError:
    return FieldError(
        field,
        f"is text that begins like chat messages and cannot be read as such: {short(text)}",
        FORMS,
        "write the messages as a JSON list (pandas: df.to_json('FILE.jsonl', orient='records', lines=True)), or put a "
        "word in front where the text itself is meant",
    )
