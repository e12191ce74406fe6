"""What the recipes publish, written down once as tables and held against what Hydra composes from conf/ and builds.

The first table is the DANTE-Mosaic-3.5B card with what `fidelity=sound` makes of it, the second ADS as this lab defines
it. A default that is changed in conf/, added to it or taken away turns a test red; then the table and its source are
what has to be looked at. The tests below the tables hold the numbers as they act: weights of built losses at steps of
the run, gradients of the anchor, groups of a built optimizer.
"""

import math
from functools import cache
from typing import Any

import pytest
import torch

from dante.fit.optimizer import OptimizerSettings, build_optimizer, learning_rate
from dante.losses.cwce import CWCE
from dante.losses.dual_penalty.penalty import DualPenalty
from dante.losses.multiplier import Fixed, NuPI
from dante.losses.tea import TEA
from dante.losses.tokens import SupervisedTokens
from dante.run.config.schema import Fidelity, Fit
from dante.run.parts import build
from tests.test_config import composed
from tests.test_optimizer import tiny_llama

ABSENT = object()
FIDELITIES = ("card", "sound")
# key | fidelity=card: the DANTE-Mosaic-3.5B card to the letter [C] | fidelity=sound: a careful engineer's reading [I]
DANTE = [
    ("seed", 42, 42),
    ("fit.steps", 2000, 2000),
    ("fit.batch.unit", "records", "records"),  # "~128 sequences" [C]; that a sequence is a record [I]
    ("fit.batch.size", 128, 128),
    ("fit.max_tokens", 4096, 4096),
    ("fit.lr", 2e-5, 2e-5),
    ("fit.min_lr_ratio", 0.0, 0.0),  # [I]: the card's cosine has no end
    ("fit.warmup", 0.1, 0.1),  # 200 of 2,000 steps
    ("fit.betas", [0.9, 0.95], [0.9, 0.95]),
    ("fit.eps", 1e-8, 1e-8),
    ("fit.weight_decay", 0.1, 0.1),
    ("fit.clip", 1.0, 1.0),
    ("fit.gradient_checkpointing", "full", "full"),
    ("fit.curriculum._target_", "dante.data.curriculum.SortedOnceRepeat", "dante.data.curriculum.SortedOnceRepeat"),
    ("fidelity.name", "card", "sound"),
    ("fidelity.master_weights", False, True),
    ("fidelity.clip", "global", "per_loss"),
    ("fidelity.decay", "all", "matrices"),
    ("fidelity.anchor.reduction", "frobenius_sum", "relative"),
    ("fidelity.anchor.calibrate", False, True),
    ("losses.cwce._target_", "dante.losses.cwce.CWCE", "dante.losses.cwce.CWCE"),
    ("losses.cwce.floor", 0.30, 0.30),
    ("losses.cwce.slope", 1.5, 1.5),
    ("losses.cwce.midpoint", 1.5, 1.5),
    ("losses.cwce.normalise", "tokens", "tokens"),  # [I]
    ("losses.cwce.weight._target_", "dante.losses.schedule.HoldThenRamp", "dante.losses.schedule.HoldThenRamp"),
    ("losses.cwce.weight.start", 0.70, 0.70),
    ("losses.cwce.weight.end", 1.0, 1.0),
    ("losses.cwce.weight.hold", 0.1, 0.1),
    ("losses.tea._target_", "dante.losses.tea.TEA", "dante.losses.tea.TEA"),
    ("losses.tea.reduction", "frobenius_sum", "relative"),
    ("losses.tea.calibrate", False, True),
    ("losses.tea.gradient_ratio", 0.1, 0.1),  # [I], like the two below: read only where calibrated
    ("losses.tea.drift_rms", 1e-4, 1e-4),
    ("losses.tea.calibration", 0.1, 0.1),
    ("losses.tea.weight._target_", "dante.losses.schedule.Linear", "dante.losses.schedule.Linear"),
    ("losses.tea.weight.start", 1.0, 1.0),
    ("losses.tea.weight.end", 0.1, 0.1),
]  # fmt: skip
# What a smaller scale may say otherwise: how long, how fast, how large a step.
BUDGET = {"fit.steps", "fit.lr", "fit.max_tokens", "fit.batch.size", "fit.gradient_checkpointing"}
# key | ads_kai | ads_fixed, its control. All [I]: the Kai-3B-Instruct card gives no number.
ADS = [
    ("losses.ce._target_", "dante.losses.ce.CE", "dante.losses.ce.CE"),
    ("losses.ce.weight._target_", "dante.losses.schedule.Constant", "dante.losses.schedule.Constant"),
    ("losses.ce.weight.value", 1.0, 1.0),
    ("losses.dual_penalty._target_", "dante.losses.dual_penalty.DualPenalty", "dante.losses.dual_penalty.DualPenalty"),
    ("losses.dual_penalty.signal", "predictive", "predictive"),
    ("losses.dual_penalty.guard", "label_is_argmax", "label_is_argmax"),
    ("losses.dual_penalty.difficult", 0.2, 0.2),  # rho
    ("losses.dual_penalty.threshold", None, None),  # tau: measured
    ("losses.dual_penalty.initial_bound", None, None),  # epsilon_0: measured
    ("losses.dual_penalty.measure_from", 0.0, 0.0),
    ("losses.dual_penalty.measure_until", 0.1, 0.1),  # the warm-up
    ("losses.dual_penalty.bound._target_", "dante.losses.schedule.HoldThenRamp", "dante.losses.schedule.HoldThenRamp"),
    ("losses.dual_penalty.bound.start", 1.0, 1.0),
    ("losses.dual_penalty.bound.end", 0.5, 0.5),  # kappa
    ("losses.dual_penalty.bound.hold", 0.1, 0.1),
    ("losses.dual_penalty.weight._target_", "dante.losses.schedule.Constant", "dante.losses.schedule.Constant"),
    ("losses.dual_penalty.weight.value", 1.0, 1.0),
    ("losses.dual_penalty.augmentation", 1.0, 0.0),  # c
    ("losses.dual_penalty.multiplier._target_", "dante.losses.multiplier.NuPI", "dante.losses.multiplier.Fixed"),
    ("losses.dual_penalty.multiplier.k_i", 100.0, ABSENT),
    ("losses.dual_penalty.multiplier.k_p", 10.0, ABSENT),
    ("losses.dual_penalty.multiplier.nu", 0.9, ABSENT),
    ("losses.dual_penalty.multiplier.maximum", 20.0, ABSENT),
    ("losses.dual_penalty.multiplier.level", ABSENT, 1.0),
    ("fit.curriculum._target_", "dante.data.curriculum.Shuffled", "dante.data.curriculum.Shuffled"),
]  # fmt: skip
# H in nats per token → w(H) = 0.30 + 0.70 / (1 + exp(1.5 (H - 1.5)))
WEIGHT_OF_ENTROPY = {0: 0.9333, 0.2: 0.913, 0.5: 0.872, 1: 0.775, 1.5: 0.65, 2: 0.525, 3: 0.367, 5: 0.304}
# step of 2,000 → lambda_CE, lambda_TEA (before a calibration), learning rate as a share of its peak
SCHEDULES = {
    0: (0.70, 1.0, 1 / 200),
    99: (0.70, 0.95545, 0.5),
    200: (0.70, 0.91, 1.0),
    1100: (0.85, 0.505, 0.5),
    2000: (1.0, 0.1, 0.0),
}
STEPS = 2000


