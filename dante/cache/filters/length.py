"""Answers that are too long for the student, in the student's own tokens (DASD §3 filters by them, too [C])."""

from dante.cache.filters.base import OneByOne
from dante.cache.records.record import Record
from dante.errors import DanteError


class TooLong(OneByOne):
    """Leaves out answers of more than `max_tokens` tokens; prompt and template do not count.

    Args:
        tokenizer: the student's: a folder or a hub id.
        max_tokens: longest answer that is kept.
    """

    name = "too_long"

    def __init__(self, tokenizer: str, max_tokens: int) -> None:
        if max_tokens < 1:
            raise DanteError(f"max_tokens={max_tokens}", where="cache.source.filters", allowed="at least 1")
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def reason(self, record: Record) -> str | None:
        if not hasattr(self, "_loaded"):
            from dante.text.tokenizer import load_tokenizer

            self._loaded = load_tokenizer(self.tokenizer, None)
        count = len(self._loaded(record.teacher_text, add_special_tokens=False, verbose=False)["input_ids"])
        return f"too long: {count} tokens" if count > self.max_tokens else None
