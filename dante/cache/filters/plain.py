"""Answers that are no answers: empty ones, and those that did not end by themselves."""

from dante.cache.filters.base import OneByOne
from dante.cache.filters.language import in_its_language, spoken
from dante.cache.records.record import Record

TRUNCATED = ("length", "repetition")


class Empty(OneByOne):
    """White space alone."""

    name = "empty"

    def reason(self, record: Record) -> str | None:
        return None if record.teacher_text.strip() else "no text"


class Truncated(OneByOne):
    """Answers that the token limit or a loop ended: they teach a student to stop in the middle, or never [I]."""

    name = "truncated"

    def reason(self, record: Record) -> str | None:
        return record.finish_reason if record.finish_reason in TRUNCATED else None


class WrongLanguage(OneByOne):
    """Answers that are clearly in another language than was asked for; see `dante.cache.filters.language`."""

    name = "wrong_language"

    def reason(self, record: Record) -> str | None:
        return (
            None if in_its_language(record) else f"{record.language} was asked for, {spoken(record.teacher_text)} came"
        )
