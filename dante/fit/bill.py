"""What a fit's steps cost with the teacher's answers, and how many of them a budget pays for.

Everything follows from the tokenised cache, the data plan and the settings, so every rank, every resumed start and
every machine finds the same number.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from dante import console
from dante.cache.records.manifest import load_manifest
from dante.cache.records.record import stable_hash
from dante.cost import compute
from dante.cost.compute import Compute, Work
from dante.cost.memory import Shape, matches_blocks, shape_of, units_shape
from dante.cost.shown import budget_words, compute_sentence
from dante.data.datamodule import DistillData
from dante.data.packing import Plan
from dante.data.table import column
from dante.errors import DanteError
from dante.fit.drawn import paid_before
from dante.fit.settings import Settings
from dante.losses.base import BlockLoss, LinearLoss
from dante.run.config.schema import ComputeBudget
from dante.run.step import Step
from dante.students.load import meta_of
from dante.supervision.provided import reading_inputs, scored_once, scoring_inputs
from dante.teachers.size import Size, teacher_size
from dante.teachers.teacher import FILE_NAME as TEACHER_FILE
from dante.teachers.teacher import load_teacher

# Draws that no budget of a person's would pay for: the unit is probably another one.
_MOST_DRAWS = 100_000_000


@dataclass(frozen=True)
class Candidates:
    """What answers were chosen from, by the manifest of the selection.

    Attributes:
        per_answer: how many candidates there were for each that was kept.
        tokens: tokens of all of them over tokens of those that were kept.
    """

    per_answer: float = 1.0
    tokens: float = 1.0

    @classmethod
    def of(cls, selection: dict[str, Any] | None) -> "Candidates | None":
        """From the entry `selection` of a manifest; None without one."""
        if selection is None:
            return None
        tokens = selection["candidate_tokens"] / selection["kept_tokens"]
        return cls(selection["candidates"] / selection["prompts"], tokens)


@dataclass(frozen=True)
class Bill:
    """Prices plans of one fit.

    Attributes:
        data: opened.
        shape: of the student.
        teacher: size of who wrote the answers; None: unknown.
        scored: whether the answers were scored once, too.
        beside: sizes of the teachers that score every draw; None: unknown.
        reading: sizes of those that read every draw in their own tokens; None: unknown.
        written: whether a teacher wrote the texts; raw ones cost nothing.
        candidates: what the answers were chosen from; None: from nothing.
        begun: what a student's own answers took, where it began some of them.
        same_tokens: whether teacher and student share tokenizer and template, so that prompts have equal lengths.
        reads_text: whether a loss sends the answers through the student.
        paid: rows of the table whose answers an earlier fit of the recipe is charged for.
    """

    data: DistillData
    shape: Shape
    teacher: Size | None
    scored: bool
    same_tokens: bool
    reads_text: bool = True
    paid: Int64[np.ndarray, " rows"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    beside: tuple[Size | None, ...] = ()
    reading: tuple[Size | None, ...] = ()
    written: bool = True
    candidates: Candidates | None = None
    begun: Work = compute.NOTHING

    def of(self, plan: Plan) -> Compute:
        """What a plan costs; every distinct record's answer once, if no earlier fit has paid for it."""
        tokens, supervised = int(plan.tokens.sum()), int(plan.supervised_tokens.sum())
        rows = np.setdiff1d(self.drawn(plan), self.paid, assume_unique=True)
        answers, bytes_given = self._column("answer_tokens", rows), self._column("prefix_bytes", rows)
        given = answers * bytes_given / self._column("answer_bytes", rows)
        written = self._column("teacher_tokens", rows)
        recorded = bool((written > 0).all())
        written = np.where(written > 0, written, answers - given)
        drafts = self.candidates or Candidates()
        read = float((self._column("prompt_tokens", rows) + given).sum()) * drafts.per_answer
        tokens_written = float(written.sum()) * drafts.tokens
        parameters = self.teacher.parameters if self.teacher else None
        work = compute.inference(parameters, read, tokens_written) if self.written else compute.NOTHING
        chosen = compute.inference(self.shape.parameters, read, tokens_written) if self.candidates else compute.NOTHING
        exact = recorded and not bytes_given.any() and self.same_tokens and self.candidates is None
        exact = exact and (self.teacher is None or self.teacher.counted)
        estimated = [] if exact or not self.written else ["generation"]
        if (
            (self.scored and not exact)
            or self.candidates
            or any(size is None or not size.counted for size in (*self.beside, *self.reading))
        ):
            estimated.append("scoring")
        return Compute(
            training=self._training(tokens, supervised),
            generation=work + self.begun,
            scoring=sum(self._beside(plan), (work if self.scored else compute.NOTHING) + chosen),
            estimated=tuple(estimated),
        )

    def _beside(self, plan: Plan) -> list[Work]:
        """What teachers that run beside the student read, in every draw."""
        supervised = int(plan.supervised_tokens.sum())
        prompts = int(plan.tokens.sum()) - supervised
        work = [compute.inference(_parameters(size), prompts, supervised) for size in self.beside]
        if self.reading:
            drawn = self.data.rows[plan.rows]
            before = int(self._column("read_prompt", drawn).sum())
            answers = int(self._column("read_tokens", drawn).sum()) - before
            work += [compute.inference(_parameters(size), before, answers) for size in self.reading]
        return work

    def _training(self, tokens: int, supervised: int) -> Work:
        if not self.reads_text:
            return Work(tokens, 0.0)
        return compute.training(self.shape.body_parameters, self.shape.embedding_entries, tokens, supervised)

    def drawn(self, plan: Plan) -> Int64[np.ndarray, " rows"]:
        """Rows of the table that a plan draws, ascending."""
        return self.data.rows[np.unique(plan.rows)]

    def _column(self, name: str, rows: np.ndarray) -> np.ndarray:
        return column(self.data.table, name)[rows]


