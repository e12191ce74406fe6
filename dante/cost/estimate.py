"""What a run will cost, before anything is allocated: parameters, tokens, memory, FLOPs, hours.

Parameters are counted on the meta device from the values in the student's YAML, tokens from the cache's manifest or, as
long as there is none, from what `conf/cache` expects. No weights, no network.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dante.cache.records.record import Split
from dante.cache.split import held_out_words, planned, prompts_of
from dante.cost import compute
from dante.cost.compute import Compute
from dante.cost.expected_rate import ExpectedRate, expected_rate
from dante.cost.memory import Memory, Shape, memory_of, shape_of
from dante.cost.peak import listed_tflops
from dante.errors import DanteError
from dante.run.parts import build
from dante.run.precision import device_of, is_emulated
from dante.run.step import PlannedStep
from dante.system.files import GIB
from dante.teachers.size import teacher_size


@dataclass(frozen=True)
class Estimate:
    """Costs of a plan's fit; every figure is an estimate but the parameters, and the steps where no budget
    decides them.

    Attributes:
        parameters: of the student, a tied head once.
        embedding_entries: entries of the embedding matrix.
        steps: optimizer steps.
        draws: records drawn over all steps.
        epochs: draws per record of the train split; None where the cache's size is unknown.
        tokens: all tokens that go through the student.
        supervised_tokens: tokens with a loss.
        memory: of one device, line by line.
        compute: of the whole fit, forward and backward without recomputation, and of the teacher's part.
        held_out: prompts for results and for choices, in words.
        rate: of products, and the share of it that fits reach: what the hours follow from.
        device_hours: devices × hours.
        fp32_hours: of the same fit in fp32, where this machine would only emulate the plan's precision; else None.
    """

    parameters: int
    embedding_entries: int
    vocabulary: int
    steps: int
    draws: int
    epochs: float | None
    tokens: float
    tokens_per_step: float
    supervised_tokens: float
    records: int | None
    memory: Memory
    compute: Compute
    rate: ExpectedRate
    hours: float
    fp32_hours: float | None
    device_hours: float
    counted: bool
    held_out: str
    notes: list[str]


def estimate(cfg: dict[str, Any], steps: list[PlannedStep]) -> Estimate:
    """Estimate the fit of a checked config."""
    shape = student_shape(cfg["student"])
    fit, trainer = cfg["fit"], cfg["trainer"]
    records, per_record, supervised_share, counted = _cache_facts(cfg, steps)
    size, unit = fit["batch"]["size"], fit["batch"]["unit"]
    per_step = {"records": size * per_record, "packs": size * fit["max_tokens"], "tokens": size}[unit]
    losses = [build(node, name=name) for name, node in cfg["losses"].items()]
    teacher = _teacher_parameters(cfg, steps)

    def cost_of(count: int) -> Compute:
        tokens = per_step * count
        distinct = min(tokens / per_record, records or math.inf)
        answers = per_record * supervised_share
        answered = compute.inference(teacher, distinct * (per_record - answers), distinct * answers)
        scored = any(loss.needs_scoring for loss in losses)
        return Compute(
            training=compute.training(
                shape.body_parameters, shape.embedding_entries, round(tokens), round(tokens * supervised_share)
            ),
            generation=answered,
            scoring=answered if scored else compute.NOTHING,
            estimated=("training", "generation", *(("scoring",) if scored else ())),
        )

    count = fit["steps"] or _steps_of(fit["compute"], cost_of)
    cost = cost_of(count)
    tokens = float(per_step * count)
    draws = round(tokens / per_record)
    devices = trainer["devices"] * trainer["num_nodes"]
    # Recomputation runs every forward twice: no useful work, but time.
    hardware_flops = (cost.training.flops or 0.0) * (4 / 3 if fit["gradient_checkpointing"] == "full" else 1)
    rate = expected_rate(trainer, fit["precision"])

    def hours_at(at: ExpectedRate) -> float:
        return hardware_flops / (at.tflops * 1e12 * devices) / 3600

    emulated = is_emulated(fit["precision"], device_of(trainer["accelerator"]))
    hours = hours_at(rate)
    result = Estimate(
        parameters=shape.parameters,
        embedding_entries=shape.embedding_entries,
        vocabulary=shape.vocabulary,
        steps=count,
        draws=draws,
        epochs=draws / records if records else None,
        tokens=tokens,
        tokens_per_step=float(per_step),
        supervised_tokens=tokens * supervised_share,
        records=records,
        memory=memory_of(shape, fit, cfg["fidelity"], trainer, losses),
        compute=cost,
        rate=rate,
        hours=hours,
        device_hours=hours * devices,
        fp32_hours=hours_at(expected_rate(trainer, "fp32")) if emulated else None,
        counted=counted,
        held_out=held_out_words(cfg["cache"]["source"]),
        notes=[],
    )
    return _with_notes(result, cfg, devices)


def student_shape(student: dict[str, Any]) -> Shape:
    """The shape of a checked `student` node, from its architecture's values."""
    from dante.students.load import build_meta, meta_of

    if student["architecture"] is None:
        return shape_of(meta_of(student["source"], student["layers"]))
    architecture = dict(student["architecture"])
    if student["layers"] is not None:
        architecture["num_hidden_layers"] = len(student["layers"])
    return shape_of(build_meta(architecture))


