"""How a model was asked, in the same words for our rows and for other harnesses' results."""

from collections.abc import Mapping
from typing import Any

_READ = {
    "multiple_choice": "log-likelihood of the answers",
    "loglikelihood": "log-likelihood of the answer",
    "loglikelihood_rolling": "log-likelihood of the text",
}


def decoding_of(config: Mapping[str, Any], draws: int | None = None) -> str:
    """How a task of lm-evaluation-harness asks.

    Args:
        config: the task's, as the harness holds and writes it.
        draws: answers per question; None: as the config says.
    """
    kind = config.get("output_type")
    if kind != "generate_until":
        return _READ.get(str(kind), "")
    given = config.get("generation_kwargs") or {}
    temperature = number(given.get("temperature"))
    sampled = given.get("do_sample", bool(temperature))
    return decoding_in_words(
        temperature=(1.0 if temperature is None else temperature) if sampled else None,
        top_p=number(given.get("top_p")),
        new_tokens=given.get("max_gen_toks") or given.get("max_new_tokens"),
        answers=config.get("repeats") if draws is None else draws,
    )


def number(value: Any) -> float | None:
    """A JSON number; None for anything else, such as the harness's "N/A"."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def decoding_in_words(
    *,
    temperature: float | None,
    top_p: float | None = None,
    new_tokens: int | None = None,
    answers: int | None = None,
    seed: int | None = None,
) -> str:
    """How texts were drawn, in words.

    Args:
        temperature: None or 0: the most likely token.
        top_p: of the tokens that were drawn from.
        new_tokens: most tokens of an answer.
        answers: answers per question.
        seed: of the draws.
    """
    drawn = [f"temperature {temperature:g}"] if temperature else ["greedy"]
    if temperature:
        drawn += [f"top-p {top_p:g}"] if top_p is not None and top_p < 1 else []
        drawn += [f"seed {seed}"] if seed is not None else []
    drawn += [f"at most {new_tokens:,} new tokens"] if new_tokens else []
    drawn += [f"{answers} answers per question"] if answers is not None and answers > 1 else []
    return ", ".join(drawn)
