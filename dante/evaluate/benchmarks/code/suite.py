"""A benchmark whose answers are programs: the harness's prompts and stop strings, the set's tests, our sandbox.

The harness's own metric runs programs in the evaluating process, and fetches its code from a server first; so its
definition is read without what it names, and prompts, worked examples, delimiters and limits are taken from it. Beside
the items stands `samples.jsonl`: every answer, the program in it, and its verdict.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.benchmarks.asking import AskedModel, Sample
from dante.evaluate.benchmarks.code.judged import verdicts
from dante.evaluate.benchmarks.code.problems import Problem
from dante.evaluate.benchmarks.code.programs import Program
from dante.evaluate.benchmarks.task import Benchmark, Common, Sampling
from dante.evaluate.harness.definitions import Definition, pure_function
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import Item, Measurement, NotMeasured
from dante.look.metric import Metric
from dante.sandbox.limits import Limits
from dante.sandbox.process import check_sandbox
from dante.sandbox.run import Verdict
from dante.statistics.pass_at_k import pass_at_k


class Programs(Benchmark):
    """A task of the harness's that asks for programs.

    Args:
        task: its name in the harness.
        folder: that its definition lies in.
        shots: worked examples.
        k: of pass@k, the main one first; at most as many as there are draws.
        problem: how its items are read.
        program: how a program is read out of an answer.
        allowed: that programs are run.
        limit: items that are drawn; None: all.
        chat: whether prompts are put into the model's chat template.
        common: see `Common`.
        limits: of a program.
        changes: of the harness's definition.
        sampling: None: greedy.
        name: of the suite.
    """

    def __init__(
        self,
        task: str,
        folder: str | None,
        shots: int,
        k: list[int],
        problem: Problem,
        program: Program,
        allowed: bool,
        limit: int | None,
        chat: bool,
        common: Common,
        limits: Limits,
        changes: dict[str, Any] | None = None,
        sampling: Sampling | None = None,
        name: str = "",
    ) -> None:
        super().__init__(task, folder, shots, [], limit, chat, common, changes, sampling, name=name)
        if not k or max(k) > self.draws or min(k) < 1:
            raise DanteError(
                f"pass@k for k = {k} needs as many programs per problem, and {self.draws} are drawn",
                where=f"eval.suites.{self.name}.k",
                allowed=f"numbers from 1 to {self.draws}",
                fix="lower k, or give the suite a sampling with more draws",
            )
        self.k, self.problem, self.program, self.allowed, self.limits = k, problem, program, allowed, limits
        self.metrics = {
            f"pass_at_{one}": Metric(f"pass@{one}", True, "higher", f"one of {one} programs passes all of its tests")
            for one in k
        }

    def measure(self, subject: Subject, out: Path, bars: Bars) -> Measurement | None:
        if self.limit == 0:
            return None
        if not self.allowed:
            raise NotMeasured(
                f"{self.name} was not measured: it runs programs that a model wrote. They are run in a sandbox, and "
                "only with eval.allow_code_execution=true."
            )
        try:
            check_sandbox()
        except DanteError as error:
            raise NotMeasured(f"{self.name} was not measured: {error.what}.") from error
        return super().measure(subject, out, bars)

    def definition(self, name: str) -> Definition:
        known = {**self.definitions.read(name, functions=False), **self.changes}
        examples = known.get("fewshot_config") or {}
        if isinstance(examples.get("samples"), str):
            known["fewshot_config"] = examples | {"samples": pure_function(examples["samples"])()}
        known = {key: value for key, value in known.items() if key not in ("filter_list", "unsafe_code")}
        return self.sampled(known | {"metric_list": [{"metric": "bypass"}]})

    def judged(self, samples: Sequence[Sample], model: AskedModel, bars: Bars) -> list[Sample]:
        programs = [(self.program_of(sample), self.problem.judged_by(sample["doc"])) for sample in samples]
        found = verdicts(programs, self.limits, model.kept, bars.add(f"{self.name}: programs", len(samples)))
        return [
            {**sample, "program": program, "verdict": verdict}
            for sample, (program, _), verdict in zip(samples, programs, found, strict=True)
        ]

    def notes_of(self, samples: Sequence[Sample]) -> list[str]:
        unfit = [sample["verdict"] for sample in samples if sample["verdict"].outcome == "unfit"]
        if not unfit:
            return []
        return [
            f"{self.name}: the tests of {len(unfit)} of {len(samples)} programs cannot be run in the sandbox "
            f"({unfit[0].why}); these count as wrong."
        ]

    def program_of(self, sample: Sample) -> str:
        """The program in an answer."""
        doc = sample["doc"]
        return self.program.read(str(sample["resps"][0][0]), self.problem.beginning(doc), self.problem.entry(doc))

    def items(self, samples: Sequence[Sample]) -> Iterator[Item]:
        by_item: dict[tuple[str, int], list[Sample]] = {}
        for sample in samples:
            by_item.setdefault((str(sample["task"]), int(sample["doc_id"])), []).append(sample)
        for (name, number), found in by_item.items():
            right = sum(sample["verdict"].passed for sample in found)
            values = {f"pass_at_{k}": (pass_at_k(len(found), right, k), 1.0) for k in self.k}
            yield Item(f"{name}/{number}", self.identity_of(found[0]), values)

    def line_of(self, sample: Sample) -> Sample:
        named = ("task", "doc_id", "draw", "doc_hash", "prompt_hash", "resps", "program")
        verdict: Verdict = sample["verdict"]
        return {name: sample[name] for name in named} | {"outcome": verdict.outcome, "why": verdict.why}