def _cache_facts(cfg: dict[str, Any], steps: list[PlannedStep]) -> tuple[int | None, float, float, bool]:
    """Train records, tokens per record, supervised share, and whether records were counted or expected.

    A cache knows the teacher's tokens; prompts in the student's tokens are expected until they are rendered.
    """
    expected = cfg["cache"]["expected"]
    per_record = float(expected["tokens_per_record"] or cfg["fit"]["max_tokens"])
    supervised = float(expected["supervised_per_record"] or per_record)
    records = expected["records"]
    for step in steps:
        manifest: Path = step.directory / "manifest.json"
        if step.stage == "cache" and step.complete and manifest.is_file():
            try:
                counts = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
            except (OSError, ValueError, KeyError):  # damaged: the pipeline will find that out and say so
                break
            answered, teacher_tokens = counts.get("records"), counts.get("teacher_tokens")
            if answered and teacher_tokens:  # and one end-of-turn token each
                supervised = teacher_tokens / answered + 1
            return counts.get("train") or records, per_record, supervised / per_record, True
    source = cfg["cache"]["source"]
    sides: tuple[Split, Split] = ("heldout", "validation")
    train = records - sum(prompts_of(planned(source, side), records) for side in sides) if records else None
    return train, per_record, supervised / per_record, False


def _teacher_parameters(cfg: dict[str, Any], steps: list[PlannedStep]) -> float | None:
    """Of who writes or wrote the answers, as far as it is known before the cache is there."""
    if cfg["cache"]["teacher_parameters"] is not None:
        return float(cfg["cache"]["teacher_parameters"])
    made = next((step.directory for step in steps if step.stage == "teacher" and step.complete), None)
    size = teacher_size(cfg["teacher"]["parameters"], made)
    return size.parameters if size else None


def _steps_of(budget: dict[str, Any], cost_of: Callable[[int], Compute]) -> int:
    """About as many steps as a budget pays for, at least one: whether it pays for that is found when all is counted."""
    unit, amount = budget["unit"], budget["amount"]

    def price(steps: int) -> float:
        spent = cost_of(steps).spent(unit)
        if spent is None:
            raise DanteError(
                "the budget is in FLOPs, and the teacher's size is unknown",
                where="teacher.parameters",
                allowed="the parameters that a token goes through: of a mixture of experts the active ones",
                fix="teacher.parameters=NUMBER, or count tokens instead: budget=tokens",
            )
        return float(spent)

    return max(1, compute.most_steps(price, amount))


def _with_notes(result: Estimate, cfg: dict[str, Any], devices: int) -> Estimate:
    if not cfg["contradictions"]:
        return result
    fit, trainer = cfg["fit"], cfg["trainer"]
    full_tokens = result.draws * fit["max_tokens"]
    facts = {
        "vocabulary": result.vocabulary,
        "draws": result.draws,
        "records": result.records or 0,
        "epochs": result.epochs or float("nan"),
        "max_tokens": fit["max_tokens"],
        "full_tokens": full_tokens,
        "ddp_fp32_gib": result.parameters * 16 / GIB,
        "ddp_bf16_gib": result.parameters * 8 / GIB,
        "memory_gib": trainer["memory_gib"],
        "lr": fit["lr"],
        "clip": fit["clip"],
        "embedding_entries": result.embedding_entries,
        "anchor_norm": 2e-4 * result.embedding_entries**0.5,
    }
    if cfg["published"]:
        facts |= _published_facts(cfg["published"], trainer, result, full_tokens)
    notes = [text.format(**facts) for text in cfg["contradictions"]]
    return Estimate(**{**result.__dict__, "notes": notes})


def _published_facts(
    published: dict[str, Any], trainer: dict[str, Any], result: Estimate, full_tokens: int
) -> dict[str, Any]:
    """What a card says of its own cost, beside this plan."""
    peak_tflops = listed_tflops(published["gpu"], "bf16") or result.rate.peak_tflops
    budget_flops = published["gpu_hours"] * 3600 * peak_tflops * 1e12
    return {
        "teacher_vocabulary": published["teacher_vocabulary"],
        "vocabulary_ratio": published["teacher_vocabulary"] / result.vocabulary,
        "full_mfu": full_tokens * 6 * result.parameters / budget_flops,
        "published_hours": published["gpu_hours"],
    }
