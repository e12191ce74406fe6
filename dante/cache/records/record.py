"""One line of the teacher cache, and the checks that every line goes through.

The card's five fields alone make a valid record. The checks are written by hand rather than with a schema library,
because a cache of a million lines is read in full at every first use: they cost a few microseconds per line.
"""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from dante.cache.records.conversation import (
    BEGINNINGS,
    Prompt,
    column_of,
    messages_in,
    read_conversation,
    read_prompt,
    same_prompt,
)
from dante.cache.records.fields import FieldError, check_number, is_finite, short

Split = Literal["train", "heldout", "validation"]

SCHEMA_VERSION = 1
SPLITS = get_args(Split)
REQUIRED = ("prompt", "teacher_text", "output_entropy", "self_consistency", "difficulty_score")
# An entropy is at most ln(vocabulary), which is below 15; what is far above would overflow where entropies are summed.
MOST_NATS = 1e6
MOST_SAMPLES = 2**31 - 1


@dataclass(frozen=True)
class Record:
    """A teacher's answer to one prompt.

    Attributes:
        id: stable hash of prompt, sampling settings and sample index.
        prompt: text, or chat messages that end with the user's.
        teacher_text: the answer without the end-of-turn token.
        output_entropy: lower bound, mean nats per token (see `dante.teachers.uncertainty`).
        output_entropy_upper: upper bound, or None.
        self_consistency: share of the modal answer among extra samples, in [0, 1], or None.
        difficulty_score: in [0, 1], or None.
        finish_reason: `stop`, `length`, `repetition`, or None.
        temperature: of the sampling; 0 is greedy.
        sample_index: which answer to the same prompt.
        domain: slice of the cache.
        language: of the answer.
        token_logprobs: chosen tokens' log-probabilities at temperature 1, or None.
        token_ends: end offset of each token in the UTF-8 bytes of `teacher_text`, or None.
        split: `train`, `heldout` (results), `validation` (choices), or None when the cache is not split.
        family: kind of task, or None.
        prefix_bytes: how many bytes of `teacher_text` were given to the teacher to go on from, or None.
        reference: the right answer in its shortest form, where the question has one, or None.
        correct: whether the answer was checked and is right, or None.
    """

    id: str
    prompt: Prompt
    teacher_text: str
    output_entropy: float
    output_entropy_upper: float | None = None
    self_consistency: float | None = None
    difficulty_score: float | None = None
    finish_reason: str | None = None
    temperature: float | None = None
    sample_index: int = 0
    domain: str | None = None
    language: str | None = None
    token_logprobs: list[float] | None = None
    token_ends: list[int] | None = None
    split: Split | None = None
    family: str | None = None
    prefix_bytes: int | None = None
    reference: str | None = None
    correct: bool | None = None


FIELDS = tuple(field.name for field in fields(Record))
_OPTIONAL_TEXT = ("finish_reason", "domain", "language", "family", "reference")


