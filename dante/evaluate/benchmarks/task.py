"""A benchmark as lm-evaluation-harness defines it (prompts, worked examples, metrics), on items from anywhere.

Every answer of a model is kept as it comes, so an evaluation that was killed asks only for what is missing. Beside the
suite's items stands `samples.jsonl`: per item the prompt's hash, what the model answered, and what was made of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.benchmarks.asked import asked
from dante.evaluate.benchmarks.backends.base import Backend
from dante.evaluate.benchmarks.draw import drawn
from dante.evaluate.benchmarks.sets.base import Sets
from dante.evaluate.benchmarks.sets.licences import licence_of
from dante.evaluate.benchmarks.splits import fitted, split_of
from dante.evaluate.benchmarks.verifiers import Verifier
from dante.evaluate.harness.decoding import decoding_of
from dante.evaluate.harness.definitions import Definition, Definitions, hub_set, task
from dante.evaluate.harness.kept import Kept, KeptModel
from dante.evaluate.harness.quiet import contained
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import Item, Measurement, NotMeasured, Suite
from dante.models.outside import model_identity
from dante.system.files import fingerprint
from dante.system.jsonl import write_lines

HARNESS = "lm-eval"
Sample = Mapping[str, Any]


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
        metrics: names of `asked.ASKED`, the main one first.
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
        self.task, self.folder, self.shots, self.limit, self.chat = task, folder, shots, limit, chat
        self.common, self.changes, self.sampling = common, changes or {}, sampling
        self.asked = asked(metrics)
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
        try:
            with contained():
                tasks, said = self.tasks()
                sizes = {name: len(list(one.eval_docs)) for name, one in tasks.items()}
        except Exception as error:  # of a set that is not here, of a server that is not reached: the others go on
            raise NotMeasured(_reason(self.name, error)) from error
        self.check_room(subject, tasks)
        chosen = drawn(sizes, self.limit, self.common.seed)
        some = {name: tasks[name] for name in chosen}
        samples = self.answered(subject, some, chosen, bars)
        items = list(self.items(samples, subject))
        write_lines(out / "samples.jsonl", [dict(self.kept_of(sample)) for sample in samples])
        configs = [one.config for one in tasks.values()]
        found = self.measurement(items, configs, chosen, said, sum(sizes.values()))
        return replace(found, details={**found.details, **self.template(subject)})

    def check_room(self, subject: Subject, tasks: Mapping[str, Any]) -> None:
        """Refuses to ask for answers that a model's context has no room for."""
        asked_for = [(one.config.generation_kwargs or {}).get("max_gen_toks", 0) for one in tasks.values()]
        if subject.context is not None and max(asked_for) >= subject.context:
            raise NotMeasured(
                f"{self.name} was not measured: it asks for up to {max(asked_for):,} new tokens, and {subject.name} "
                f"reads {subject.context:,} in all."
            )

    def template(self, subject: Subject) -> dict[str, Any]:
        """Which chat template has written the prompts."""
        return {"chat_template": fingerprint(subject.renderer.tokenizer.chat_template)} if self.chat else {}

    def tasks(self) -> tuple[dict[str, Any], str]:
        """The harness's task objects by name, and what has to be said of their items.

        Raises:
            DanteError: a set is not here.
        """
        made, said = {}, dict[str, None]()
        for name in self.definitions.leaves(self.task):
            known, from_where = self.fitted(name)
            said |= dict.fromkeys(from_where)
            made[name] = known
        return made, "; ".join(said)

    def fitted(self, name: str) -> tuple[Any, list[str]]:
        """A task object, and what has to be said of its items."""
        from datasets import Dataset

        known = self.definition(name)
        found = self.common.sets.find(hub_set(known))
        if found.splits is None:
            return task(known, None, shots=self.shots, seed=self.common.seed), []
        known, stand_in = fitted(known, found.splits, self.shots)
        splits = {split: Dataset.from_list(rows) for split, rows in found.splits.items()}
        made = task(known, splits, shots=self.shots, seed=self.common.seed)
        return made, [text for text in (found.said, stand_in) if text]

    def definition(self, name: str) -> Definition:
        """What the harness says of a task, with our changes."""
        return self.sampled({**self.definitions.read(name), **self.changes})

    def sampled(self, known: Definition) -> Definition:
        """The definition, with our sampling instead of its own."""
        if self.sampling is None:
            return known
        how = {"do_sample": True, "temperature": self.sampling.temperature, "top_p": self.sampling.top_p}
        limit = {"max_gen_toks": self.sampling.max_new_tokens}
        return known | {"generation_kwargs": {**(known.get("generation_kwargs") or {}), **how, **limit}}

    def answered(
        self, subject: Subject, tasks: Mapping[str, Any], chosen: Mapping[str, list[int]], bars: Bars
    ) -> list[Sample]:
        """The harness's samples of all tasks, draw after draw."""
        advance = bars.add(self.name, self.draws * sum(len(places) for places in chosen.values()))
        samples: list[Sample] = []
        with contained():
            from lm_eval import evaluate

            model = _Opened(self.common.backend, subject)
            for draw in range(self.draws):
                for one in tasks.values():
                    one.set_fewshot_seed(seed=self.common.seed)
                asking = KeptModel(model, self.kept(subject), self.common.batch, advance, draw)
                evaluation = evaluate(
                    lm=asking,
                    task_dict={"tasks": dict(tasks)},
                    samples=dict(chosen),
                    apply_chat_template=self.chat,
                    fewshot_as_multiturn=self.chat,
                    bootstrap_iters=0,
                )
                assert evaluation is not None
                found = [(name, sample) for name in tasks for sample in evaluation["samples"][name]]
                samples += [{**sample, "task": name, "draw": draw} for name, sample in found]
        return samples

    def kept(self, subject: Subject) -> Kept:
        """Where a model's answers are kept: by model, precision, backend and harness."""
        from lm_eval import __version__

        identity = fingerprint(
            [
                model_identity(subject.folder),
                subject.precision,
                self.common.backend.identity(),
                __version__,
                subject.chat,
            ]
        )
        return Kept(subject.kept / f"benchmarks-{identity}")

    def items(self, samples: Sequence[Sample], subject: Subject) -> Iterator[Item]:
        """What the metrics are ratios over: a question, with the sum over its draws."""
        values: dict[tuple[str, int], dict[str, tuple[float, float]]] = {}
        texts: dict[tuple[str, int], str] = {}
        for sample in samples:
            key = str(sample["task"]), int(sample["doc_id"])
            texts[key] = str(sample["doc_hash"])[:16]
            for metric, value in self.values(sample).items():
                above, below = values.setdefault(key, {}).get(metric, (0.0, 0.0))
                values[key][metric] = above + value, below + 1.0
        several = len({name for name, _ in values}) > 1
        for (name, number), found in values.items():
            yield Item(f"{name}/{number}", texts[name, number], found, (self.part(name),) if several else ())

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

    def kept_of(self, sample: Sample) -> Sample:
        """The line of an answer in `samples.jsonl`."""
        named = ("task", "doc_id", "draw", "filter", "doc_hash", "prompt_hash", "resps", "filtered_resps")
        return {name: sample[name] for name in named} | {"values": self.values(sample)}

    def measurement(
        self, items: list[Item], configs: list[Any], chosen: Mapping[str, list[int]], said: str, all_items: int
    ) -> Measurement:
        """Items with what is to be said of them.

        Args:
            items: what was measured.
            configs: the harness's, of the tasks.
            chosen: places of the items that were asked.
            said: of where they come from.
            all_items: that the sets have.
        """
        from lm_eval import __version__

        asked_items = sum(len(places) for places in chosen.values())
        if asked_items < all_items:
            self.heading = f"{self.task}, {self.shots}-shot, {asked_items:,} drawn of {all_items:,} items"
        return Measurement(
            items=items,
            slices=sorted({part for item in items for part in item.slices}),
            details={
                "task": self.task,
                "licences": {name: licence_of(name) for name in sorted({hub_set(vars(config)) for config in configs})},
                "items": chosen,
            },
            notes=[
                *([f"{self.name}: {said}."] if said else []),
                *(f"{self.name} without {key}: {one.install}." for key, one in self.absent.items()),
            ],
            decoding=decoding_of(vars(configs[0]), self.draws),
            n_shot=self.shots,
            harness=HARNESS,
            harness_version=str(__version__),
            protocol={
                "task_version": str((configs[0].metadata or {}).get("version", "")),
                "split": split_of(vars(configs[0])),
                "limit": asked_items if asked_items < all_items else None,
                "chat": self.chat,
                "said": said,
                "backend": " ".join(str(self.common.backend.identity()[key]) for key in ("backend", "version")),
            },
        )


class _Opened:
    """A model that is opened when something is asked that has no kept answer."""

    def __init__(self, backend: Backend, subject: Subject) -> None:
        self.backend, self.subject = backend, subject
        self._model: Any = None

    # What the harness asks of a model without asking it anything.
    rank, world_size, MULTIMODAL = 0, 1, False

    def __getattr__(self, name: str) -> Any:
        if self._model is None:
            self._model = self.backend.open(self.subject)
        return getattr(self._model, name)


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, DanteError):
        return f"{name} was not measured: {error.what}. {error.fix or ''}".strip().rstrip(".") + "."
    return (
        f"{name} was not measured: {type(error).__name__}: {str(error).splitlines()[0][:200]}. With a package index "
        "alone, take data.benchmarks=package; for items of your own, data.benchmarks=folder data.folder=DIR."
    )
