"""A cache that the run's teacher writes: prompts → planned batches → journal → records → sealed shards."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dante.cache.difficulty import with_difficulty
from dante.cache.journal import FOLDER, Journal, batch_key
from dante.cache.language import in_its_language
from dante.cache.manifest import FILE_NAME, verify
from dante.cache.record import Message, Record, stable_hash
from dante.cache.shipped import drop_unfinished
from dante.cache.sources import Prompts
from dante.cache.split import split_by_prompt
from dante.cache.writer import CacheWriter
from dante.errors import DanteError
from dante.pipeline import Step
from dante.teachers.engine import Decoding, Engine, Generation, Request
from dante.teachers.handle import Teacher, load_teacher
from dante.teachers.prompts import Prompt

LOGPROB_DECIMALS = 4
ENTROPY_DECIMALS = 6


class GeneratedCache:
    """Asks the teacher for every prompt, in batches that are fixed before the first one runs.

    Args:
        prompts: a source of prompts.
        engine: how the teacher is run.
        decoding: how it answers.
        batch_requests: requests per planned batch: what an interruption costs at most.
        heldout: prompts to hold out for results.
        validation: prompts to hold out for choices.
        drop_truncated: leave out answers that the token limit or a loop ended.
        drop_wrong_language: leave out answers that are clearly in another language than was asked for.
    """

    def __init__(
        self,
        prompts: Prompts,
        engine: Engine,
        decoding: Decoding,
        batch_requests: int,
        heldout: int,
        validation: int,
        drop_truncated: bool,
        drop_wrong_language: bool,
    ) -> None:
        self.prompts, self.engine, self.decoding = prompts, engine, decoding
        self.batch_requests, self.heldout, self.validation = batch_requests, heldout, validation
        self.drop_truncated, self.drop_wrong_language = drop_truncated, drop_wrong_language

    def build(self, step: Step) -> dict[str, Any]:
        """Writes shards and manifest into `step.out` (continuing finished batches there), returns the manifest."""
        if (step.out / FILE_NAME).is_file():  # sealed; an earlier attempt was stopped while it removed its batches
            with suppress(DanteError):  # what does not match its manifest is written again
                manifest = verify(step.out)
                shutil.rmtree(step.out / FOLDER, ignore_errors=True)
                return manifest
        folder = step.inputs["teacher"]
        teacher = load_teacher(folder)
        prompts = self.prompts.load()
        generations = self._generate(step, teacher, teacher.location(folder), prompts)
        rows = ((prompt, sample) for prompt in prompts for sample in range(self.decoding.samples))
        records = [self._record(p, s, g) for (p, s), g in zip(rows, generations, strict=True)]
        answered, filters = self._filter(records)
        if len({stable_hash(record.prompt) for record in answered}) <= self.heldout + self.validation:
            raise DanteError(
                f"{len(answered)} answers remain of {len(records)}, and {self.heldout} + {self.validation} prompts are "
                "to be held out",
                where="cache.source.heldout, cache.source.validation",
                fix=f"give more prompts or hold out fewer; dropped: {filters}",
            )
        kept = split_by_prompt(with_difficulty(answered), self.heldout, self.validation, step.seed)
        reasons = dict(sorted(Counter(g.finish_reason for g in generations).items()))
        manifest = (
            CacheWriter(step.out)
            .add(kept)
            .seal(
                teacher=asdict(teacher) | {"model": teacher.name if teacher.local else teacher.model},
                decoding=self.decoding.as_dict(),
                engine=self.engine.settings() | {"version": self._version, "batch_requests": self.batch_requests},
                generated={"answers": len(records), "finish_reasons": reasons},
                filters=filters,
                licences={"teacher": teacher.licence, "prompts": self.prompts.licence},
                split={
                    "heldout_prompts": self.heldout,
                    "validation_prompts": self.validation,
                    "seed": step.seed,
                },
            )
        )
        shutil.rmtree(step.out / FOLDER, ignore_errors=True)
        return manifest

    def _filter(self, records: list[Record]) -> tuple[list[Record], list[dict[str, Any]]]:
        """What is kept, and for the manifest what every filter dropped."""
        kept = [record for record in records if record.teacher_text.strip()]
        filters: list[dict[str, Any]] = [{"name": "empty", "dropped": len(records) - len(kept)}]
        if self.drop_truncated:
            kept, reasons = drop_unfinished(kept)
            filters.append({"name": "truncated", "dropped": sum(reasons.values()), "reasons": reasons})
        if self.drop_wrong_language:
            before, kept = len(kept), [record for record in kept if in_its_language(record)]
            filters.append({"name": "wrong_language", "dropped": before - len(kept)})
        return kept, filters

    def _generate(self, step: Step, teacher: Teacher, model: str, prompts: list[Prompt]) -> list[Generation]:
        requests = list(self._requests(model, teacher.revision, prompts, step.seed))
        size = self.batch_requests
        batches = [requests[start : start + size] for start in range(0, len(requests), size)]
        identity = teacher.sha256 or f"{teacher.model}@{teacher.revision}"
        keys = [batch_key(identity, self.engine.settings(), self.decoding, batch) for batch in batches]
        journal = Journal(step.out)
        done = {index: stored for index, key in enumerate(keys) if (stored := journal.load(index, key)) is not None}
        self._version = journal.version()
        if len(done) < len(batches):
            self._run(step, journal, model, teacher.revision, batches, keys, done)
        return [generation for index in range(len(batches)) for generation in done[index]]

    def _run(
        self,
        step: Step,
        journal: Journal,
        model: str,
        revision: str | None,
        batches: list[list[Request]],
        keys: list[str],
        done: dict[int, list[Generation]],
    ) -> None:
        with (
            self.engine.open(model, revision, step.resources, step.out / "worker.log") as engine,
            _progress() as progress,
        ):
            self._version = journal.version(engine.version)
            bar = progress.add_task("generate", total=sum(map(len, batches)), completed=sum(map(len, done.values())))
            for index, (batch, key) in enumerate(zip(batches, keys, strict=True)):
                if index in done:
                    continue
                answers: dict[int, Generation] = {}
                for position, generation in engine.generate(batch, self.decoding):
                    answers[position] = generation
                    progress.advance(bar)
                done[index] = [answers[position] for position in range(len(batch))]
                journal.store(index, key, done[index])

    def _requests(self, model: str, revision: str | None, prompts: list[Prompt], seed: int) -> Iterator[Request]:
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(model, revision=revision)
        if tokenizer.chat_template is None:
            raise DanteError("the teacher has no chat template", where=str(Path(model)), fix="choose an instruct model")
        for prompt in prompts:
            ids = tokenizer.apply_chat_template(messages_of(prompt), add_generation_prompt=True, return_dict=False)
            for sample in range(self.decoding.samples):
                drawn = int(stable_hash(seed, prompt.prompt, sample)[:8], 16) if self.decoding.heat else 0
                yield Request(list(ids), drawn)

    def _record(self, prompt: Prompt, sample: int, answer: Generation) -> Record:
        sampling = {k: v for k, v in self.decoding.as_dict().items() if k not in ("samples", "logprobs")}
        return Record(
            id=stable_hash(prompt.prompt, sampling, sample),
            prompt=prompt.prompt,
            teacher_text=answer.text,
            output_entropy=round(answer.output_entropy, ENTROPY_DECIMALS),
            output_entropy_upper=round(answer.output_entropy_upper, ENTROPY_DECIMALS),
            finish_reason=answer.finish_reason,
            temperature=self.decoding.heat,
            sample_index=sample,
            domain=prompt.domain,
            language=prompt.language,
            family=prompt.family,
            token_logprobs=[min(0.0, round(value, LOGPROB_DECIMALS)) for value in answer.token_logprobs],
            token_ends=answer.token_ends,
        )


def messages_of(prompt: Prompt) -> list[Message]:
    """Chat messages of a prompt; plain text is one user message."""
    if isinstance(prompt.prompt, str):
        return [{"role": "user", "content": prompt.prompt}]
    return prompt.prompt


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns)