def _parameters(size: Size | None) -> float | None:
    return size.parameters if size else None


def bill_of(step: Step[Settings], data: DistillData, source: Path) -> Bill:
    """The bill of a fit whose data are open.

    Args:
        source: the folder of the student's initialisation.
    """
    manifest = load_manifest(step.inputs["cache"])
    tokenizer = data.renderer.tokenizer
    tokenizer_identity = {
        "sha256_16": stable_hash(tokenizer.backend_tokenizer.to_str()),
        "chat_template": stable_hash(tokenizer.chat_template),
    }
    losses, mixed = list(step.settings.build_losses().values()), manifest.get("mixed")
    return Bill(
        data=data,
        shape=(units_shape if matches_blocks(losses) else shape_of)(meta_of(source)),
        teacher=size_of_writer(step, manifest.get("teacher")),
        scored=scored_once(step.settings.supervision, losses),
        same_tokens=(manifest.get("tokenizer") or {}) == tokenizer_identity,
        reads_text=any(isinstance(loss, LinearLoss | BlockLoss) for loss in losses),
        paid=paid_before(step, data.table),
        beside=tuple(_size_of_input(step, name) for name in scoring_inputs(step.settings.supervision, losses)),
        reading=tuple(_size_of_input(step, name) for name in reading_inputs(step.settings.supervision, losses)),
        written=not manifest.get("raw"),
        candidates=Candidates.of(manifest.get("selection")),
        begun=_begun(mixed, meta_of(source)),
    )


def _begun(mixed: dict[str, Any] | None, student: Any) -> Work:
    """The student's answers that a mixed cache was made of, those included that it ended itself."""
    if mixed is None:
        return compute.NOTHING
    sampled = mixed["sampled"]
    return compute.inference(shape_of(student).parameters, sampled["prompt_tokens"], sampled["tokens"])


def _size_of_input(step: Step[Settings], name: str) -> Size | None:
    """Of a teacher that is an input of the fit; only of the run's own is anything stated."""
    stated = step.settings.fit.teacher_parameters.teacher if name == "teacher" else None
    return teacher_size(stated, step.inputs.get(name))


