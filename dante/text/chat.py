"""Chat rendering with exact supervision masks, for templates that carry no `{% generation %}` tags.

The conversation is rendered twice: up to the generation prompt (what the model is given at inference) and with the
answer. The full text is tokenised once. Supervised is what follows the generation prompt: the answer's tokens and the
end-of-turn token; nothing else, not the newline that many templates put after it. The mask is proved for every record
rather than assumed: the generation prompt's tokens must be the first tokens of the full text (so no token straddles
the border and training sees what inference sees), the first token after the answer must be the template's one
end-of-turn token, and the supervised tokens must decode to the answer. A template that fails any of this is refused.
Masks come from positions, never from ids, so `pad_token_id == eos_token_id` (SmolLM2) cannot hide the end-of-turn
token.

White space at both ends of an answer is not part of the answer [I]: most templates trim it anyway (Llama 3, Gemma,
SmolLM3) and where they do not, it fuses with the template's newline into a token that no generation prompt ends with.
White space that the *template* writes between generation prompt and answer (`[/INST] answer`) is supervised, because
at inference the model has to write it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from dante.errors import DanteError

Prompt = str | Sequence[Mapping[str, Any]]

# Some templates (SmolLM3, Llama 3.1) print today's date. Tokens must not depend on the day a run is started.
FIXED_DATE = {"%d %B %Y": "01 January 2026", "%d %b %Y": "01 Jan 2026"}


@dataclass(frozen=True)
class Rendered:
    """A tokenised conversation and its mask.

    Attributes:
        input_ids: tokens of the whole conversation.
        supervised: whether each token is a target; never true for the first.
        answer_bytes: UTF-8 bytes of the answer, without white space at its ends.
    """

    input_ids: list[int]
    supervised: list[bool]
    answer_bytes: int


class _Written(NamedTuple):
    """A conversation as text: lengths in characters of the generation prompt and up to the answer's end."""

    full: str
    prefix: int
    answer_end: int
    answer_bytes: int


