"""Stage `mixed`: the teacher ends what the student began, and that becomes a cache with the teacher's own answers.

records-00000.jsonl.zst …  answers that a student began and the teacher ended (`prefix_bytes` says where), then the
                           teacher's own in the wanted ratio; held-out and validation prompts as they were
manifest.json              the cache's own, and under `mixed` how many there were at every step of the way
own.json                   which rows of the train split of which cache the teacher's own answers are

An answer that did not reach its limit is not used: what the student finishes within reach of the teacher's length is
no symptom [C].
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dante import console
from dante.cache.filters import Empty, apply_all
from dante.cache.generate.answer_record import record_of
from dante.cache.generate.batches import Generator
from dante.cache.generate.requests import Renderer
from dante.cache.generate.teacher_store import teacher_store
from dante.cache.mixed.cut import beginning, cut_place
from dante.cache.mixed.samples import Sample, load_samples, prompt_of
from dante.cache.mixed.settings import MixedSettings
from dante.cache.prompts.pocket import Prompt
from dante.cache.records.manifest import load_manifest
from dante.cache.records.reader import read_records
from dante.cache.records.record import Record
from dante.cache.records.writer import CacheWriter
from dante.errors import DanteError
from dante.models.outside import named_files
from dante.run import store
from dante.run.parts import build
from dante.run.step import Step
from dante.system.files import write_json
from dante.teachers.engines.base import Decoding, Engine
from dante.teachers.teacher import load_teacher
from dante.text.thinking import native_thinking

EXAMPLES = 3
OWN = "own.json"
# What a manifest says of its own shards is written anew; what a selection cost was charged to the fits before.
_OWN = ("schema_version", "counts", "shards", "selection", "filters")


def content_identity(settings: dict[str, Any]) -> Any:
    """What its filters read from outside the run, for its fingerprint: files are their content, not their path."""
    return named_files(settings) or None


def run(step: Step[MixedSettings]) -> None:
    """Writes the cache; a restart begins anew, and finds the teacher's answers in its store.

    Inputs: `cache`, the teacher's own answers; `samples`, the student's to the same prompts; `teacher`.

    Raises:
        DanteError: no answer reached its limit, or the filters left none.
    """
    settings = step.settings
    shutil.rmtree(step.out, ignore_errors=True)
    step.out.mkdir(parents=True)
    cache = step.inputs["cache"]
    own = {record.id: record for record in read_records(cache, "train")}
    samples, sampled = load_samples(step.inputs["samples"])
    cut_off = [sample for sample in samples if sample.cut_off]
    begun = [sample for sample in cut_off if len(sample.token_ends) > 1]  # of one token nothing can be cut
    if not begun:
        raise _nothing_begun(len(samples), len(cut_off), step.inputs["samples"])
    kept, facts = _continued(step, own, begun)
    if not kept:
        raise DanteError(
            f"the filters left none of the {len(begun)} answers that the student began and the teacher ended",
            where="mixed.filters",
            fix=f"switch one off: mixed.filters.NAME=null; dropped: {facts['filters']}",
        )
    wanted = round(settings.off_policy * len(kept))
    beside = off_policy(list(own.values()), wanted, step.seed)
    if len(beside) < wanted:
        console.note(f"{wanted:,} answers of the teacher's own were wanted beside, and the cache has {len(beside):,}")
    held = [record for record in read_records(cache) if record.split in ("heldout", "validation")]
    manifest = {key: value for key, value in load_manifest(cache).items() if key not in _OWN}
    facts |= {"sampled": sampled, "kept": len(kept), "off_policy": len(beside), "off_policy_wanted": wanted}
    CacheWriter(step.out).add([*kept, *beside, *held]).seal(**manifest, mixed=facts)
    rows = {identity: row for row, identity in enumerate(own)}
    described = store.read_description(cache) or {}
    write_json(
        step.out / OWN,
        {"cache": described.get("fingerprint", cache.name), "rows": {one.id: rows[one.id] for one in beside}},
    )


def check_exact(api: str | None, renderer: Renderer, prompts: Sequence[Prompt]) -> None:
    """A server that renders the beginning by itself may take white space from its ends, and go on from another text.

    Args:
        api: what a server speaks; None: the engine is no server.
        renderer: of the teacher's template.
        prompts: with the given beginnings.
    """
    if api == "chat" and any(p.prefix != p.prefix.strip() for p in prompts) and not renderer.keeps_white_space():
        raise DanteError(
            "the teacher's template takes white space from a given beginning: a server would go on from another text",
            where="mixed.engine.api",
            allowed="completions: token ids in and out, exact for every beginning",
            fix="mixed.engine.api=completions",
        )


def _nothing_begun(samples: int, cut_off: int, where: Path) -> DanteError:
    if cut_off:
        return DanteError(
            f"{cut_off} of the student's {samples} answers reached their limit, and it was a single token: nothing "
            "can be cut from that",
            where=str(where),
            fix="raise mixed.cap",
        )
    return DanteError(
        f"none of the student's {samples} answers reached its limit, so there is nothing to go on with",
        where=str(where),
        fix="lower mixed.cap, ask more prompts (mixed.prompts), or leave the round out: recipe=dasd",
    )


def off_policy(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """So many of the teacher's own answers, drawn without replacement, in the cache's order; all if there are fewer."""
    places = random.Random(f"off-policy {seed}").sample(range(len(records)), min(count, len(records)))
    return [records[place] for place in sorted(places)]


def _continued(
    step: Step[MixedSettings], own: dict[str, Record], begun: Sequence[Sample]
) -> tuple[list[Record], dict[str, Any]]:
    """The answers that filters keep, and what happened to the others."""
    settings = step.settings
    teacher = load_teacher(step.inputs["teacher"])
    model = teacher.location(step.inputs["teacher"])
    renderer = Renderer(model, teacher.revision, None, step.seed, settings.chat)
    engine: Engine = build(settings.engine)
    decoding: Decoding = build(settings.decoding)
    prompts = []
    for sample in begun:
        tokens = cut_place(sample.record, sample.token_ends, settings.cut, step.seed)
        prefix = beginning(sample.text, sample.token_ends, tokens)
        if settings.delimiters is not None:
            prefix = native_thinking(prefix, settings.delimiters.open, settings.delimiters.close)
        prompts.append(prompt_of(own[sample.record], prefix))
    check_exact(engine.settings().get("api"), renderer, prompts)
    asked = list(renderer.ask(prompts, decoding.each()))
    store = teacher_store(step, teacher, renderer, engine, decoding.logprobs)
    how = (engine, model, teacher.revision, step.resources, step.out / "worker.log", settings.batch_requests)
    with Generator(store, *how) as generator:
        answers = generator.answers([one.job for one in asked], "teacher goes on")
    origins = [own[sample.record] for one in decoding.each() for sample in begun for _ in range(one.samples)]
    records = [
        replace(
            record_of(one, answer, settings.normalise_thinking),
            domain=origin.domain,
            language=origin.language,
            family=origin.family,
            split="train",
        )
        for one, answer, origin in zip(asked, answers, origins, strict=True)
    ]
    filters = [Empty(), *(build(node) for node in settings.filters.values() if node is not None)]
    kept, reports = apply_all(records, filters, EXAMPLES)
    ended = [record.finish_reason or "" for record in records]
    facts = {
        "cut_off": len(begun),
        "continued": len(records),
        "finish_reasons": {reason: ended.count(reason) for reason in sorted(set(ended))},
        "filters": reports,
    }
    return kept, facts