def size_of_writer(step: Step[Settings], written: dict[str, Any] | None) -> Size | None:
    """Size of who wrote the answers: as `cache.teacher_parameters` says, or of the run's teacher if it wrote them.

    Args:
        written: the entry `teacher` of the cache's manifest; None where it names nobody.
    """
    stated, folder = step.settings.fit.teacher_parameters, step.inputs.get("teacher")
    if stated.cache is not None:
        return Size(float(stated.cache), counted=False)
    if written is None or folder is None or not (folder / TEACHER_FILE).is_file():
        return None
    teacher = load_teacher(folder)
    return teacher_size(stated.teacher, folder) if teacher.wrote(written) else None


def paid_for(budget: ComputeBudget, bill: Bill) -> int:
    """Steps that a budget pays for: as many as fit into it with the answers that they draw; of epochs, as many as draw
    that often what the table has.

    Raises:
        DanteError: a budget in FLOPs and a teacher of unknown size; an amount that is too small for one step, or so
            large that its unit must be wrong.
    """
    unit, amount, data = budget.unit, budget.amount, bill.data
    if unit == "epochs":
        draws = round(amount * len(data.rows))
        return compute.most_steps(lambda steps: len(data.plan_of(steps).rows), draws - 1) + 1
    plan = data.plan_of(1)
    first = bill.of(plan)
    if first.spent(unit) is None:
        wrote = first.generation.flops is None
        key = "cache.teacher_parameters" if wrote else "teacher.parameters"
        raise DanteError(
            "the budget is in FLOPs, and the size of the teacher that "
            f"{'wrote the answers' if wrote else 'runs beside the student'} is unknown",
            where=key,
            allowed="the parameters that a token goes through: of a mixture of experts the active ones",
            fix=f"{key}=NUMBER, or count tokens instead: budget=tokens",
        )
    price = _known(first.spent(unit))
    if price > amount:
        answers = first.generation.tokens if unit == "tokens" else first.generation.flops
        raise DanteError(
            f"a budget of {amount:g} {unit} does not pay for one step: that costs {price:.3g}, of it {answers:.3g} for "
            "the teacher's answers",
            where="budget.compute.amount",
            allowed=f"{price:.3g} or more",
            fix="raise budget.compute.amount, or make a step smaller: fit.batch.size",
        )
    if amount / price * len(plan.rows) > _MOST_DRAWS:
        raise DanteError(
            f"a budget of {amount:g} {unit} pays for about {amount / price:.2g} steps",
            where="budget.compute",
            allowed=f"at most {_MOST_DRAWS:,} records drawn",
            fix=f"lower budget.compute.amount, or choose the other unit ({unit} are counted now)",
        )

    return compute.most_steps(lambda steps: _known(bill.of(data.plan_of(steps)).spent(unit)), amount)


def _known(spent: float | int | None) -> float:
    assert spent is not None, "a budget in FLOPs was accepted for a teacher of unknown size"
    return float(spent)


def with_steps(step: Step[Settings], bill: Bill) -> Step[Settings]:
    """The step with `fit.steps` filled in, where a budget decides them: everything after reads a fixed number."""
    fit = step.settings.fit
    if fit.compute is None:
        return step
    with console.screen().status("looking for the number of steps that the budget pays for"):
        steps = paid_for(fit.compute, bill)
    spent = bill.of(bill.data.plan_of(steps))
    unit = fit.compute.unit
    sentence = "" if unit == "epochs" else f": {compute_sentence(spent, unit)}"
    console.info(f"  {steps:,} steps for {budget_words(fit.compute)}{sentence}")
    return replace(step, settings=step.settings.with_steps(steps))


def measured(planned: Compute, totals: dict[str, Any]) -> Compute:
    """The plan's costs with training as the fit has counted it, step by step."""
    return replace(planned, training=Work(totals["tokens"], totals["flops"]))


def check_spent(spent: Compute, budget: ComputeBudget | None, steps: int) -> None:
    """Say so where the fit did not cost what the budget gave: with few steps one more can cost more than is left."""
    if budget is None or budget.unit == "epochs":
        return
    used_amount, amount = _known(spent.spent(budget.unit)), budget.amount
    if compute.misses(used_amount, amount):
        console.note(
            f"the fit used {used_amount / amount:.1%} of its budget of {budget_words(budget)}, teacher included: "
            f"{steps:,} steps are too few to come closer. Compare it with others after smaller steps (fit.batch.size) "
            "or a larger budget"
        )