class ChatRenderer:
    """Renders prompts and answers with the tokenizer's own chat template.

    Args:
        tokenizer: a fast tokenizer (character offsets are needed) with a chat template.
        **template_kwargs: variables of the template, such as `enable_thinking=False`.

    Raises:
        DanteError: the tokenizer has no template or no offsets, or the template cannot be masked exactly.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, **template_kwargs: Any) -> None:
        self.tokenizer = tokenizer
        self.template_kwargs = template_kwargs
        self.name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        if not getattr(tokenizer, "chat_template", None):
            raise self._refuse("the tokenizer has no chat template", fix="use an instruct model's tokenizer")
        if not tokenizer.is_fast:
            raise self._refuse("the tokenizer gives no character offsets", fix="use the fast tokenizer of this model")
        self._special_ids = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special_ids |= set(tokenizer.all_special_ids)
        self._end_of_turn_id: int | None = None
        probe = self.render("Say yes.", "Yes.")
        self._end_of_turn_id = [i for i, target in zip(probe.input_ids, probe.supervised, strict=True) if target][-1]

    @property
    def end_of_turn_id(self) -> int:
        """Id of the token that ends an assistant turn: the last supervised token of every record."""
        assert self._end_of_turn_id is not None
        return self._end_of_turn_id

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Tokens of the conversation up to and including the generation prompt: what inference starts from."""
        return self._tokenise(self._apply(_messages(prompt), add_generation_prompt=True))["input_ids"]

    def render(self, prompt: Prompt, answer: str) -> Rendered:
        """The conversation with `answer` as its last turn, and the mask of that turn.

        Raises:
            DanteError: the mask would not be exact, or the answer is empty or holds a special token.
        """
        return self.render_many([(prompt, answer)])[0]

    def render_many(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Rendered]:
        """Prompts and answers as `render` has them, tokenised together, which is faster.

        Raises:
            DanteError: some mask would not be exact; render them one by one to know which.
        """
        written = [self._write(prompt, answer) for prompt, answer in pairs]
        # Masks and types that nobody reads are not made.
        spare = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
        encoded = self.tokenizer([text.full for text in written], return_offsets_mapping=False, verbose=False, **spare)
        prefixes = self.tokenizer([text.full[: text.prefix] for text in written], verbose=False, **spare)
        assert encoded.encodings is not None, "a fast tokenizer has them"
        parts = zip(written, encoded["input_ids"], encoded.encodings, prefixes["input_ids"], strict=True)
        return [self._mask(*part) for part in parts]

    def _write(self, prompt: Prompt, answer: str) -> _Written:
        """The conversation's text and where its parts are; each checked."""
        messages, answer = _messages(prompt), answer.strip()
        if not answer:
            raise DanteError("the answer is empty", where="teacher_text", fix="drop the record from the cache")
        prefix = self._apply(messages, add_generation_prompt=True)
        full = self._apply([*messages, {"role": "assistant", "content": answer}], add_generation_prompt=False)
        if not full.startswith(prefix):
            raise self._refuse(
                "the conversation with its answer does not begin with the generation prompt: "
                + _difference(prefix, full[: len(prefix)]),
                fix="pass the template variable that makes both equal, e.g. +chat.enable_thinking=false",
            )
        rest = full[len(prefix) :]
        lead = len(rest) - len(rest.lstrip())
        if not rest.startswith(answer, lead):
            raise self._refuse(
                "the template changes the answer or writes something before it: "
                + _difference(answer, rest[lead : lead + len(answer)]),
                fix="pass the template variable that turns this off, e.g. +chat.enable_thinking=false",
            )
        return _Written(full, len(prefix), len(prefix) + lead + len(answer), len(answer.encode()))

    def _mask(self, text: _Written, ids: list[int], encoding: Any, prompt_ids: list[int]) -> Rendered:
        """Tokens, index of the first target, index of the end-of-turn token; each checked."""
        start = len(prompt_ids)
        if ids[:start] != prompt_ids:
            index = next(i for i in range(start) if i >= len(ids) or ids[i] != prompt_ids[i])
            raise self._refuse(
                f"a token straddles the border between prompt and answer: inference ends with "
                f"{self._show(prompt_ids[index:])}, training has {self._show(ids[index : index + 3])}",
                fix="end the template's generation prompt with a special token or a newline",
            )
        end = _token_at_or_after(encoding, text.answer_end, start)
        if end is None or ids[end] not in self._special_ids:
            following = "nothing" if end is None else self._show(ids[end : end + 1])
            raise self._refuse(
                f"the answer must be followed at once by a special end-of-turn token, but {following} follows",
                fix="write the end-of-turn token directly after the content in the template",
            )
        if self._end_of_turn_id not in (None, ids[end]):
            raise self._refuse(
                f"turns end with {self._show(ids[end : end + 1])} here and with {self._show([self.end_of_turn_id])} "
                "elsewhere"
            )
        self._check_answer_tokens(ids, start, end, text.full[text.prefix : text.answer_end])
        supervised = [False] * start + [True] * (end + 1 - start) + [False] * (len(ids) - end - 1)
        return Rendered(ids, supervised, text.answer_bytes)

    def _check_answer_tokens(self, ids: list[int], start: int, end: int, target: str) -> None:
        special = [i for i in ids[start:end] if i in self._special_ids]
        if special:
            raise DanteError(
                f"the answer contains the special token {self._show(special[:1])}",
                where="teacher_text",
                fix="drop the record, or cut the answer before that token when the cache is written",
            )
        # Decoded behind the prompt, not alone: SentencePiece decoders drop the first space of what they are given.
        before, both = self._decode(ids[:start]), self._decode(ids[:end])
        decoded = both[len(before) :] if both.startswith(before) else both
        if decoded != target and decoded != self._normalise(target):
            raise self._refuse(
                "the supervised tokens do not decode to the answer: " + _difference(target, decoded),
                where="teacher_text",
                fix="drop the record if its text is damaged, otherwise use another tokenizer",
            )

    def _normalise(self, text: str) -> str:
        """What the tokenizer makes of `text` before it splits it (Qwen: Unicode NFC)."""
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def _apply(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **{"strftime_now": fixed_date, **self.template_kwargs},
            )
        except TemplateError as error:
            roles = ", ".join(str(message["role"]) for message in messages)
            raise self._refuse(f"the template refuses a conversation of roles {roles}: {error}") from error
        assert isinstance(text, str)
        return text

    def _tokenise(self, text: str) -> Any:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)

    def _decode(self, ids: list[int]) -> str:
        # An array, because transformers asks every element of a list for its type.
        array = np.asarray(ids, dtype=np.int64)
        text = self.tokenizer.decode(array, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def _show(self, ids: list[int]) -> str:
        return " + ".join(repr(self._decode([i])) for i in ids)

    def _refuse(self, what: str, where: str = "", fix: str = "") -> DanteError:
        return DanteError(what, where=where or f"chat template of {self.name}", fix=fix)


def _token_at_or_after(encoding: Any, character: int, start: int) -> int | None:
    """First token from `start` on that begins at a character or behind it."""
    token = encoding.char_to_token(character)
    if token is not None and token >= start and encoding.token_to_chars(token)[0] == character:
        return token
    offsets = encoding.offsets
    return next((i for i in range(start, len(offsets)) if offsets[i][0] >= character), None)


def written(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], prompt: bool = True
) -> str | None:
    """A conversation as a template writes it; None where the template refuses it: it has no system message, say.

    Args:
        tokenizer: with a chat template.
        messages: the conversation.
        variables: of the template.
        prompt: with the generation prompt behind it.
    """
    told = {"strftime_now": fixed_date, **variables}
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt, **told))
    except TemplateError:
        return None


def fixed_date(date_format: str) -> str:
    """What a template's `strftime_now` writes, for teacher and student alike."""
    return FIXED_DATE.get(date_format, "2026-01-01")


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(m) for m in prompt]
    if not messages or messages[-1].get("role") == "assistant":
        raise DanteError(
            "a prompt must end with a turn the assistant can answer",
            where="prompt",
            allowed="a string, or chat messages of which the last is not the assistant's",
        )
    return messages


def _difference(expected: str, actual: str) -> str:
    """The place where two texts part, shortened."""
    at = next(
        (i for i, (a, b) in enumerate(zip(expected, actual, strict=False)) if a != b), min(len(expected), len(actual))
    )
    return f"expected {expected[at : at + 40]!r}, found {actual[at : at + 40]!r} at character {at}"
