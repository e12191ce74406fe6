"""Plain text as training and evaluation rows, without a chat: every token is a target."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from dante.errors import DanteError
from dante.text.chat import Prompt, Rendered

#: Between a prompt and its answer, and between the messages of a conversation.
BREAK = "\n\n"


def plain(tokenizer: PreTrainedTokenizerBase, text: str) -> Rendered:
    """A text without a chat: every token of it is a target, after the token that begins (or else ends) a text."""
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise DanteError(
            "the tokenizer has neither a token that begins a text nor one that ends it",
            where="plain text (eval.retention, fit.rendering)",
            fix="eval.retention=false fit.rendering=chat",
        )
    ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    return Rendered([int(start), *ids], [False] + [True] * len(ids), len(text.encode()))


class RawRenderer:
    """Renders records as plain text: prompt and answer with a blank line between them, no template, no end of turn.

    What distillation on raw text trains on [C: the failure that the Laguna-dense card reports]. The counterpart of
    `dante.text.chat.ChatRenderer`.

    Args:
        tokenizer: of the student.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.template_kwargs: dict[str, Any] = {}

    def render(self, prompt: Prompt, answer: str) -> Rendered:
        """The whole text as targets."""
        parts = [prompt] if isinstance(prompt, str) else [str(message["content"]) for message in prompt]
        return plain(self.tokenizer, BREAK.join([*parts, answer]))

    def render_many(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Rendered]:
        """Several."""
        return [self.render(prompt, answer) for prompt, answer in pairs]
