"""What a run will cost, before anything is allocated: parameters, tokens, memory, FLOPs, hours.

Parameters are counted on the meta device from the values in the student's YAML, tokens from the cache's manifest or, as
long as there is none, from what `conf/cache` expects. No weights, no network. A recipe of several fits has one bill:
every one of them is priced, and an answer of the teacher's is charged to the first that draws it.
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
from dante.cost.compute import NOTHING, Compute, Work
from dante.cost.expected_rate import ExpectedRate, expected_rate
from dante.cost.memory import Memory, Shape, matches_blocks, memory_of, shape_of, units_shape
from dante.cost.peak import listed_tflops
from dante.errors import DanteError
from dante.run.config.schema import ComputeBudget, Fit
from dante.run.parts import build
from dante.run.precision import device_of, is_emulated
from dante.run.stages import STAGES
from dante.run.step import PlannedStep
from dante.supervision.provided import reading_inputs, resident_inputs, scored_once, scoring_inputs
from dante.system.files import GIB
from dante.teachers.size import resident_parameters, teacher_size

# Sources of texts that no teacher writes.
RAW = ("dante.cache.stage.RawTexts",)
SIDES: tuple[Split, Split] = ("heldout", "validation")
# Of a student's answers so many become mixed ones, where nothing is expected: 12.7 K of 50 K [C: DASD §3].
OF_SAMPLES = 0.25


@dataclass(frozen=True)
class FitEstimate:
    """Costs of one fit; every figure is an estimate, but the steps where no budget decides them.

    Attributes:
        label: of its step.
        settings: how it is trained.
        losses: their names.
        devices: how many it runs on.
        steps: optimizer steps.
        draws: records drawn over all steps.
        records: of the train split of the cache that it reads; None where that is unknown.
        tokens: all tokens that go through the student.
        supervised_tokens: tokens with a loss.
        counted: the cache is there and was counted.
        memory: of one device, line by line.
        compute: forward and backward without recomputation, and the teacher's part.
        rate: of products, and the share of it that fits reach: what the hours follow from.
        fp32_hours: of the same fit in fp32, where this machine would only emulate its precision; else None.
    """

    label: str
    settings: Fit
    losses: tuple[str, ...]
    devices: int
    steps: int
    draws: int
    records: int | None
    tokens: float
    tokens_per_step: float
    supervised_tokens: float
    counted: bool
    memory: Memory
    compute: Compute
    rate: ExpectedRate
    hours: float
    fp32_hours: float | None

    @property
    def epochs(self) -> float | None:
        """Draws per record of the train split."""
        return self.draws / self.records if self.records else None


@dataclass(frozen=True)
class Estimate:
    """Costs of a plan's fits together.

    Attributes:
        parameters: of the student, a tied head once.
        padded_parameters: of its release that is padded with zeros to one size, where the recipe has one.
        embedding_entries: entries of the embedding matrix.
        vocabulary: its rows.
        fits: in the order of the recipe.
        held_out: prompts for results and for choices, in words.
        notes: what a card says that cannot be meant literally.
    """

    parameters: int
    padded_parameters: int | None
    embedding_entries: int
    vocabulary: int
    fits: tuple[FitEstimate, ...]
    held_out: str
    notes: list[str]

    @property
    def steps(self) -> int:
        """Optimizer steps of all fits."""
        return sum(fit.steps for fit in self.fits)

    @property
    def draws(self) -> int:
        """Records drawn by all fits."""
        return sum(fit.draws for fit in self.fits)

    @property
    def records(self) -> int | None:
        """Train records of the cache that the first fit reads."""
        return self.fits[0].records

    @property
    def epochs(self) -> float | None:
        """Draws of all fits per train record."""
        return self.draws / self.records if self.records else None

    @property
    def counted(self) -> bool:
        """Every cache is there and was counted."""
        return all(fit.counted for fit in self.fits)

    @property
    def memory(self) -> Memory:
        """Of the fit that needs the most."""
        return max((fit.memory for fit in self.fits), key=lambda memory: memory.total)

    @property
    def compute(self) -> Compute:
        """The one bill."""
        parts = [fit.compute for fit in self.fits]
        return Compute(
            training=sum((part.training for part in parts), NOTHING),
            generation=sum((part.generation for part in parts), NOTHING),
            scoring=sum((part.scoring for part in parts), NOTHING),
            estimated=tuple(dict.fromkeys(name for part in parts for name in part.estimated)),
        )

    @property
    def hours(self) -> float:
        """Of all fits, one after the other."""
        return sum(fit.hours for fit in self.fits)

    @property
    def device_hours(self) -> float:
        """Devices × hours."""
        return sum(fit.hours * fit.devices for fit in self.fits)

    @property
    def fp32_hours(self) -> float | None:
        """Of all fits in fp32, where this machine would only emulate what some are in; else None."""
        if all(fit.fp32_hours is None for fit in self.fits):
            return None
        return sum(fit.hours if fit.fp32_hours is None else fit.fp32_hours for fit in self.fits)


def estimate(cfg: dict[str, Any], steps: list[PlannedStep]) -> Estimate:
    """Estimate the fits of a checked config."""
    shape = student_shape(cfg["student"])
    by_label = {step.label: step for step in steps}
    paid: dict[str, float] = {}  # answers that an earlier fit is charged for, by the label of the cache
    fits = []
    for label, step in cfg["steps"].items():
        if step["stage"] == "fit":
            cache = step["inputs"]["cache"]
            fits.append(_fit(cfg, label, shape, by_label, paid.get(cache, 0.0)))
            records = fits[-1].records or math.inf
            paid[cache] = float(min(paid.get(cache, 0.0) + fits[-1].draws, records))
    if not fits:
        raise DanteError(
            "the recipe trains nothing: no step has the stage `fit`",
            where="steps",
            fix="recipe=one_fit, or give the recipe a step with `stage: fit`",
        )
    result = Estimate(
        parameters=shape.parameters,
        padded_parameters=_padded_parameters(cfg),
        embedding_entries=shape.embedding_entries,
        vocabulary=shape.vocabulary,
        fits=tuple(fits),
        held_out=held_out_words(cfg["cache"]["source"]),
        notes=[],
    )
    return Estimate(**{**vars(result), "notes": _notes(result, cfg)})


def _fit(cfg: dict[str, Any], label: str, shape: Shape, steps: dict[str, PlannedStep], paid: float) -> FitEstimate:
    """Estimate one fit.

    Args:
        cfg: a checked config.
        label: of the fit's step.
        shape: of the student.
        steps: of the plan, by label: what is complete is counted.
        paid: records of its cache whose answers an earlier fit is charged for.
    """
    node = cfg["steps"][label]
    settings = STAGES["fit"].typed(node["settings"])
    fit, trainer = settings.fit, node["resources"]["trainer"]
    source, expected = _texts_of(cfg, node["inputs"]["cache"])
    records, per_record, supervised_share, counted = _cache_facts(
        source, expected, fit, steps.get(node["inputs"]["cache"])
    )
    size, unit = fit.batch.size, fit.batch.unit
    per_step = float({"records": size * per_record, "packs": size * fit.max_tokens, "tokens": size}[unit])
    losses = settings.build_losses()
    if matches_blocks(list(losses.values())):
        shape = units_shape(_meta(cfg["student"]))
    reads = settings.supervision, list(losses.values())
    # Who reads its own tokens is taken to read as many as the student.
    beside = [*scoring_inputs(*reads), *reading_inputs(*reads)]
    scored, resident = scored_once(*reads), resident_inputs(*reads)

    def labels_of(names: list[str]) -> list[str | None]:
        return [node["inputs"].get(name) for name in names]

    def scoring_of(names: list[str], tokens: float) -> list[Work]:
        supervised = tokens * supervised_share
        sizes = [teacher_size(_stated(cfg, label, "parameters"), _made(label, steps)) for label in labels_of(names)]
        parameters = [size.parameters if size else None for size in sizes]
        return [compute.inference(active, tokens - supervised, supervised) for active in parameters]

    writes = source["_target_"] not in RAW
    stage = cfg["steps"][node["inputs"]["cache"]]["stage"]
    selects, mixes = stage == "select", stage == "mixed"
    drafts = _drafts(cfg, source, expected) if selects else 1
    teacher = _teacher_parameters(cfg, steps)
    begun = _begun(cfg, shape, records, per_record, supervised_share) if mixes else NOTHING

    def cost_of(count: int) -> Compute:
        tokens = per_step * count
        distinct = min(tokens / per_record, max((records or math.inf) - paid, 0.0))
        if mixes:  # the teacher's own answers beside the mixed ones were paid by the round before
            distinct /= 1 + cfg["mixed"]["off_policy"]
        answers, written = per_record * supervised_share, distinct * drafts
        answered = compute.inference(teacher, written * (per_record - answers), written * answers)
        answered = answered if writes else NOTHING
        chosen = compute.inference(shape.parameters, written * (per_record - answers), written * answers)
        live = scoring_of(beside, tokens)
        return Compute(
            training=compute.training(
                shape.body_parameters, shape.embedding_entries, round(tokens), round(tokens * supervised_share)
            ),
            generation=answered + (begun if mixes else NOTHING),
            scoring=sum(live, (answered if scored else NOTHING) + (chosen if selects else NOTHING)),
            estimated=("training", "generation", *(("scoring",) if scored or live or selects else ())),
        )

    count = fit.steps or _steps_of(fit.compute, cost_of, (records or 1) * per_record / per_step)
    cost = cost_of(count)
    tokens = float(per_step * count)
    devices = trainer["devices"] * trainer["num_nodes"]
    # Recomputation runs every forward twice: no useful work, but time.
    hardware_flops = (cost.training.flops or 0.0) * (4 / 3 if fit.gradient_checkpointing == "full" else 1)
    # Of the teachers that score every draw, those that run on these devices.
    hardware_flops += sum(work.flops or 0.0 for work in scoring_of(resident, tokens))
    rate = expected_rate(trainer, fit.precision)

    def hours_at(at: ExpectedRate) -> float:
        return hardware_flops / (at.tflops * 1e12 * devices) / 3600

    emulated = is_emulated(fit.precision, device_of(trainer["accelerator"]))
    return FitEstimate(
        label=label,
        settings=fit,
        losses=tuple(losses),
        devices=devices,
        steps=count,
        draws=round(tokens / per_record),
        records=records,
        tokens=tokens,
        tokens_per_step=float(per_step),
        supervised_tokens=tokens * supervised_share,
        counted=counted,
        memory=memory_of(
            shape,
            fit,
            settings.fidelity,
            trainer,
            list(losses.values()),
            [
                resident_parameters(_stated(cfg, label, "resident"), _made(label, steps)) or 0.0
                for label in labels_of(resident)
            ],
        ),
        compute=cost,
        rate=rate,
        hours=hours_at(rate),
        fp32_hours=hours_at(expected_rate(trainer, "fp32")) if emulated else None,
    )


def student_shape(student: dict[str, Any]) -> Shape:
    """The shape of a checked `student` node, from its architecture's values."""
    return shape_of(_meta(student))


