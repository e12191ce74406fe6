"""Stage `select`: of several answers to a prompt one is kept, and what is kept is a cache like any other.

records-00000.jsonl.zst …  one train record per prompt; held-out and validation prompts keep the answer that was
                           sampled first, whatever is selected: results of two selectors stay comparable
manifest.json              the cache's own, and under `selection` what was kept of what, by which rule
sentences/candidates.jsonl every candidate in sentences: spans, probabilities under both models, type, kept or not
"""

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from dante.cache.records.manifest import load_manifest
from dante.cache.records.reader import first_answers, read_records
from dante.cache.records.writer import CacheWriter
from dante.run.parts import build
from dante.run.step import Step
from dante.select.candidate import Candidate
from dante.select.choose import Read, beta_of, both_sides, candidates, choose, read
from dante.select.labels import Types, shares_over_grid
from dante.select.likelihood.files import LikelihoodFiles
from dante.select.sampled import sampled
from dante.select.selectors.base import Selector
from dante.select.settings import SelectSettings
from dante.system.jsonl import write_lines

SENTENCES = "sentences/candidates.jsonl"  # in a folder: what lies beside a manifest is a shard
# What a manifest says of its own shards: written anew.
_OWN = ("schema_version", "counts", "shards")
_DECIMALS = 6


def run(step: Step[SelectSettings]) -> None:
    """Writes the cache; a restart begins anew.

    Inputs: `cache`, candidates with the teacher's log-probabilities; `likelihood`, the student's side of them.

    Raises:
        DanteError: answers without log-probabilities, or that were not scored.
    """
    settings = step.settings
    shutil.rmtree(step.out, ignore_errors=True)
    step.out.mkdir(parents=True)
    cache = step.inputs["cache"]
    records = sampled(cache, settings.temperature)
    likelihoods = LikelihoodFiles(step.inputs["likelihood"]).of(records)
    answers = [read(record, likelihood) for record, likelihood in zip(records, likelihoods, strict=True)]
    beta = beta_of(settings.beta, answers)
    groups = candidates(answers, likelihoods, beta)
    selector: Selector = build(settings.selector)
    kept = choose(groups, selector, settings.seed)
    held = first_answers([record for record in read_records(cache) if record.split in ("heldout", "validation")])
    identities = {candidate.record.id for candidate in kept}
    types = {candidate.record.id: candidate.types for group in groups for candidate in group}
    lines = [_line(one, types[one.record.id], one.record.id in identities) for one in answers]
    (step.out / SENTENCES).parent.mkdir()
    write_lines(step.out / SENTENCES, lines)
    manifest = {key: value for key, value in load_manifest(cache).items() if key not in _OWN}
    facts = _facts(answers, groups, kept, beta) | {"selector": type(selector).__name__, "seed": settings.seed}
    CacheWriter(step.out).add([*(one.record for one in kept), *held]).seal(**manifest, selection=facts)


def _facts(
    answers: Sequence[Read], groups: Sequence[Sequence[Candidate]], kept: Sequence[Candidate], beta: float
) -> dict[str, Any]:
    """What was kept of what, and what other β would have called the same sentences."""
    teacher, student = both_sides(answers)
    return {
        "beta": round(beta, _DECIMALS),
        "prompts": len(groups),
        "candidates": len(answers),
        "candidate_tokens": sum(len(one.record.token_ends or ()) for one in answers),
        "kept_tokens": sum(len(one.record.token_ends or ()) for one in kept),
        "teacher_sentences": sum(one.teacher_sentences for one in kept),
        "shares": shares_over_grid(teacher, student, round(beta, _DECIMALS)),
    }


def _line(one: Read, types: Types, kept: bool) -> dict[str, Any]:
    return {
        "id": one.record.id,
        "kept": kept,
        "spans": [list(span) for span in one.spans],
        "teacher": _rounded(one.teacher),
        "student": _rounded(one.student),
        "types": types.tolist(),
    }


def _rounded(probabilities: Any) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), _DECIMALS) for value in probabilities]
