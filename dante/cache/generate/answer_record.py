"""An engine's answer → a record of the cache."""

from dante.cache.generate.requests import Asked
from dante.cache.grading import is_correct
from dante.cache.records.record import Record
from dante.teachers.engines.base import Generation
from dante.text.thinking import normalise_with_map

LOGPROB_DECIMALS = 4
ENTROPY_DECIMALS = 6


def record_of(asked: Asked, answer: Generation, normalise_thinking: bool) -> Record:
    """The answer with the beginning that was given, offsets of its tokens, and whether it is right where that is known.

    Args:
        asked: what it answers.
        answer: without what was given.
        normalise_thinking: native thinking delimiters become `<think>` and `</think>`.
    """
    prefix = asked.prompt.prefix
    given = len(prefix.encode("utf-8"))
    # A teacher that has nothing to add has not answered: such a record is empty, whatever it was given.
    text, offsets = (
        prefix + answer.text if answer.text.strip() else "",
        [given, *(given + end for end in answer.token_ends)],
    )
    if normalise_thinking:
        text, offsets = normalise_with_map(text, offsets)
    return Record(
        id=asked.identity,
        prompt=asked.prompt.prompt,
        teacher_text=text,
        output_entropy=round(answer.output_entropy, ENTROPY_DECIMALS),
        output_entropy_upper=round(answer.output_entropy_upper, ENTROPY_DECIMALS),
        finish_reason=answer.finish_reason,
        temperature=asked.decoding.heat,
        sample_index=asked.sample,
        domain=asked.prompt.domain,
        language=asked.prompt.language,
        family=asked.prompt.family,
        token_logprobs=[min(0.0, round(value, LOGPROB_DECIMALS)) for value in answer.token_logprobs],
        token_ends=offsets[1:],
        prefix_bytes=offsets[0] or None,
        reference=asked.prompt.reference or None,
        correct=is_correct(text, asked.prompt.reference) if asked.prompt.reference else None,
    )
