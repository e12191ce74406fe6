"""Whether two tokenizers give the same numbers to the same tokens, and where they first do not."""

from typing import Any


def difference(theirs: Any, ours: Any, template: bool = True) -> str | None:
    """The first difference of two tokenizers and their templates in words; None where they render alike.

    Args:
        theirs: the teacher's tokenizer.
        ours: the student's.
        template: whether templates count: plain text is rendered without one.
    """
    tokens = token_difference(theirs, ours)
    if tokens is not None:
        return tokens
    if theirs.backend_tokenizer.model.__getstate__() != ours.backend_tokenizer.model.__getstate__():
        return "they have the same tokens and cut texts in different ways (merges)"
    if template and theirs.chat_template != ours.chat_template:
        return f"their chat templates differ: {_first_line(str(theirs.chat_template), str(ours.chat_template))}"
    return None


def token_difference(theirs: Any, ours: Any) -> str | None:
    """The first number that means another token in the student's vocabulary than in the teacher's, in words.

    Vocabularies are compared token by token, whatever number of padding rows a model has behind them.
    """
    teacher_ids, student_ids = theirs.get_vocab(), ours.get_vocab()
    return None if teacher_ids == student_ids else _first_token(teacher_ids, student_ids)


def _first_token(teacher_ids: dict[str, int], student_ids: dict[str, int]) -> str:
    teacher_tokens = {number: token for token, number in teacher_ids.items()}
    student_tokens = {number: token for token, number in student_ids.items()}
    for number in sorted(teacher_tokens.keys() | student_tokens.keys()):
        one, other = teacher_tokens.get(number), student_tokens.get(number)
        if one != other:
            return f"token {number} is {_shown(one)} in the teacher's vocabulary and {_shown(other)} in the student's"
    return "a token has several numbers in one of them"


def _shown(token: str | None) -> str:
    return "absent" if token is None else repr(token)


def _first_line(theirs: str, ours: str) -> str:
    lines = zip(theirs.splitlines() + [""], ours.splitlines() + [""], strict=False)
    for number, (one, other) in enumerate(lines, start=1):
        if one != other:
            return f"line {number} is {one[:80]!r} in the teacher's and {other[:80]!r} in the student's"
    return "one goes on where the other ends"
