"""A sweep before anything runs: its command line, its points, their names, and what is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dante.errors import DanteError
from dante.sweep.arguments import config_flags, is_sweep, lifted
from dante.sweep.plan import (
    plan_point,
    refuse_overwriting,
    refuse_shared_directories,
    refuse_tuned_and_listed,
    refuse_unknown_baseline,
    refuse_without_validation,
    shared_compute,
    sweep_folder,
)
from dante.sweep.points import Listed, Point, arms, seeded, shortened
from dante.sweep.proposals import Grid, Search, proposals, refuse_unclear
from dante.sweep.record import PlannedPoint
from dante.sweep.settings import SweepSettings, Tune, as_text, sweep_settings
from dante.sweep.tuning import Choices
from tests.test_config import unchecked


def listed(*arguments: str, params: tuple[str, ...] = (), search: bool = False) -> Listed:
    parser = OverridesParser.create()
    return Listed(parser.parse_overrides(list(params)), parser.parse_overrides(lifted(["-m", *arguments])[1:]), search)


def names(settings: SweepSettings, found: Listed) -> list[str]:
    return [arm.arm_name for arm in arms(settings, found)]


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        (["+experiment=sft", "scale=smoke"], ["+experiment=sft", "scale=smoke"]),  # one run: nothing changes
        (["-m", "+experiment=a,b", "scale=smoke"], ["-m", "+experiment=a,b", "scale=choice(smoke)"]),
        (["+sweep=x", "seed=1,2", "scale=smoke"], ["+sweep=x", "seed=1,2", "scale=choice(smoke)"]),
        (["-m", "loss=[cwce,tea]"], ["-m", "loss=choice([cwce,tea])"]),
        (["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], None),
        (["-m", "fit.lr=choice(1,2)", "fit.clip=range(1,3)", "fit.eps=interval(1,2)"], None),
        (["-m", "~losses.tea", "run.name=", "--config-dir", "x"], None),
        (
            ["-m", "student.init.layers=null"],
            ["-m", "student.init.layers=choice(__null__)"],
        ),  # Hydra takes no choice of null
        (["-m", "fit.lr=["], None),  # Hydra says what is wrong with it
    ],
)
def test_what_is_fixed_is_left_to_the_points(typed: list[str], seen: list[str] | None) -> None:
    assert lifted(typed) == (typed if seen is None else seen)


def test_lifted_values_are_the_ones_that_were_typed() -> None:
    texts = ["loss=[cwce,tea]", "run.name='a b'", "fit.lr=1e-3", "student.init.layers=null", "+x={a: 1, b: [2]}"]
    for text in texts:
        [override] = OverridesParser.create().parse_overrides([text])
        [key] = listed(text).values
        [again] = OverridesParser.create().parse_overrides([f"{key}={listed(text).values[key][0]}"])
        assert again.value() == override.value(), text


def test_points_are_started_with_the_same_configuration_directory() -> None:
    flags = ["-m", "--config-dir", "mine", "+experiment=own", "--config-name=other"]
    assert config_flags(flags) == ["--config-dir", "mine", "--config-name=other"]
    assert config_flags(["-m", "seed=1"]) == []


def test_is_sweep() -> None:
    assert is_sweep(["+sweep=x"])
    assert is_sweep(["--multirun", "a=1"])
    assert not is_sweep(["+experiment=sweep", "seed=1"])


def test_arms_are_the_product_of_all_that_is_listed_but_the_seed() -> None:
    found = listed("+experiment=sft,dante_mosaic", "seed=1,2,3", "fit.clip=0.5,1.0", "scale=smoke")
    points = list(arms(SweepSettings(), found))
    assert [p.arm_name for p in points] == [
        "sft-fit.clip=0.5", "sft-fit.clip=1.0", "dante_mosaic-fit.clip=0.5", "dante_mosaic-fit.clip=1.0",
    ]  # fmt: skip
    assert points[0].overrides == ("scale=smoke", "+experiment=sft", "fit.clip=0.5")
    assert [p.overrides[-1] for p in seeded(points[0], found.seeds())] == ["seed=1", "seed=2", "seed=3"]
    assert names(SweepSettings(), listed("+experiment=sft", "seed=1,2")) == ["sft"]


def test_factors_multiply_and_the_command_line_wins_over_params() -> None:
    settings = SweepSettings(
        factors={"order": {"sorted": {"a.b": 1}, "shuffled": {"a.b": 2}}, "loss": {"ce": {"loss": ["ce"]}, "off": {}}}
    )
    found = listed("seed=7", params=("+experiment=sft", "seed=1,2", "fit.steps=9"))
    points = list(arms(settings, found))
    assert [p.arm_name for p in points] == ["sorted-ce", "sorted-off", "shuffled-ce", "shuffled-off"]
    assert points[0].overrides == ("+experiment=sft", "fit.steps=9", "a.b=1", "loss=[ce]")
    assert found.seeds() == ["7"]
    assert points[1].levels() == {"order": "sorted", "loss": "off"}
    some = settings.model_copy(update={"only_arms": [["shuffled", "off"], ["sorted", "ce"]]})
    assert names(some, found) == ["shuffled-off", "sorted-ce"]


@pytest.mark.parametrize(
    ("only", "said"), [([["sorted", "cee"]], "did you mean 'ce'?"), ([["sorted"]], "sorted|shuffled × ce|off")]
)
def test_arms_that_are_none_are_refused(only: list[list[str]], said: str) -> None:
    settings = SweepSettings(
        factors={"order": {"sorted": {}, "shuffled": {}}, "loss": {"ce": {}, "off": {}}}, only_arms=only
    )
    with pytest.raises(DanteError, match=r"is no arm of this sweep") as told:
        names(settings, listed())
    assert said.replace("\\", "") in str(told.value)


def test_a_key_of_a_factor_cannot_be_set_as_well() -> None:
    settings = SweepSettings(factors={"loss": {"ce": {"loss": ["ce"]}, "off": {"loss": ["x"]}}})
    with pytest.raises(DanteError, match="loss is set on the command line .* and by the factor 'loss'"):
        names(settings, listed("loss=[ce]"))
    tuned = settings.model_copy(update={"tune": Tune(grid={"loss": ["[a]", "[b]"]}, seed=1)})
    twice = SweepSettings(factors={"a": {"x": {"+fit.lr": 1}, "y": {}}, "b": {"x": {"fit.lr": 2}, "y": {}}})
    for one in (tuned, twice):
        with pytest.raises(DanteError, match="by another factor or the tuning"):
            names(one, listed())


def test_a_range_needs_a_search() -> None:
    with pytest.raises(DanteError, match="hydra/sweeper=optuna"):
        listed("fit.lr=interval(1e-4,1e-3)")
    assert listed("fit.lr=tag(log,interval(1e-4,1e-3))", search=True).ranges == {
        "fit.lr": "tag(log,interval(1e-4,1e-3))"
    }


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ({"nmae": "x"}, "did you mean 'name'?"),
        ({"tune": {"gird": {}, "seed": 1}}, "did you mean 'grid'?"),
        ({"tune": {"grid": {"fit.lr": [1]}, "seed": 1}}, "at least 2 items"),
        ({"name": "a/b"}, "hydra.sweeper.name='a/b'"),
    ],
)
def test_settings_of_a_sweep_are_checked(nodes: dict[str, Any], said: str) -> None:
    with pytest.raises(DanteError) as told:
        sweep_settings(**{key: OmegaConf.create(v) if isinstance(v, dict) else v for key, v in nodes.items()})
    assert said in str(told.value)


def test_values_are_written_as_hydra_reads_them() -> None:
    assert as_text([1, "a", None, True]) == "[1,a,null,true]"
    assert as_text({"a": 1e-3, "b": [False]}) == "{a:0.001,b:[false]}"


def planned(point: Point, tmp: Path, sweep: str | None = None) -> PlannedPoint:
    fixed = Point(
        point.arm, ("scale=smoke", f"run.dir={tmp}/${{run.name}}", *point.overrides), point.tuned, point.phase
    )
    return plan_point(fixed, unchecked, sweep, own_name=False)


def test_runs_are_named_as_if_started_alone_plus_what_differs(tmp_path: Path) -> None:
    found = listed("+experiment=sft,dante_mosaic", "seed=1,2")
    plain = [planned(p, tmp_path) for arm in arms(SweepSettings(), found) for p in seeded(arm, found.seeds())]
    assert [p.run for p in plain] == ["sft-smoke-s1", "sft-smoke-s2", "dante_mosaic-smoke-s1", "dante_mosaic-smoke-s2"]
    found = listed("+experiment=sft", "fit.clip=0.5,1.0", "loss=[ce],[cwce]", "seed=1")
    named = [planned(p, tmp_path).run for arm in arms(SweepSettings(), found) for p in seeded(arm, found.seeds())]
    assert named[0] == "sft-smoke,fit.clip=0.5,loss=ce-s1"
    assert len(set(named)) == 4
    [arm] = arms(SweepSettings(), listed("+experiment=sft"))
    tuned = arm.with_tuned({"fit.lr": "1e-3"}, ["eval.validation=true"], "tune")
    assert planned(tuned, tmp_path).run == "sft-smoke,lr=1e-3-s42"
    assert planned(tuned, tmp_path, "ablation").run == "ablation-smoke-sft-lr=1e-3-s42"
    assert planned(tuned, tmp_path).config is not None
    assert planned(tuned, tmp_path).config["eval"]["validation"] is True  # type: ignore[index]


def test_a_long_name_is_cut_and_stays_unique() -> None:
    long = ["x" * 200 + str(n) for n in range(3)]
    assert len({shortened(name) for name in long}) == 3
    assert all(len(shortened(name)) == 120 for name in long)
    assert shortened("short") == "short"


def test_a_point_that_cannot_be_checked_says_why_and_the_others_are_planned(tmp_path: Path) -> None:
    found = listed("+experiment=sft", "fit.lr=1e-3,-1", "seed=1")
    good, bad = (planned(p, tmp_path) for arm in arms(SweepSettings(), found) for p in seeded(arm, found.seeds()))
    assert (good.status, bad.status) == ("pending", "failed")
    assert bad.error is not None
    assert "fit.lr=-1" in bad.error
    unknown = planned(Point({}, ("+experiment=stf",)), tmp_path)
    assert unknown.error is not None
    assert "did you mean 'sft'?" in unknown.error


def test_two_points_in_one_directory_are_refused(tmp_path: Path) -> None:
    points = [
        plan_point(
            Point({}, ("+experiment=sft", "scale=smoke", f"seed={seed}", f"run.dir={tmp_path}/x", "run.name=x")),
            unchecked,
            None,
            own_name=True,
        )
        for seed in (1, 2)
    ]
    with pytest.raises(DanteError, match="would both be the run 'x'"):
        refuse_shared_directories(points)
    refuse_shared_directories([points[0], points[0]])


def test_budgets_of_a_sweep_are_equal_or_refused() -> None:
    def point(budget: Any) -> PlannedPoint:
        return PlannedPoint("r", "a", 1, "final", {}, {}, [], {"budget": {"compute": budget}})

    some = {"unit": "flops", "amount": 1e12}
    assert shared_compute([point(some), point(dict(some))]) == some
    assert shared_compute([point(None)]) is None
    with pytest.raises(DanteError, match="different budgets"):
        shared_compute([point(some), point(None)])


def test_tuning_needs_validation_answers_and_their_evaluation(tmp_path: Path) -> None:
    [arm] = arms(SweepSettings(), listed("+experiment=sft"))
    refuse_without_validation([planned(arm, tmp_path)])
    without = Point(arm.arm, (*arm.overrides, "cache.source.validation=0"))
    with pytest.raises(DanteError, match="the cache keeps none"):
        refuse_without_validation([planned(without, tmp_path)])
    only = Point(arm.arm, (*arm.overrides, "only=[teacher,cache,init,fit]"))
    with pytest.raises(DanteError, match="leaves the evaluation out"):
        refuse_without_validation([planned(only, tmp_path)])


def test_a_sweep_does_not_overwrite(tmp_path: Path) -> None:
    [arm] = arms(SweepSettings(), listed("+experiment=sft"))
    refuse_overwriting([planned(arm, tmp_path)])
    again = Point(arm.arm, (*arm.overrides, "on_existing=overwrite"))
    with pytest.raises(DanteError, match="make the steps that all share again"):
        refuse_overwriting([planned(again, tmp_path)])


def test_another_grid_is_another_sweep(tmp_path: Path) -> None:
    found = listed("+experiment=sft", "seed=1,2")
    points = [planned(p, tmp_path) for arm in arms(SweepSettings(), found) for p in seeded(arm, found.seeds())]
    tuned = [SweepSettings(tune=Tune(grid={"fit.lr": rates}, seed=1)) for rates in ([1, 2], [1, 3])]
    folders = [sweep_folder(points, settings, found) for settings in (SweepSettings(), *tuned)]
    assert len(set(folders)) == 3
    assert sweep_folder(points, SweepSettings(), found) == folders[0]
    assert sweep_folder(points, SweepSettings(name="mine"), found).name == "mine-smoke"


def test_what_no_point_survives_is_told() -> None:
    lost = PlannedPoint("r", "a", 1, "final", {}, {}, [], None, "failed", "unknown key 'fit.lrr'")
    with pytest.raises(DanteError, match=r"no point of the sweep can be run.*unknown key 'fit.lrr'"):
        sweep_folder([lost], SweepSettings(), listed())


def test_a_choice_at_the_edge_of_a_grid_of_numbers_is_told() -> None:
    choices = Choices()
    choices.scores = {"a": {"1e-3": 1.0, "2e-3": 0.5, "4e-3": 0.9}, "b": {"1e-3": 0.1, "2e-3": 0.5}, "c": {}}
    choices.places = {place: {"fit.lr": place} for place in ("1e-3", "2e-3", "4e-3")}
    tune = Tune(grid={"fit.lr": [4e-3, 1e-3, 2e-3]}, seed=1)
    assert [choices.at_edge(arm, tune) for arm in "abc"] == [[], ["fit.lr"], []]
    words = Tune(grid={"fit.lr": ["x", "y"]}, seed=1)
    assert choices.at_edge("b", words) == []


def test_what_is_tuned_is_not_listed() -> None:
    tune = Tune(grid={"fit.lr": [1, 2]}, seed=1)
    with pytest.raises(DanteError, match="fit.lr is tuned by this sweep"):
        refuse_tuned_and_listed(tune, listed("fit.lr=1e-3"))
    refuse_tuned_and_listed(tune, listed("fit.clip=1"))


def test_a_grid_is_proposed_once_to_every_arm() -> None:
    grid = Grid(Tune(grid={"fit.lr": [1e-3, 2e-3], "fit.clip": [1]} | {"fit.clip": [1, 2]}, seed=1))
    first = grid.next("a")
    assert first == [
        {"fit.lr": "0.001", "fit.clip": "1"}, {"fit.lr": "0.001", "fit.clip": "2"},
        {"fit.lr": "0.002", "fit.clip": "1"}, {"fit.lr": "0.002", "fit.clip": "2"},
    ]  # fmt: skip
    assert grid.next("a") == []
    assert grid.next("b") == first


def test_a_search_finds_the_valley_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    tune = Tune(search={"fit.lr": "tag(log,interval(1e-5,1e-1))", "fit.clip": "choice(1,2)"}, trials=25, seed=0)

    def score(values: dict[str, str]) -> float:
        return abs(math.log10(float(values["fit.lr"])) + 3) + float(values["fit.clip"])

    first = Search(tune, tmp_path)
    tried: list[dict[str, str]] = []
    for _ in range(10):
        [values] = first.next("arm")
        first.tell("arm", values, score(values))
        tried.append(values)
    [lost] = first.next("arm")  # proposed, and then the process is killed
    again = Search(tune, tmp_path)
    assert again.next("arm") == [*tried, lost]  # the scored ones, whose runs are complete, and the lost one
    for values in tried:
        again.tell("arm", values, score(values))
    again.tell("arm", lost, None)  # it fails: that counts as a trial
    while places := again.next("arm"):
        again.tell("arm", places[0], score(places[0]))
        tried.append(places[0])
    assert len(tried) == 24
    best = min(tried, key=score)
    assert best["fit.clip"] == "1"
    assert 3e-4 < float(best["fit.lr"]) < 3e-3


def test_tuning_is_a_grid_or_a_search(tmp_path: Path) -> None:
    for tune in (Tune(seed=1), Tune(seed=1, grid={"a": [1, 2]}, search={"b": "interval(1,2)"})):
        with pytest.raises(DanteError, match="a grid or a search"):
            refuse_unclear(tune)
    with pytest.raises(DanteError, match="is no range to search"):
        refuse_unclear(Tune(seed=1, search={"a": "3"}))
    grid, search = Tune(seed=1, grid={"a": [1, 2]}), Tune(seed=1, search={"a": "interval(1,2)"})
    for tune in (grid, search):
        refuse_unclear(tune)
    assert isinstance(proposals(grid, tmp_path), Grid)
    assert isinstance(proposals(search, tmp_path), Search)


def test_the_baseline_is_an_arm() -> None:
    with pytest.raises(DanteError, match="did you mean 'sft'"):
        refuse_unknown_baseline("stf", ["sft", "dante"])
    refuse_unknown_baseline("sft", ["sft"])
    refuse_unknown_baseline(None, ["sft"])