@cache
def recipe(*overrides: str) -> dict[str, Any]:
    return composed(*overrides)


def dante(fidelity: str, scale: str = "a100x8") -> dict[str, Any]:
    return recipe("+experiment=dante_mosaic", f"scale={scale}", f"fidelity={fidelity}", "fit.precision=bf16")


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` → `{"a.b": 1}`."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, child in node.items() for k, v in flat(child, f"{prefix}.{key}" if prefix else key).items()}


def column(table: list[tuple[Any, ...]], which: int) -> dict[str, Any]:
    return {row[0]: row[1 + which] for row in table}


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_the_composed_recipe_has_the_published_values(fidelity: str) -> None:
    found, published = flat(dante(fidelity)), column(DANTE, FIDELITIES.index(fidelity))
    assert {key: found[key] for key in published} == published


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize("scale", ["pocket", "gpu1", "smoke"])
def test_a_smaller_scale_changes_the_budget_and_nothing_else_of_the_recipe(fidelity: str, scale: str) -> None:
    found, published = flat(dante(fidelity, scale)), column(DANTE, FIDELITIES.index(fidelity))
    kept = published.keys() - BUDGET
    assert {key: found[key] for key in kept} == {key: published[key] for key in kept}


def test_the_table_knows_every_number_of_the_losses_and_the_fidelities() -> None:
    """A parameter that is added has a published value, or ours, like the others."""
    for fidelity in FIDELITIES:
        cfg = dante(fidelity)
        keys = flat({"losses": cfg["losses"], "fidelity": cfg["fidelity"]}).keys()
        assert keys <= column(DANTE, 0).keys()


@pytest.mark.parametrize("which", [0, 1], ids=["ads_kai", "ads_fixed"])
def test_ads_has_the_values_it_is_documented_with(which: int) -> None:
    cfg = recipe(f"+experiment={['ads_kai', 'ads_fixed'][which]}", "scale=a100x8")
    expected = {key: value for key, value in column(ADS, which).items() if value is not ABSENT}
    assert flat({"losses": cfg["losses"], "fit": {"curriculum": cfg["fit"]["curriculum"]}}) == expected


def test_a_pruned_student_is_measured_when_it_has_found_its_feet() -> None:
    for scale in ("pocket", "gpu1"):
        node = recipe("+experiment=ads_kai", f"scale={scale}")["losses"]["dual_penalty"]
        assert (node["measure_from"], node["measure_until"], node["bound"]["hold"]) == (0.4, 0.5, 0.5)


def settings_of(cfg: dict[str, Any]) -> OptimizerSettings:
    return OptimizerSettings.of(Fit.model_validate(cfg["fit"]), Fidelity.model_validate(cfg["fidelity"]))


def built(cfg: dict[str, Any]) -> dict[str, Any]:
    return {name: build(node, name=name) for name, node in cfg["losses"].items()}


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize("step", SCHEDULES)
def test_weights_and_rate_at_steps_of_the_run(fidelity: str, step: int) -> None:
    cfg = dante(fidelity)
    losses, settings = (
        built(cfg),
        settings_of(cfg),
    )
    found = (
        losses["cwce"].weight(step / STEPS),
        losses["tea"].weight(step / STEPS),
        learning_rate(step, settings) / 2e-5,
    )
    assert found == pytest.approx(SCHEDULES[step], abs=1e-9)


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_a_record_s_weight_is_the_cards_w_of_its_entropy(fidelity: str) -> None:
    loss = built(dante(fidelity))["cwce"]
    assert isinstance(loss, CWCE)
    entropies = torch.tensor(list(WEIGHT_OF_ENTROPY), dtype=torch.float64)
    # Records of one token and of nine: "tokens" weighs each token alike, "records" would not.
    lengths = torch.tensor([1, 9] * 4)
    record = torch.arange(8).repeat_interleave(lengths)
    fields = {"output_entropy": entropies, "supervised_tokens": lengths}
    tokens = SupervisedTokens(torch.zeros_like(record), record, fields, step_tokens=len(record), step_records=8)
    expected = torch.tensor(list(WEIGHT_OF_ENTROPY.values()), dtype=torch.float64)[record] / len(record)
    torch.testing.assert_close(loss.coefficients(tokens), expected, rtol=0, atol=5e-4 / len(record))


def anchored(cfg: dict[str, Any], step: int) -> tuple[TEA, float, int]:
    """The recipe's anchor when every entry of an embedding has moved by 1e-4, its gradient norm at a step, entries."""
    loss, student = built(cfg)["tea"], tiny_llama()
    embedding = student.get_input_embeddings().weight
    loss.attach(student, embedding.detach().clone())
    with torch.no_grad():
        embedding += 1e-4
    embedding.grad = torch.full_like(embedding, 3.0)
    loss.observe(0.0, torch.ones(()))
    return loss, loss.term(step / STEPS).gradient_norm.item(), embedding.numel()


@pytest.mark.parametrize("step", SCHEDULES)
def test_the_cards_anchor_is_a_plain_sum_and_the_sound_one_a_tenth_of_the_token_gradient(step: int) -> None:
    lam = SCHEDULES[step][1]
    _, norm, entries = anchored(dante("card"), step)
    assert norm == pytest.approx(2 * lam * 1e-4 * math.sqrt(entries), rel=2e-3)
    _, norm, entries = anchored(dante("sound"), step)
    assert norm == pytest.approx(0.1 * lam * 3.0 * math.sqrt(entries), rel=2e-3)


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_the_optimizer_that_is_built_has_the_cards_numbers(fidelity: str) -> None:
    cfg = dante(fidelity)
    settings = settings_of(cfg)
    student = tiny_llama(bias=True)
    optimizer = build_optimizer(student, settings)
    assert isinstance(optimizer, torch.optim.AdamW)
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (2e-5, (0.9, 0.95), 1e-8)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in student.named_parameters():
        exempt = fidelity == "sound" and ("embed" in name or "norm" in name or name.endswith("bias"))
        assert decay[id(parameter)] == (0.0 if exempt else 0.1), name
    assert (settings.clip, settings.clip_scope) == (1.0, "global" if fidelity == "card" else "per_loss")


def test_the_penalty_that_is_built_has_the_documented_bound_and_gains() -> None:
    adaptive = built(recipe("+experiment=ads_kai", "scale=a100x8"))["dual_penalty"]
    assert isinstance(adaptive, DualPenalty)
    assert [adaptive.bound(step / STEPS) for step in (0, 200, 1100, 2000)] == pytest.approx([1.0, 1.0, 0.75, 0.5])
    # A first violation of 1, in a run of 2,000 steps: K_I / 2,000 + K_P (1 - nu).
    assert isinstance(adaptive.multiplier, NuPI)
    adaptive.multiplier.update(torch.ones(()), 1 / STEPS, torch.tensor(True))
    assert adaptive.multiplier.value.item() == pytest.approx(100 / STEPS + 10 * 0.1)
    adaptive.multiplier.update(torch.tensor(1e6), 1 / STEPS, torch.tensor(True))
    assert adaptive.multiplier.value.item() == 20.0
    control = built(recipe("+experiment=ads_fixed", "scale=a100x8"))["dual_penalty"].multiplier
    assert isinstance(control, Fixed)
    assert control.value.item() == 1.0
