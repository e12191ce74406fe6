"""Stage `sentences`: what the candidates were like before training, and what became of their sentences.

sentences.json   shares of types before and after, types by position in right and in wrong answers (Figure 6), what
                 every selector would have kept (Figure 10), how sure the teacher was at each temperature
examples.jsonl   some answers sentence by sentence with the three probabilities (Figure 5)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dante.cache.records.record import prompt_hash
from dante.run.parts import build
from dante.run.step import Step
from dante.select.candidate import Candidate
from dante.select.choices import compared, response_probability
from dante.select.choose import Read, beta_of, both_sides, candidates, read
from dante.select.labels import (
    AFTER,
    Type,
    Types,
    after_training,
    automatic_beta,
    before_training,
    shares,
    shares_over_grid,
)
from dante.select.likelihood.files import Likelihood, LikelihoodFiles
from dante.select.positions import Typed, curves
from dante.select.sampled import sampled
from dante.select.selectors.base import Selector
from dante.select.settings import SentencesSettings
from dante.system.files import write_json
from dante.system.jsonl import write_lines

FACTS, EXAMPLES = "sentences.json", "examples.jsonl"
_DECIMALS = 6
CONFIDENCE = 0.95


def run(step: Step[SentencesSettings]) -> None:
    """Writes the two files; a restart begins anew.

    Inputs: `cache`, candidates; `likelihood`, the untrained student's side of them; `after`, the trained student's side
    of some.

    Raises:
        DanteError: answers that were not scored.
    """
    settings = step.settings
    step.out.mkdir(parents=True, exist_ok=True)
    cache, before = step.inputs["cache"], LikelihoodFiles(step.inputs["likelihood"])
    selectors: dict[str, Selector] = {name: build(node) for name, node in settings.compared.items()}
    by_temperature: dict[str, Any] = {}
    everything: list[Read] = []
    for temperature in settings.temperatures:
        records = sampled(cache, temperature)
        likelihoods = before.of(records)
        answers = [read(record, likelihood) for record, likelihood in zip(records, likelihoods, strict=True)]
        beta = beta_of(settings.beta, answers)
        groups = candidates(answers, likelihoods, beta)
        by_temperature[f"{temperature:g}"] = _facts(answers, groups, beta) | {
            "selectors": compared(groups, selectors, settings.compared_seed)
        }
        everything += answers
    beta = beta_of(settings.beta, everything)
    facts = {"beta": round(beta, _DECIMALS), "temperatures": by_temperature} | _after(step, beta)
    write_json(step.out / FACTS, facts)


def _facts(answers: Sequence[Read], groups: Sequence[Sequence[Candidate]], beta: float) -> dict[str, Any]:
    teacher, student = both_sides(answers)
    right = [one.record.correct for one in answers if one.record.correct is not None]
    sure = [response_probability(candidate) for group in groups for candidate in group]
    return {
        "beta": round(beta, _DECIMALS),
        "answers": len(answers),
        "prompts": len(groups),
        "checked": len(right),
        "right": float(np.mean(right)) if right else None,
        "probability": float(np.mean(sure)),
        "entropy": float(np.mean([one.record.output_entropy for one in answers])),
        "automatic_beta": automatic_beta(teacher, student),
        "shares": shares_over_grid(teacher, student, round(beta, _DECIMALS)),
    }


def _after(step: Step[SentencesSettings], beta: float) -> dict[str, Any]:
    """Four types of the answers that the trained student has read, too; examples of them are written beside."""
    settings, seed = step.settings, step.seed
    records = sampled(step.inputs["cache"], None, settings.prompts, seed)
    sides = [LikelihoodFiles(step.inputs[name]).of(records) for name in ("likelihood", "after")]
    before, after = ([read(r, one) for r, one in zip(records, side, strict=True)] for side in sides)
    alpha = beta if settings.alpha is None else beta_of(settings.alpha, before)
    types = [after_training(a.teacher, a.student, b.student, alpha, beta) for a, b in zip(before, after, strict=True)]
    lines = [_line(*parts, beta) for parts in zip(before, after, types, strict=True)]
    write_lines(step.out / EXAMPLES, _spread(lines, settings.examples))
    return {
        "alpha": round(alpha, _DECIMALS),
        "after": {
            "answers": len(records),
            "shares": shares(np.concatenate([np.zeros(0, dtype=np.int8), *types]), AFTER),
            "nats": {"before": _nats(sides[0]), "after": _nats(sides[1])},
            "positions": {f"{t:g}": _positions(before, types, t, settings, seed) for t in settings.temperatures},
        },
    }


def _positions(
    answers: Sequence[Read], types: Sequence[Types], temperature: float, settings: SentencesSettings, seed: int
) -> dict[str, Any]:
    """Per type its curves over checked answers of one temperature: sharp ones are right more often, and likelier."""
    typed = [
        Typed(prompt_hash(one.record.prompt), one.record.correct, kinds)
        for one, kinds in zip(answers, types, strict=True)
        if one.record.correct is not None and one.record.temperature == temperature
    ]
    found = {kind.word: curves(typed, kind, settings.bootstrap, CONFIDENCE, seed) for kind in AFTER}
    return {name: None if one is None else vars(one) for name, one in found.items()}


def _nats(likelihoods: Sequence[Likelihood]) -> float:
    """−log p of a token, the mean over all answers."""
    return float(np.concatenate([one.nats for one in likelihoods]).mean())


def _line(before: Read, after: Read, types: Types, beta: float) -> dict[str, Any]:
    """An answer's text, cut at its sentences, and what is said of each."""
    first = before_training(before.teacher, before.student, beta)
    text = before.record.teacher_text
    return {
        "id": before.record.id,
        "prompt": before.record.prompt,
        "temperature": before.record.temperature,
        "correct": before.record.correct,
        "sentences": [
            {
                "text": text[start:end],
                "teacher": _shown(teacher),
                "student": _shown(student),
                "distilled": _shown(distilled),
                "before": Type(kind).word,
                "after": Type(later).word,
            }
            for (start, end), teacher, student, distilled, kind, later in zip(
                before.spans, before.teacher, before.student, after.student, first, types, strict=True
            )
        ],
    }


def _shown(probability: float) -> float | None:
    return None if np.isnan(probability) else round(float(probability), _DECIMALS)


def _spread(lines: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many of the lines, of different prompts where there are enough, of either temperature in turn."""
    firsts: dict[tuple[str, Any], dict[str, Any]] = {}
    for line in lines:
        firsts.setdefault((str(line["prompt"]), line["temperature"]), line)
    ordered = list(firsts.values())
    temperatures = sorted({line["temperature"] for line in ordered}, key=str)
    turn = {temperature: number for number, temperature in enumerate(temperatures)}
    prompts = list(dict.fromkeys(str(line["prompt"]) for line in ordered))
    place = {prompt: number for number, prompt in enumerate(prompts)}
    mixed = [line for line in ordered if turn[line["temperature"]] == place[str(line["prompt"])] % len(turn)]
    return sorted(mixed, key=lambda line: place[str(line["prompt"])])[:count]
