"""Stage `samples`: a trained student answers the prompts that it was trained on, for a while [C: DASD §3].

samples.jsonl  one line per prompt: which record of the teacher's it stands beside, both lengths and the limit in the
               student's tokens, the text, where its tokens end, and whether it stopped by itself
samples.json   how many, how many reached their limit, and what they took in tokens

An answer may have `cap` times the tokens of the teacher's answer to the same prompt, counted in the student's tokens
[I: whose is not told]: a limit in characters would cut languages and code at other places than prose.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dante.cache.generate.answer_store import AnswerStore
from dante.cache.generate.batches import Generator, Job
from dante.cache.generate.requests import Asked, Renderer
from dante.cache.mixed.settings import SamplesSettings
from dante.cache.prompts.pocket import Prompt
from dante.cache.records.reader import answers_to_some, first_answers, read_records
from dante.cache.records.record import Record, stable_hash
from dante.errors import DanteError
from dante.models.outside import model_identity
from dante.run.parts import build
from dante.run.step import Step
from dante.system.files import fingerprint, read_json, write_json
from dante.system.jsonl import read_lines, write_lines
from dante.teachers.engines.base import Decoding, Engine

LINES, FACTS = "samples.jsonl", "samples.json"
_ANSWERS = "answers"


@dataclass(frozen=True)
class Sample:
    """A student's answer beside the teacher's.

    Attributes:
        record: id of the teacher's answer to the same prompt.
        text: without the end of the turn.
        finish_reason: `stop`, or `length` where it reached its limit.
        token_ends: of the student's tokens, in the UTF-8 bytes of the text.
        limit: tokens that it could have.
        teacher_tokens: of the teacher's answer, in the student's tokens.
    """

    record: str
    text: str
    finish_reason: str
    token_ends: list[int]
    limit: int
    teacher_tokens: int

    @property
    def cut_off(self) -> bool:
        """Whether it reached its limit."""
        return self.finish_reason == "length"


def run(step: Step[SamplesSettings]) -> None:
    """Writes the files above; an interrupted step continues with its next batch.

    Inputs: `cache`, the teacher's answers; `student`, a release of what was trained on them.
    """
    settings = step.settings
    step.out.mkdir(parents=True, exist_ok=True)
    if (step.out / FACTS).is_file():  # an earlier attempt was stopped before its step was published
        shutil.rmtree(step.out / _ANSWERS, ignore_errors=True)
        return
    model = step.inputs["student"]
    renderer = Renderer(str(model), None, None, step.seed, settings.chat)
    records = drawn(read_records(step.inputs["cache"], "train"), settings.prompts, step.seed)
    lengths = [
        len(renderer.tokenizer(record.teacher_text, add_special_tokens=False)["input_ids"]) for record in records
    ]
    limits = [max(1, math.floor(settings.cap * length)) for length in lengths]
    decoding = Decoding(settings.temperature, settings.top_p, 0, max(limits), 1, 1, None)
    asked = list(renderer.ask([prompt_of(record) for record in records], [decoding]))
    jobs = [limited(one, limit) for one, limit in zip(asked, limits, strict=True)]
    engine: Engine = build(settings.engine)
    if not getattr(engine, "loads_model", True):
        raise DanteError(
            f"{type(engine).__name__} asks a server, which answers with the model that it has loaded and not with the "
            "student",
            where="mixed.student_engine",
            allowed="an engine that loads the folder it is given: transformers, vllm",
            fix="engine@mixed.student_engine=transformers",
        )
    provenance = {
        "student": fingerprint(model_identity(model)),
        **renderer.identity(),
        "engine": engine.settings(),
    }
    store = AnswerStore(step.out / _ANSWERS, provenance)
    how = (engine, str(model), None, step.resources, step.out / "worker.log", settings.batch_requests)
    with Generator(store, *how) as generator:
        answers = generator.answers(jobs, "student's answers")
    samples = [
        Sample(record.id, answer.text, answer.finish_reason, answer.token_ends, limit, length)
        for record, answer, limit, length in zip(records, answers, limits, lengths, strict=True)
    ]
    write_lines(step.out / LINES, [vars(sample) for sample in samples])
    write_json(step.out / FACTS, _facts(samples, asked))
    shutil.rmtree(step.out / _ANSWERS)


def load_samples(folder: Path) -> tuple[list[Sample], dict[str, Any]]:
    """A finished step's samples, and what `samples.json` says of them."""
    return [Sample(**line) for line in read_lines(folder / LINES)], read_json(folder / FACTS)


def drawn(records: Sequence[Record], prompts: int | None, seed: int) -> list[Record]:
    """One answer to each of so many prompts, in the order of the cache; a smaller number is part of a larger one."""
    return answers_to_some(first_answers(records), prompts, "asked", seed)


def prompt_of(record: Record, prefix: str = "") -> Prompt:
    """A record's prompt, to be asked again."""
    slices = (record.domain or "", record.language or "", record.family or "")
    return Prompt(record.prompt, *slices, prefix, record.reference or "")


def limited(asked: Asked, limit: int) -> Job:
    """Its job with a limit of its own, which is part of what the answer is found by."""
    job = asked.job
    return replace(job, key=stable_hash(job.key, limit), request=replace(job.request, most_tokens=limit))


def _facts(samples: Sequence[Sample], asked: Sequence[Asked]) -> dict[str, Any]:
    return {
        "samples": len(samples),
        "cut_off": sum(sample.cut_off for sample in samples),
        "tokens": sum(len(sample.token_ends) for sample in samples),
        "prompt_tokens": sum(len(one.job.request.prompt_ids) for one in asked),
    }