def stable_hash(*parts: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the parts as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def prompt_hash(prompt: Prompt, *parts: Any) -> str:
    """Equal for all forms of one prompt (see `same_prompt`), with further parts; the only way to compare prompts."""
    return stable_hash(*parts, same_prompt(prompt))


def to_line(record: Record) -> str:
    """One JSON line without its line break; fields that are None are left out, except those of the card."""
    values = ((name, getattr(record, name)) for name in FIELDS)
    return json.dumps({k: v for k, v in values if v is not None or k in REQUIRED}, ensure_ascii=False, allow_nan=False)


def parse_record(data: Any) -> Record:
    """Checks one parsed JSON line and returns it as a record; fields it does not know are ignored.

    Raises:
        FieldError: naming the field, what is wrong with it, and what is allowed.
    """
    if type(data) is not dict:
        fix = "jq -c '.[]' FILE > FILE.jsonl" if type(data) is list else ""
        raise FieldError("(the line)", f"is a {type(data).__name__}", "one JSON object per line", fix)
    if "prompt" not in data:
        data = _with_columns(data)
    for name in REQUIRED:
        if name not in data:
            raise FieldError(name, "is missing", f"the fields {', '.join(REQUIRED)} (the last two may be null)")
    prompt, text, entropy = read_prompt(data["prompt"]), data["teacher_text"], data["output_entropy"]
    if type(text) is not str or not text.strip():
        raise FieldError("teacher_text", f"is {short(text)}", "text that is not empty")
    if text.lstrip().startswith(BEGINNINGS):
        _refuse_messages(text)
    check_number("output_entropy", entropy, 0.0, MOST_NATS, f"0 to {MOST_NATS:g}, in nats per token")
    for name in ("self_consistency", "difficulty_score"):
        if data[name] is not None:
            check_number(name, data[name], 0.0, 1.0, "a number in [0, 1], or null")
    if len(data) == len(REQUIRED):
        derived = stable_hash(prompt, text)
        return Record(derived, prompt, text, entropy, None, data["self_consistency"], data["difficulty_score"])
    _check_optional(data)
    values = {name: data[name] for name in FIELDS if data.get(name) is not None} | {"prompt": prompt}
    values.setdefault("id", stable_hash(prompt, text))
    return Record(**values)


def _with_columns(data: dict[str, Any]) -> dict[str, Any]:
    """The line with prompt and answer out of a column that holds the whole conversation, where it has one."""
    column = column_of(data)
    if column is None:
        return data
    prompt, answer = read_conversation(data[column], column)
    line = {name: value for name, value in data.items() if name != column}
    return ({} if answer is None else {"teacher_text": answer}) | line | {"prompt": prompt}


def _refuse_messages(text: str) -> None:
    if type(messages_in(text, "teacher_text")) is not str:
        raise FieldError(
            "teacher_text",
            f"is text that holds chat messages: {short(text)}",
            "the answer alone",
            'write the content of the assistant\'s message, or the whole conversation as "messages"',
        )


def _check_optional(data: dict[str, Any]) -> None:
    for name in _OPTIONAL_TEXT:
        if data.get(name) is not None and type(data[name]) is not str:
            raise FieldError(name, f"is {short(data[name])}", "text, or null")
    identity = data.get("id")
    if identity is not None and (type(identity) is not str or not identity):
        raise FieldError("id", f"is {short(identity)}", "text that is not empty")
    if data.get("output_entropy_upper") is not None:
        check_number(
            "output_entropy_upper", data["output_entropy_upper"], 0.0, MOST_NATS, f"0 to {MOST_NATS:g}, or null"
        )
        if data["output_entropy_upper"] < data["output_entropy"] - 1e-4:
            raise FieldError("output_entropy_upper", "is below output_entropy", "an upper bound")
    if data.get("temperature") is not None:
        check_number("temperature", data["temperature"], 0.0, math.inf, "a finite number >= 0, or null")
    index = data.get("sample_index")
    if index is not None and (type(index) is not int or not 0 <= index <= MOST_SAMPLES):
        raise FieldError("sample_index", f"is {short(index)}", f"a whole number from 0 to {MOST_SAMPLES}")
    if data.get("split") not in (None, *SPLITS):
        raise FieldError("split", f"is {short(data['split'])}", f"{', '.join(SPLITS)}, or null")
    if data.get("correct") is not None and type(data["correct"]) is not bool:
        raise FieldError("correct", f"is {short(data['correct'])}", "true, false, or null")
    given, total = data.get("prefix_bytes"), len(data["teacher_text"].encode("utf-8"))
    if given is not None and (type(given) is not int or not 0 <= given < total):
        raise FieldError("prefix_bytes", f"is {short(given)}", f"a whole number from 0 to {total - 1}, or null")
    _check_tokens(data.get("token_logprobs"), data.get("token_ends"), given or 0, total)


def _check_tokens(logprobs: Any, ends: Any, given: int, total: int) -> None:
    if logprobs is None and ends is None:
        return
    for name, values, kinds in (("token_logprobs", logprobs, (float, int)), ("token_ends", ends, (int,))):
        if values is not None and (type(values) is not list or any(type(v) not in kinds for v in values)):
            raise FieldError(name, f"is {short(values)}", "a list of numbers, or null")
    if logprobs is not None and not all(value <= 1e-3 and is_finite(value) for value in logprobs):
        raise FieldError("token_logprobs", "holds a value that is no log-probability", "finite numbers <= 0")
    if ends is None:
        return
    if logprobs is not None and len(logprobs) != len(ends):
        raise FieldError("token_ends", f"has {len(ends)} entries, token_logprobs {len(logprobs)}", "equal lengths")
    if not ends or ends[-1] != total or ends[0] < given or any(a > b for a, b in zip(ends, ends[1:], strict=False)):
        raise FieldError(
            "token_ends", f"ends at {short(ends[-1] if ends else None)}", f"rising byte offsets from {given} to {total}"
        )
