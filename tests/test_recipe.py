"""A recipe: its steps stand behind those that they read, and a configuration adds, changes and removes them by name."""

import itertools
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from dante.data.curriculum import SortedOnceRepeat
from dante.errors import DanteError
from dante.run.config.check import check
from dante.run.directory import _differences
from dante.run.parts import build
from dante.run.pipeline import plan_steps
from dante.run.recipe import merged, ordered
from tests.test_config import EXPERIMENTS, composed, unchecked

TODAY = ["teacher", "cache", "init", "fit", "release", "eval-teacher", "eval-init", "eval", "report"]


def reading(**inputs: list[str]) -> dict[str, dict[str, Any]]:
    return {label: {"stage": "fit", "inputs": {name: name for name in names}} for label, names in inputs.items()}


OTHERS = ("dante_then_sft", "dasd_thinking", "laguna_dense", "moe_chat_kd")


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name not in OTHERS])
def test_a_recipe_of_one_fit_runs_in_the_order_in_which_it_is_written(experiment: str) -> None:
    before_init = ["origin"] if experiment.endswith("_coder") else []  # what the student is cut from
    before_fit = {"raw_kd": ["texts"], "cached_kd": ["logits"]}.get(experiment, [])  # what the fit reads besides
    labels = list(composed(f"+experiment={experiment}", "scale=smoke")["steps"])
    assert labels == [*TODAY[:2], *before_init, TODAY[2], *before_fit, *TODAY[3:]]


def test_a_mixture_that_is_made_here_comes_behind_the_answers_that_it_is_made_of() -> None:
    labels = list(composed("+experiment=laguna_dense", "scale=smoke")["steps"])
    assert labels[:7] == ["dense", "cache", "teacher", "calibration", "init", "fit-match", "fit-chat_kd"]
    assert labels.index("eval-matched") < labels.index("eval") < labels.index("report")


def test_rounds_of_chosen_answers_come_one_after_the_other() -> None:
    labels = list(composed("+experiment=dasd_thinking", "scale=smoke")["steps"])
    rounds = ["likelihood", "select-low", "fit-low", "fit-high", "samples", "mixed", "fit-mixed"]
    assert [label for label in labels if label in rounds] == rounds
    assert labels.index("likelihood") < labels.index("select-high") < labels.index("fit-high")
    assert (
        labels.index("fit-mixed")
        < labels.index("likelihood-after")
        < labels.index("sentences")
        < labels.index("report")
    )


def test_any_written_order_is_brought_into_one_in_which_every_step_can_run() -> None:
    steps = reading(a=[], b=["a"], c=["a", "b"], d=["c", "a"])
    for written in itertools.permutations(steps):
        order = list(ordered({label: steps[label] for label in written}))
        assert sorted(order) == sorted(steps)
        for label in order:
            assert all(order.index(source) < order.index(label) for source in steps[label]["inputs"])


def test_steps_that_read_nothing_of_each_other_stay_as_written() -> None:
    assert list(ordered(reading(c=[], a=[], b=[]))) == ["c", "a", "b"]
    assert list(ordered(reading(c=["b"], a=[], b=[]))) == ["b", "c", "a"]


def test_a_second_fit_stands_between_what_it_reads_and_what_reads_it() -> None:
    more = (
        "+steps.fit-match.stage=fit",
        "+steps.fit-match.inputs={cache:cache,init:init,teacher:teacher}",
        "+steps.fit-match.settings=${steps.fit.settings}",
        "+steps.fit-match.changes.fit.steps=3",
        "+steps.fit-match.resources=${steps.fit.resources}",
        "+steps.fit.inputs.match=fit-match",
    )
    steps = list(composed("+experiment=sft", "scale=smoke", *more)["steps"])
    assert steps == [*TODAY[:3], "fit-match", *TODAY[3:]]


def test_steps_that_read_each_other_are_named() -> None:
    with pytest.raises(DanteError, match="read each other: b → c → b"):
        ordered(reading(a=["b"], b=["c"], c=["b"]))
    with pytest.raises(DanteError, match="read each other: cache → fit → cache"):
        composed("+experiment=sft", "scale=smoke", "+steps.cache.inputs.later=fit", "only=fit")


def test_an_input_that_no_step_writes_is_answered_with_a_fix_that_works() -> None:
    taken = ["+experiment=sft", "scale=smoke", "steps.eval-init=null"]
    typed: list[str] = []
    for _ in range(2):
        with pytest.raises(DanteError, match="'eval-init', which no step writes") as caught:
            composed(*taken, *typed)
        typed.append(caught.value.fix.removesuffix(" takes the input away").rpartition(" ")[2])
    steps = composed(*taken, *typed)["steps"]
    assert list(steps) == [label for label in TODAY if label != "eval-init"]
    assert "eval-init" not in steps["eval"]["inputs"]
    with pytest.raises(DanteError, match="'fitt', which no step writes") as caught:
        composed("+experiment=sft", "scale=smoke", "steps.release.inputs.fit=fitt")
    assert "did you mean 'fit'?" in caught.value.fix


def test_taking_a_step_away_leaves_the_others_what_they_were() -> None:
    gone = ["steps.eval-init=null", "steps.eval.inputs.eval-init=null", "steps.report.inputs.eval-init=null"]
    whole = {s.label: s.fingerprint for s in plan_steps(composed("+experiment=sft", "scale=smoke"))}
    left = {s.label: s.fingerprint for s in plan_steps(composed("+experiment=sft", "scale=smoke", *gone))}
    assert {label for label in left if left[label] != whole[label]} == {"eval", "report"}