def _meta(student: dict[str, Any]) -> Any:
    """The student on the meta device."""
    from dante.students.load import build_meta, meta_of

    init = build(student["init"])
    if student["architecture"] is None:
        return meta_of(student["source"], init)
    return build_meta(student["architecture"], init)


def _texts_of(cfg: dict[str, Any], label: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Source of the texts that a cache step brings, and what is expected of them; of a selection, its candidates'."""
    step = cfg["steps"][label]
    if step["stage"] == "mixed":
        source, expected = _texts_of(cfg, step["inputs"]["cache"])
        prompts, own = expected["records"] or 0, cfg["mixed"]["off_policy"]
        held = sum(prompts_of(planned(source, side), prompts) for side in SIDES)
        mixed = cfg["mixed"]["expected"] or round(OF_SAMPLES * (cfg["mixed"]["prompts"] or prompts - held))
        return source, expected | {"records": round(mixed * (1 + own)) + held or None}
    if step["stage"] == "select":
        source, expected = _texts_of(cfg, step["inputs"]["cache"])
        answers = expected.get("answers_per_prompt") or _answers_per_prompt(source)
        return source, expected | {"records": (expected["records"] or 0) // answers or None}
    source = step["settings"]["source"]
    for key in ("texts", "cache_before"):
        if cfg[key] is not None and source == cfg[key]["source"]:
            return source, cfg[key]["expected"]
    if source == cfg["cache"]["source"]:
        return source, cfg["cache"]["expected"]
    prompts = (source.get("prompts") or {}).get("count")  # a second cache of the same kind, of another size
    records = prompts * _answers_per_prompt(source) if prompts else cfg["cache"]["expected"]["records"]
    return source, cfg["cache"]["expected"] | {"records": records}


def _begun(cfg: dict[str, Any], shape: Shape, records: int | None, per_record: float, supervised_share: float) -> Work:
    """The student's own answers, those included that it ends itself: at most `cap` times as long as the teacher's."""
    mixed = cfg["mixed"]
    asked = mixed["prompts"] or (records or 0) / (1 + mixed["off_policy"]) / OF_SAMPLES
    answers = per_record * supervised_share
    return compute.inference(shape.parameters, asked * (per_record - answers), asked * answers * mixed["cap"])


def _drafts(cfg: dict[str, Any], source: dict[str, Any], expected: dict[str, Any]) -> int:
    """From how many answers of one temperature one is kept."""
    stated = expected.get("answers_per_prompt")
    return int(stated) // len(cfg["selection"]["temperatures"]) if stated else _samples(source)


def _samples(source: dict[str, Any]) -> int:
    """How many answers a cache has to each prompt at one temperature, as far as its settings say."""
    return int((source.get("decoding") or {"samples": 1})["samples"])


def _answers_per_prompt(source: dict[str, Any]) -> int:
    """The same at all its temperatures."""
    temperatures = (source.get("decoding") or {"temperature": 0.0})["temperature"]
    listed = temperatures if isinstance(temperatures, list) else [temperatures]
    return sum(_samples(source) if temperature else 1 for temperature in listed)


def _cache_facts(
    source: dict[str, Any], expected: dict[str, Any], fit: Fit, cache: PlannedStep | None
) -> tuple[int | None, float, float, bool]:
    """Train records, tokens per record, supervised share, and whether records were counted or expected.

    A cache knows the teacher's tokens; prompts in the student's tokens are expected until they are rendered.
    """
    per_record = float(expected["tokens_per_record"] or fit.max_tokens)
    supervised = float(expected["supervised_per_record"] or per_record)
    records = expected["records"]
    manifest: Path | None = cache.directory / "manifest.json" if cache is not None and cache.complete else None
    if manifest is not None and manifest.is_file():
        try:
            counts = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
        except (OSError, ValueError, KeyError):  # damaged: the pipeline will find that out and say so
            pass
        else:
            answered, teacher_tokens = counts.get("records"), counts.get("teacher_tokens")
            if answered and teacher_tokens:  # and one end-of-turn token each
                supervised = teacher_tokens / answered + 1
            return counts.get("train") or records, per_record, supervised / per_record, True
    train = records - sum(prompts_of(planned(source, side), records) for side in SIDES) if records else None
    return train, per_record, supervised / per_record, False


def _made(label: str | None, steps: dict[str, PlannedStep]) -> Path | None:
    """A teacher step's directory, where it is complete."""
    return steps[label].directory if label in steps and steps[label].complete else None


def _stated(cfg: dict[str, Any], label: str | None, key: str) -> float | None:
    """What the configuration says of a step's teacher: only of the run's own it says anything."""
    own = label is not None and cfg["steps"][label]["settings"].get("make") == cfg["teacher"]["make"]
    return _said(cfg, key) if own else None


def _said(cfg: dict[str, Any], key: str) -> float | None:
    """What is stated of the run's teacher, or what a file says that it is to be made of."""
    stated = cfg["teacher"][key]
    if stated is None and (counted := getattr(build(cfg["teacher"]["make"]), "parameters", None)) is not None:
        stated = counted()
    return None if stated is None else float(stated)


def _teacher_parameters(cfg: dict[str, Any], steps: dict[str, PlannedStep]) -> float | None:
    """Of who writes or wrote the answers, as far as it is known before the cache is there."""
    if cfg["cache"]["teacher_parameters"] is not None:
        return float(cfg["cache"]["teacher_parameters"])
    own = [
        step for step in steps.values() if step.stage == "teacher" and step.settings["make"] == cfg["teacher"]["make"]
    ]
    made = next((step.directory for step in own if step.complete), None)
    size = teacher_size(_said(cfg, "parameters"), made)
    return size.parameters if size else None


def _steps_of(budget: ComputeBudget, cost_of: Callable[[int], Compute], steps_per_epoch: float) -> int:
    """About as many steps as a budget pays for, at least one: whether it pays for that is found when all is counted."""
    unit = budget.unit
    if unit == "epochs":
        return max(1, math.ceil(budget.amount * steps_per_epoch))

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

    return max(1, compute.most_steps(price, budget.amount))


def _padded_parameters(cfg: dict[str, Any]) -> int | None:
    releases = [step for step in cfg["steps"].values() if step["stage"] == "release"]
    if all(step["settings"].get("form") != "padded" for step in releases):
        return None
    from dante.students.dense_form import parameters_stored

    return parameters_stored(_meta(cfg["student"]), "padded")


def _notes(result: Estimate, cfg: dict[str, Any]) -> list[str]:
    """A card's contradictions, in this plan's numbers; what a fit is told by is the first one's."""
    if not cfg["contradictions"]:
        return []
    fit = result.fits[0].settings
    full_tokens = result.draws * fit.max_tokens
    facts = {
        "billions": result.parameters / 1e9,
        "padded_billions": (result.padded_parameters or result.parameters) / 1e9,
        "vocabulary": result.vocabulary,
        "draws": result.draws,
        "records": result.records or 0,
        "epochs": result.epochs or float("nan"),
        "max_tokens": fit.max_tokens,
        "full_tokens": full_tokens,
        "ddp_fp32_gib": result.parameters * 16 / GIB,
        "ddp_bf16_gib": result.parameters * 8 / GIB,
        "memory_gib": cfg["trainer"]["memory_gib"],
        "lr": fit.lr,
        "clip": fit.clip,
        "embedding_entries": result.embedding_entries,
        "anchor_norm": 2e-4 * result.embedding_entries**0.5,
    }
    if cfg["published"]:
        facts |= _published_facts(cfg["published"], result, full_tokens)
    return [text.format(**facts) for text in cfg["contradictions"]]


def _published_facts(published: dict[str, Any], result: Estimate, full_tokens: int) -> dict[str, Any]:
    """What a card says of its own cost, beside this plan."""
    peak_tflops = listed_tflops(published["gpu"], "bf16") or result.fits[0].rate.peak_tflops
    budget_flops = published["gpu_hours"] * 3600 * peak_tflops * 1e12
    return {
        "teacher_vocabulary": published["teacher_vocabulary"],
        "vocabulary_ratio": published["teacher_vocabulary"] / result.vocabulary,
        "full_mfu": full_tokens * 6 * result.parameters / budget_flops,
        "published_hours": published["gpu_hours"],
    }
