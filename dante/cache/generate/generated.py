"""A cache that the run's teacher writes: prompts → answers (kept for good) → filters → splits → sealed shards.

Everything after the answers is cheap and made anew: other filters, splits or fewer prompts seal another cache from the
same answers, and a damaged or deleted shard is written again from them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from dante.cache.filters import Empty, Filter, apply_all
from dante.cache.generate.answer_record import ENTROPY_DECIMALS, record_of
from dante.cache.generate.answer_store import AnswerStore
from dante.cache.generate.batches import Generator
from dante.cache.generate.consistency import SelfConsistency
from dante.cache.generate.difficulty import with_difficulty
from dante.cache.generate.requests import SYSTEM_PROMPT, Asked, Renderer
from dante.cache.generate.teacher_store import teacher_store
from dante.cache.prompts.sources import Prompts
from dante.cache.records.manifest import FILE_NAME, verify
from dante.cache.records.record import Record, prompt_hash
from dante.cache.records.writer import CacheWriter
from dante.cache.split import WHERE, Holdout, fewer, prompts_of, prompts_to_draw_from, split_by_prompt
from dante.errors import DanteError
from dante.run.step import Step
from dante.teachers.engines.base import Decoding, Engine, Generation
from dante.teachers.teacher import Teacher, load_teacher

EXAMPLES = 3


class GeneratedCache:
    """Asks the teacher for every prompt, in batches that are fixed before the first one runs.

    Args:
        prompts: a source of prompts.
        engine: how the teacher is run.
        decoding: how it answers; several temperatures ask every prompt at each of them.
        system_prompt: for conversations that have none; null leaves what the template inserts by itself, an empty one
            takes that away.
        chat: variables of the teacher's template: what student and scores are rendered with, too.
        consistency: extra samples from which `self_consistency` is measured; null measures none.
        normalise_thinking: rewrite native thinking delimiters to `<think>` and `</think>`.
        batch_requests: requests per planned batch: what an interruption costs at most.
        filters: what is left out besides empty answers, by name and in this order; null switches one off.
        heldout: prompts to hold out for results: a number, or at most a share of them.
        validation: prompts to hold out for choices, likewise.
    """

    def __init__(
        self,
        prompts: Prompts,
        engine: Engine,
        decoding: Decoding,
        system_prompt: str | None,
        chat: dict[str, Any],
        consistency: SelfConsistency | None,
        normalise_thinking: bool,
        batch_requests: int,
        filters: Mapping[str, Filter | None],
        heldout: Holdout,
        validation: Holdout,
    ) -> None:
        self.prompts, self.engine, self.decoding = prompts, engine, decoding
        self.system_prompt, self.chat, self.consistency, self.normalise_thinking = (
            system_prompt,
            chat,
            consistency,
            normalise_thinking,
        )
        self.batch_requests, self.heldout, self.validation = batch_requests, heldout, validation
        self.filters = [Empty(), *(record_filter for record_filter in filters.values() if record_filter is not None)]

    def build(self, step: Step) -> dict[str, Any]:
        """Writes shards and manifest into `step.out`, and returns the manifest.

        Answers lie in `step.resources["store"]`, or, where it is null, in a folder of the runs' that the teacher, its
        tokenizer and template, and the engine's settings name.
        """
        if (step.out / FILE_NAME).is_file():  # sealed; an earlier attempt was stopped before its step was published
            with suppress(DanteError):  # what does not match its manifest is written again
                return verify(step.out)
        folder = step.inputs["teacher"]
        teacher = load_teacher(folder)
        model = teacher.location(folder)
        renderer = Renderer(model, teacher.revision, self.system_prompt, step.seed, self.chat)
        self._check_drops(renderer)
        asked = list(renderer.ask(self.prompts.load(), self.decoding.each()))
        store = teacher_store(step, teacher, renderer, self.engine, self.decoding.logprobs)
        how = (self.engine, model, teacher.revision, step.resources, step.out / "worker.log", self.batch_requests)
        with Generator(store, *how) as generator:
            answers = generator.answers([request.job for request in asked], "generate")
            pairs = zip(asked, answers, strict=True)
            records = [record_of(request, answer, self.normalise_thinking) for request, answer in pairs]
            kept, filters = apply_all(records, self.filters, EXAMPLES)
            kept = self._with_consistency(generator, renderer, kept, asked)
        return self._seal(step, teacher, store, kept, filters, answers, renderer.inserted)

    def _check_drops(self, renderer: Renderer) -> None:
        """A server that renders messages by itself writes what its template inserts."""
        if self.system_prompt == "" and getattr(self.engine, "api", "") == "chat":
            raise DanteError(
                "a server that renders messages by itself inserts its template's system prompt",
                where=SYSTEM_PROMPT,
                allowed="null or a text with engine.api=chat; an empty one where this lab renders the prompts",
                fix=f"engine.api=completions, or {SYSTEM_PROMPT}=null",
            )

    def _with_consistency(
        self, generator: Generator, renderer: Renderer, records: list[Record], asked: Sequence[Asked]
    ) -> list[Record]:
        """Records with `self_consistency`, of as many prompts as are wanted: the same ones whatever their order is."""
        consistency = self.consistency
        if consistency is None:
            return records
        prompts = {prompt_hash(request.prompt.prompt): request.prompt for request in asked}
        measured = sorted({prompt_hash(record.prompt) for record in records})[: consistency.prompts]
        decoding = replace(self.decoding, temperature=consistency.temperature, samples=consistency.samples)
        jobs = [request.job for request in renderer.ask([prompts[h] for h in measured], [decoding])]
        texts = [answer.text for answer in generator.answers(jobs, "self-consistency")]
        m = consistency.samples
        values = {h: consistency.measure(texts[i * m : (i + 1) * m]) for i, h in enumerate(measured)}
        return [
            replace(record, self_consistency=round(values[h], ENTROPY_DECIMALS))
            if (h := prompt_hash(record.prompt)) in values
            else record
            for record in records
        ]

    def _seal(
        self,
        step: Step,
        teacher: Teacher,
        store: AnswerStore,
        records: Sequence[Record],
        filters: list[dict[str, Any]],
        answers: Sequence[Generation],
        inserted: str | None,
    ) -> dict[str, Any]:
        free = len(prompts_to_draw_from(records))
        held = prompts_of(self.heldout, free), prompts_of(self.validation, free)
        if free <= sum(held):
            dropped = {report["name"]: report["dropped"] for report in filters}
            raise DanteError(
                f"{len(records)} answers to {free} prompts remain of {len(answers)}, and {held[0]} + {held[1]} prompts "
                "are to be held out",
                where=WHERE,
                fix=f"{fewer(free)}; dropped: {dropped}",
            )
        kept = split_by_prompt(with_difficulty(list(records)), *held, step.seed)
        origin = store.provenance
        return (
            CacheWriter(step.out)
            .add(kept)
            .seal(
                teacher=asdict(teacher) | {"model": teacher.name if teacher.local else teacher.model},
                tokenizer={"sha256_16": origin["tokenizer"], "chat_template": origin["chat_template"]},
                decoding=self.decoding.as_dict()
                | {"system_prompt": self.system_prompt, "inserted_system_prompt": inserted, "chat": self.chat},
                engine=origin["engine"] | {"version": origin.get("version"), "batch_requests": self.batch_requests},
                self_consistency=self._consistency_settings(),
                generated={
                    "answers": len(answers),
                    "finish_reasons": dict(sorted(Counter(answer.finish_reason for answer in answers).items())),
                },
                filters=filters,
                licences={"teacher": teacher.licence, "prompts": self.prompts.licence},
                split={"heldout_prompts": held[0], "validation_prompts": held[1], "seed": step.seed},
            )
        )

    def _consistency_settings(self) -> dict[str, Any] | None:
        consistency = self.consistency
        if consistency is None:
            return None
        facts = {"samples": consistency.samples, "temperature": consistency.temperature, "prompts": consistency.prompts}
        return facts | {"extractor": consistency.extractor.describe()}