def test_the_recipe_is_a_choice_of_its_own() -> None:
    assert unchecked(["+experiment=sft", "recipe=one_fit"])["steps"].keys() == set(TODAY)


def fit_of(cfg: dict[str, Any], label: str) -> dict[str, Any]:
    return cfg["steps"][label]["settings"]["fit"]


TWO = ("+experiment=dante_then_sft", "scale=smoke")


def test_two_fits_share_one_budget_and_draw_what_one_fit_would_draw() -> None:
    cfg = composed(*TWO)
    first, second = fit_of(cfg, "fit-first"), fit_of(cfg, "fit-second")
    assert first["steps"] + second["steps"] == fit_of(composed("+experiment=sft", "scale=smoke"), "fit")["steps"]
    entropy, draws = np.random.default_rng(0).random(52), 4 * first["steps"]
    halves = [build(fit["curriculum"]).order(entropy, draws, 7) for fit in (first, second)]
    np.testing.assert_array_equal(np.concatenate(halves), SortedOnceRepeat().order(entropy, 2 * draws, 7))


@pytest.mark.parametrize("steps", [2, 7, 9, 2000])
def test_shares_of_steps_make_the_whole(steps: int) -> None:
    cfg = composed(*TWO, f"fit.steps={steps}", "steps.fit-first.share=0.3", "steps.fit-second.share=0.7")
    parts = [fit_of(cfg, label)["steps"] for label in ("fit-first", "fit-second")]
    assert sum(parts) == steps
    assert parts[0] == pytest.approx(0.3 * steps, abs=0.5)


def test_a_compute_budget_is_shared_too_and_a_stored_configuration_is_not_shared_again() -> None:
    cfg = composed(*TWO, "budget=tokens", "budget.compute.amount=3000")
    assert [fit_of(cfg, label)["compute"]["amount"] for label in ("fit-first", "fit-second")] == [1500, 1500]
    again = check(OmegaConf.create(cfg))
    assert plan_steps(again) == plan_steps(cfg)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["steps.fit-first.share=0.7"], "do not make a whole: fit-first 0.7, fit-second 0.5"),
        (["steps.fit-first.share=null"], "do not make a whole: fit-first none, fit-second 0.5"),
        (
            ["steps.fit-first.share=0.01", "steps.fit-second.share=0.99"],
            "'fit-first' gets less than one step",
        ),
        (["+steps.fit-second.changes.fit.steps=3"], "has a share of the budget and cannot use it"),
        (["+steps.cache.share=0.5"], "'cache' has a share of the budget and cannot use it"),
        (["+steps.fit-second.changes.fit.lrr=3"], "unknown key 'steps.fit-second.settings.fit.lrr'.*did you mean 'lr'"),
        (["+steps.fit-second.changes.fit.precision=auto"], "is decided for the whole run"),
    ],
)
def test_mistakes_of_a_recipe_with_several_fits_are_named(typed: list[str], said: str) -> None:
    with pytest.raises(DanteError, match=said):
        composed(*TWO, *typed)


def test_the_fix_for_shares_works_when_it_is_typed() -> None:
    with pytest.raises(DanteError) as caught:
        composed(*TWO, "steps.fit-first.share=0.7")
    composed(*TWO, *caught.value.fix.removeprefix("for example ").split())


def test_changes_are_merged_key_by_key_and_another_part_replaces_the_first() -> None:
    node = {"fit": {"lr": 1.0, "curriculum": {"_target_": "a", "x": 1}}, "seed": 3}
    same = {"fit": {"curriculum": {"_target_": "a", "y": 2}}}
    assert merged(node, same) == {"fit": {"lr": 1.0, "curriculum": {"_target_": "a", "x": 1, "y": 2}}, "seed": 3}
    other = {"fit": {"curriculum": {"_target_": "b", "y": 2}}}
    assert merged(node, other)["fit"] == {"lr": 1.0, "curriculum": {"_target_": "b", "y": 2}}
    assert node["fit"] == {"lr": 1.0, "curriculum": {"_target_": "a", "x": 1}}


def test_a_suite_s_entry_for_a_model_is_its_own_and_leaves_shared_steps_alone() -> None:
    few, many = (
        composed("+experiment=sft", "scale=smoke", f"eval.generations={count}", "eval.validation=true")["steps"]
        for count in (2, 9)
    )
    suites = {label: few[label]["settings"]["suites"] for label in ("eval-teacher", "eval-init", "eval")}
    assert "generation" not in suites["eval-teacher"]
    assert suites["eval-init"]["generation"]["prompts"] == 2 == suites["eval"]["generation"]["prompts"]
    assert [suites[label]["heldout"]["validation"] for label in suites] == [False, False, True]
    assert [few[label] == many[label] for label in suites] == [True, True, False]
    assert not any("_of_" in node for own in suites.values() for node in own.values())


def test_a_run_goes_on_only_with_the_changes_that_it_was_started_with() -> None:
    started, other = composed(*TWO), composed(*TWO, "+steps.fit-second.changes.fit.lr=2e-4")
    assert _differences(started, other) == ["steps.fit-second.changes.fit.lr: absent → 0.0002"]
    assert _differences(started, started | {"control": True}) == []  # what a comparison makes of it
    whole = composed("+experiment=sft", "scale=smoke")
    more = whole["steps"] | {"count": {"stage": "eval", "inputs": {}, "settings": {}, "changes": {"x": 1}}}
    assert _differences(whole, whole | {"steps": more}) == []
