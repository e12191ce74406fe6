"""A recipe: its steps stand behind those that they read, and a configuration adds, changes and removes them by name."""

import itertools
from typing import Any

import pytest

from dante.errors import DanteError
from dante.run.pipeline import plan_steps
from dante.run.recipe import ordered
from tests.test_config import EXPERIMENTS, composed, unchecked

TODAY = ["teacher", "cache", "init", "fit", "release", "eval-teacher", "eval-init", "eval", "report"]


def reading(**inputs: list[str]) -> dict[str, dict[str, Any]]:
    return {label: {"stage": "fit", "inputs": {name: name for name in names}} for label, names in inputs.items()}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_recipe_of_one_fit_runs_in_the_order_in_which_it_is_written(experiment: str) -> None:
    assert list(composed(f"+experiment={experiment}", "scale=smoke")["steps"]) == TODAY


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
