"""The comparison: who is compared with whom, what the numbers are, and that the page says all of it."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dante.errors import DanteError
from dante.report.__main__ import main
from dante.report.comparison import cost, recipe, verdict
from dante.report.comparison.command import compare, write_comparison
from dante.report.comparison.judge import Cell, Result
from dante.report.comparison.runs.arms import short_names
from dante.report.comparison.tuning import edges
from dante.report.figures.arms import Spot, band, front
from tests.comparison_runs import ANSWERS, point, row, write, write_arm, write_run, write_sweep
from tests.test_report import Page

HOSTILE = "<script>alert(1)</script>|x"
TEA = {"losses.tea": {"_target_": "dante.losses.tea.TEA", "reduction": "relative"}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """A control, a better arm, an equal one and a worse one."""
    root = tmp_path_factory.mktemp("runs")
    return {
        "control": write_arm(root, "control"),
        "good": write_arm(root, "good", shift=-0.2, experiment="dante", config=TEA),
        "same": write_arm(root, "same", shift=1e-5, experiment="dante", config={"fit.lr": 2e-3}),
        "bad": write_arm(root, "bad", shift=0.1, experiment="dante", config={"student.init._target_": "x.DrawAnew"}),
    }


@pytest.fixture(scope="module")
def page(runs: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(everything(runs), tmp_path_factory.mktemp("out") / "comparison")


def everything(runs: dict[str, list[Path]]) -> list[Path]:
    return [path for paths in runs.values() for path in paths]


def result_of(results: Sequence[Result], metric: str, task: str = "heldout") -> Result:
    return next(one for one in results if (one.task, one.metric) == (task, metric))


def cell_of(result: Result, arm: str) -> Cell:
    return next(cell for cell in result.cells if cell.arm == arm)


def lines_of(page: Path) -> list[dict[str, str]]:
    with (page.parent / "comparison.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# Arms and tables


def test_seeds_are_an_arm_and_the_control_is_the_baseline(runs: dict[str, list[Path]]) -> None:
    ((group, _),), _ = compare([*runs["good"], *runs["control"]])
    assert [arm.name for arm in group.arms] == ["control", "good"]
    assert [list(arm.runs) for arm in group.arms] == [[1, 2, 3], [1, 2, 3]]


def test_a_seed_that_follows_the_run_s_is_no_difference_and_one_of_its_own_is(tmp_path: Path) -> None:
    follows = [write_run(tmp_path, f"a-s{s}", s, config={"student.seed": s}) for s in (0, 1)]
    own = [write_run(tmp_path, f"b-s{s}", s, config={"student.seed": 7}) for s in (0, 1)]
    ((group, _),), _ = compare([*follows, *own])
    assert [[run.name for run in arm.runs.values()] for arm in group.arms] == [["a-s0", "a-s1"], ["b-s0", "b-s1"]]


def test_arms_of_one_name_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    first = write_arm(tmp_path / "x", "arm", (1,))
    second = write_arm(tmp_path / "y", "arm", (1,), config={"fit.lr": 5e-4})
    ((group, _),), _ = compare([*first, *second])
    assert [arm.name for arm in group.arms] == ["arm", "arm (fit.lr: 0.0005)"]


def test_what_differs_is_said_once_per_part(page: Path) -> None:
    arms = json.loads((page.parent / "comparison.json").read_text())["tables"][0]["arms"]
    differs = {name: arm["differs_from_baseline"] for name, arm in arms.items()}
    assert differs == {"control": [], "good": ["+ losses.tea"], "same": ["fit.lr: 0.002"],
                       "bad": ["student.init: DrawAnew"]}  # fmt: skip


@pytest.mark.parametrize(
    ("unlike", "differs"),
    [
        ({"teacher": "other"}, ("teacher",)),
        ({"shape": {"hidden_size": 128}}, ("student",)),
        ({"shape": {"vocab_size": 1024}}, ("student",)),
        ({"shards": "bb"}, ("train data",)),
        ({"texts": "u"}, ("scored texts",)),
    ],
)
def test_unlike_runs_stand_in_tables_of_their_own(tmp_path: Path, unlike: dict[str, Any], differs: tuple[str]) -> None:
    paths = write_arm(tmp_path, "control") + write_arm(tmp_path, "other", shift=-0.3, **unlike)
    tables, _ = compare(paths)
    assert [[arm.name for arm in group.arms] for group, _ in tables] == [["control"], ["other"]]
    assert tables[0][0].differs == differs
    assert all(cell.effect is None for _, results in tables for result in results for cell in result.cells)
    text = write_comparison(paths, tmp_path / "out").read_text()
    assert f"do not share their {differs[0]}" in text
    assert "Table 2" in text


def test_another_start_or_number_format_is_the_same_student(tmp_path: Path) -> None:
    changes = {"config": {"student.init._target_": "x.DrawAnew"}, "shape": {"dtype": "float32", "_name_or_path": "x"}}
    tables, _ = compare(write_arm(tmp_path, "control") + write_arm(tmp_path, "scratch", **changes))
    assert len(tables) == 1


# Numbers


def test_values_and_differences_are_those_of_the_evaluation(runs: dict[str, list[Path]]) -> None:
    ((_, results),), _ = compare(everything(runs))
    values = {
        name: [
            next(r["value"] for r in json.loads((path / "eval/eval.json").read_text())["rows"]
                 if (r["model"], r["task"], r["metric"]) == ("student", "heldout", "bits_per_byte"))
            for path in paths
        ]
        for name, paths in runs.items()
    }  # fmt: skip
    result = result_of(results, "bits_per_byte")
    assert result is results[0]
    assert result.primary
    for name, of_seeds in values.items():
        cell = cell_of(result, name)
        assert list(cell.values.values()) == pytest.approx(of_seeds)
        assert (cell.mean, cell.sd) == pytest.approx((np.mean(of_seeds), np.std(of_seeds, ddof=1)))
        if name != "control":
            assert cell.effect is not None
            assert cell.effect.difference == pytest.approx(np.mean(of_seeds) - np.mean(values["control"]))
            assert cell.effect.items == ANSWERS
    assert [cell.verdict for cell in result.others] == ["better", "undecided", "worse"]
    assert result.references == pytest.approx({"teacher": 0.62, "init": 1.95, "trigram": 1.83})


def test_a_metric_without_items_is_a_paired_t_test_over_seeds(runs: dict[str, list[Path]]) -> None:
    ((_, results),), _ = compare(everything(runs))
    for metric, task in (("ece", "heldout"), ("pass@1", "humaneval")):
        result = result_of(results, metric, task)
        base, good = result.baseline, cell_of(result, "good")
        theirs = stats.ttest_rel(list(good.values.values()), list(base.values.values()))
        assert good.effect is not None
        assert good.effect.p == pytest.approx(theirs.pvalue)
        assert (good.effect.covers, good.bootstrap) == ("seeds", None)


def test_p_values_are_corrected_over_the_arms_and_over_all_other_metrics(page: Path) -> None:
    lines = [line for line in lines_of(page) if line["p"]]
    primary = [line for line in lines if line["correction"] == "holm"]
    assert [line["arm"] for line in primary] == ["good", "same", "bad"]
    p = sorted(float(line["p"]) for line in primary)
    wanted = np.minimum(1, np.maximum.accumulate([3 * p[0], 2 * p[1], p[2]]))
    assert sorted(float(line["p_corrected"]) for line in primary) == pytest.approx(list(wanted))
    others = [line for line in lines if line["correction"] == "benjamini-hochberg"]
    assert len(others) == 3 * 5
    ranked = sorted(others, key=lambda line: float(line["p"]))
    raw = np.array([float(line["p"]) for line in ranked]) * len(ranked) / np.arange(1, len(ranked) + 1)
    assert [float(line["p_corrected"]) for line in ranked] == pytest.approx(np.minimum.accumulate(raw[::-1])[::-1])
    for line in lines:
        assert (line["significant"] == "True") == (float(line["p_corrected"]) < 0.05)
        assert float(line["low"]) <= float(line["difference"]) <= float(line["high"])
        assert float(line["mde"]) > 0


def test_the_direction_of_better_is_the_metric_s(runs: dict[str, list[Path]]) -> None:
    ((_, results),), _ = compare(everything(runs))
    accuracy, unknown = result_of(results, "top1_accuracy"), result_of(results, "pass@1", "humaneval")
    good = cell_of(accuracy, "good")
    assert good.effect is not None
    assert (good.effect.difference > 0, good.verdict) == (True, "better")
    assert cell_of(unknown, "good").verdict == "different"  # nobody said which way is better


def test_entropy_is_compared_within_answers_and_is_never_better_or_worse(tmp_path: Path) -> None:
    runs = [*write_arm(tmp_path, "control"), *write_arm(tmp_path, "surer", experiment="dante", config=TEA)]
    levels = {"control": (1.0, 1.01, 1.02), "surer": (0.5, 0.52, 0.51)}
    for path, nats in zip(runs, [n for arm in levels.values() for n in arm], strict=True):
        folder = path / "eval"
        items = [json.loads(line) for line in (folder / "heldout/items.jsonl").read_text().splitlines()]
        for item in items:
            tokens = item["models"]["student"]["top1_accuracy"][1]
            item["models"]["student"]["entropy_nats"] = [nats * tokens, tokens]
        result = json.loads((folder / "eval.json").read_text())
        result["rows"].append(row("student", "heldout", "entropy_nats", nats, ANSWERS))
        write(folder / "heldout/items.jsonl", items)
        write(folder / "eval.json", result)
    ((_, results),), _ = compare(runs)
    (cell,) = result_of(results, "entropy_nats").others
    assert cell.items == ANSWERS
    assert cell.effect is not None
    assert cell.effect.difference == pytest.approx(-0.5)
    assert (cell.significant, cell.verdict) == (True, "different")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decoding": "greedy"}, "decoding greedy, not teacher-forced"),
        ({"n_shot": 5}, "n shot 5, not 0"),
        ({"harness_version": "2"}, "harness version 2, not 1"),
    ],
)
def test_numbers_made_otherwise_are_not_compared(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    paths = write_arm(tmp_path, "control") + write_arm(tmp_path, "other", rows=changes, config={"fit.lr": 1})
    page = write_comparison(paths, tmp_path / "out")
    other = [line for line in lines_of(page) if line["arm"] == "other"]
    assert all(line["note"] == f"not comparable: {said}" and not line["difference"] for line in other)
    assert said in page.read_text()


def test_an_arm_that_lacks_a_seed_is_compared_on_the_common_ones(tmp_path: Path) -> None:
    paths = write_arm(tmp_path, "control") + write_arm(tmp_path, "other", (2, 3, 4), shift=-0.1, config=TEA)
    ((_, results),), _ = compare(paths)
    cell = results[0].others[0]
    assert cell.effect is not None
    assert cell.effect.seeds_a == (2, 3)
    assert list(cell.values) == [2, 3, 4]
    assert "without 1, 4" in write_comparison(paths, tmp_path / "out").read_text()


def test_one_seed_is_compared_over_items_and_never_marked(tmp_path: Path) -> None:
    """However far apart: it says that two students differ, not that two recipes do."""
    paths = write_arm(tmp_path, "control", (1,)) + write_arm(tmp_path, "other", (1,), shift=-0.3, config=TEA)
    page = write_comparison(paths, tmp_path / "out")
    lines = [line for line in lines_of(page) if line["arm"] == "other" and line["task"] == "heldout"]
    items = [line for line in lines if line["covers"] == "items"]
    assert [line["metric"] for line in items] == ["bits_per_byte", "top1_accuracy"]
    assert float(items[0]["high"]) < 0
    assert all(
        (line["verdict"], line["significant"], line["p_corrected"]) == ("one seed", "False", "") for line in items
    )
    text = page.read_text()
    assert "other is undecided against control with one seed" in text
    assert "the interval does not cover another seed" in text
    assert "nothing here says how another training seed would turn out" in text


def test_a_run_given_twice_counts_once(runs: dict[str, list[Path]]) -> None:
    ((group, _),), _ = compare([*runs["control"], *runs["good"], *runs["control"]])
    assert [len(arm.runs) for arm in group.arms] == [3, 3]


# Cost


def test_equal_compute_is_said_and_unequal_compute_is_an_alarm(tmp_path: Path) -> None:
    control = write_arm(tmp_path, "control")
    equal = write_comparison(
        control + write_arm(tmp_path, "equal", flops=1.01e12, config=TEA), tmp_path / "e"
    ).read_text()
    assert re.search(r'class="calm">Equal compute: [^<]*within 1\.0%', equal)
    more = write_comparison(control + write_arm(tmp_path, "more", flops=2e12, config=TEA), tmp_path / "m").read_text()
    assert re.search(r'class="alarm">Unequal compute: [^<]*100% apart', more)


def test_cost_counts_the_teacher_s_part(tmp_path: Path) -> None:
    parts = {"training": 10.0, "generation": 7.0, "scoring": 3.0, "total": 20.0}
    block = {"unit": "tokens", "amount": 20, "estimated": ["generation"]}
    block |= {part: {"tokens": value, "flops": 1e9 * value} for part, value in parts.items()}
    ((group, _),), _ = compare(write_arm(tmp_path, "control", compute=block))
    one = cost.of_arm(group.baseline)
    assert (one.tokens, one.flops["total"], one.estimated) == (parts, 20e9, ("generation",))


@pytest.mark.parametrize(("amount", "kept"), [(20, True), (25, False)])
def test_a_sweep_s_budget_is_checked_for_every_point(tmp_path: Path, amount: int, kept: bool) -> None:
    block = {part: {"tokens": 20.0, "flops": 1.0} for part in cost.PARTS} | {"estimated": []}
    control = write_arm(tmp_path, "control", compute=block)
    points = [point(run, "control", seed) for seed, run in enumerate(control, start=1)]
    sweep = write_sweep(tmp_path, "sweep", points, compute={"unit": "tokens", "amount": amount})
    text = write_comparison([sweep], tmp_path / "out").read_text()
    assert ("kept by all 3 runs" in text) == kept
    assert ("not kept within 2% by control-s1 -20.0%" in text) == (not kept)


# Sweeps


def test_a_sweep_names_its_arms_baseline_and_what_is_missing(tmp_path: Path) -> None:
    control, tea = write_arm(tmp_path, "run-a"), write_arm(tmp_path, "run-b", shift=-0.1, config=TEA)
    points = [point(run, "plain", seed) for seed, run in enumerate(control, start=1)]
    points += [point(run, "anchored", seed) for seed, run in enumerate(tea, start=1)]
    points += [
        point(tmp_path / "gone", "anchored", 4),
        point(tmp_path / "bad", HOSTILE, 1, status="failed", error=f"Traceback\nDanteError: {HOSTILE}"),
        point(tmp_path / "later", "anchored", 5, status="pending"),
        point(control[0], "plain", 1, phase="tune", overrides=["fit.lr=1"]),
    ]
    sweep = write_sweep(tmp_path, "sweep", points, baseline="anchored")
    tables, found = compare([sweep])
    ((group, _),) = tables
    assert [arm.name for arm in group.arms] == ["anchored", "plain"]
    assert [(one.run, one.why) for one in found.absent] == [
        ("gone", "is done, but its directory is gone"),
        ("bad", f"failed: DanteError: {HOSTILE}"),
        ("later", "has not been run"),
    ]
    page = write_comparison([sweep], tmp_path / "out")
    assert "3 points of the sweep failed or are missing" in page.read_text()
    assert "<script" not in page.read_text()
    assert HOSTILE.replace("|", "\\|").replace("<", "&lt;") in (page.parent / "comparison.md").read_text()
    assert recipe.command(group.baseline.first) == "python train.py +experiment=sft seed=1 run.name=run-b-s1"


def test_a_choice_at_the_edge_of_the_grid_is_a_warning(tmp_path: Path) -> None:
    arms = {name: write_arm(tmp_path, name, config={"fit.lr": lr}) for name, lr in (("a", 1e-3), ("b", 2e-3))}
    points = [point(run, name, seed) for name, paths in arms.items() for seed, run in enumerate(paths, start=1)]
    tuning = {
        "grid": {"fit.lr": ["5e-4", "1e-3", "2e-3"]}, "seed": 1, "metric": "validation bits per byte",
        "scores": {arm: {"5e-4": 1.2, "1e-3": 1.0, "2e-3": 0.9} for arm in arms},
        "chosen": {"a": {"fit.lr": "1e-3"}, "b": {"fit.lr": "0.002"}},
    }  # fmt: skip
    assert edges(tuning, "fit.lr") == {"b": "0.002"}
    assert edges(tuning | {"search": {"fit.lr": "interval(1,2)"}}, "fit.lr") == {}
    assert edges(tuning | {"grid": {"fit.lr": ["x", "y"]}}, "fit.lr") == {}
    page = write_comparison([write_sweep(tmp_path, "sweep", points, tuning=tuning)], tmp_path / "out")
    assert "At the edge of the grid: b (0.002)" in page.read_text()
    assert (page.parent / "tuning-fit-lr.png").is_file()


# The page and its files


def test_page_is_whole_needs_no_network_and_runs_no_script(page: Path) -> None:
    text = page.read_text()
    parsed = Page(text)
    assert "script" not in parsed.tags
    assert not parsed.handlers
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in parsed.addresses)
    targets = set(re.findall(r'id="([\w-]+)"', text))
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= targets
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert {path.name for path in page.parent.iterdir()} == {
        "index.html", "comparison.md", "comparison.csv", "comparison.json", "differences.png", "learning.png",
        "pareto.png",
    }  # fmt: skip


def test_page_and_markdown_say_the_verdict_the_design_and_the_method(page: Path) -> None:
    for text in (page.read_text().replace("<wbr>", ""), (page.parent / "comparison.md").read_text()):
        for expected in (
            "On held-out bits per byte, good is better than control, bad is worse and same is undecided.",
            "±", "With three seeds per arm and 40 answers", "corrected for 3 comparisons (Holm)",
            "Benjamini and Hochberg", "crossed random effects", "initialisation", "fit.lr: 0.002", "humaneval",
            "python train.py +experiment=dante scale=pocket seed=2", "--config-name=config", "Equal compute",
        ):  # fmt: skip
            assert expected in text, expected
        assert re.search(
            r"better by 0\.\d+ bits per byte \(95% interval −0\.\d+ to −0\.\d+, p (=|<|&lt;) 0\.\d+\)", text
        )


def test_csv_and_json_hold_every_seed(page: Path, runs: dict[str, list[Path]]) -> None:
    lines = lines_of(page)
    assert len(lines) == 4 * 6
    first = next(line for line in lines if line["arm"] == "good")
    seeds = dict(pair.split("=") for pair in first["seed_values"].split(";"))
    table = json.loads((page.parent / "comparison.json").read_text())["tables"][0]
    same = next(arm for arm in table["results"][0]["arms"] if arm["arm"] == "good")
    assert {seed: float(value) for seed, value in seeds.items()} == same["seed_values"]
    assert float(first["bootstrap_low"]) < float(first["difference"]) < float(first["bootstrap_high"])
    assert table["arms"]["good"]["runs"]["1"]["run"] == "good-s1"
    assert table["arms"]["good"]["cost"]["memory_gib"] == 1.5


def test_writing_again_gives_the_same_bytes(runs: dict[str, list[Path]], page: Path, tmp_path: Path) -> None:
    again = write_comparison(everything(runs), tmp_path)
    for path in page.parent.iterdir():
        assert path.read_bytes() == (again.parent / path.name).read_bytes(), path.name


def test_many_arms_and_runs_without_a_fit_are_drawn(tmp_path: Path) -> None:
    paths = [p for k in range(7) for p in write_arm(tmp_path, f"arm{k}", shift=0.05 * k, config={"fit.lr": k + 1.0})]
    page = write_comparison(paths, tmp_path / "many", baseline="arm3")
    assert {"learning.png", "differences.png", "pareto.png"} <= {path.name for path in page.parent.iterdir()}
    bare = write_comparison(write_arm(tmp_path, "bare", fit=False), tmp_path / "bare")
    assert not (bare.parent / "learning.png").exists()
    assert "stands alone" in bare.read_text()


def test_the_front_holds_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    spots = [Spot(str(k), float(c), float(v), 0.0, False) for k, (c, v) in enumerate(rng.integers(1, 9, size=(30, 2)))]
    leading = front(spots)
    for spot in spots:
        beaten = [o for o in spots if o.cost <= spot.cost and o.value <= spot.value
                  and (o.cost, o.value) != (spot.cost, spot.value)]  # fmt: skip
        assert ((spot.cost, spot.value) in {(one.cost, one.value) for one in leading}) == (not beaten)


def test_a_band_spans_what_all_seeds_have() -> None:
    long, short = np.arange(1.0, 11.0), np.arange(3.0, 8.0)
    at, low, mean, high = band([(long, long), (short, short + 2.0)])
    assert (at[0], at[-1]) == (3, 7)
    assert (low, high) == (pytest.approx(at), pytest.approx(at + 2))
    assert mean == pytest.approx(at + 1)


def test_short_names_keep_what_differs() -> None:
    assert short_names(["final-a-b-lr1", "final-c-b-lr1"]) == {"final-a-b-lr1": "a", "final-c-b-lr1": "c"}
    assert list(short_names(["sft", "dante-x"]).values()) == ["sft", "dante-x"]
    assert list(short_names(["a-b", "a-b-c"]).values()) == ["b", "b-c"]
    assert list(short_names(["only-one"]).values()) == ["only-one"]


# Errors


def test_each_mistake_gets_one_clear_error(runs: dict[str, list[Path]], tmp_path: Path) -> None:
    control, out = runs["control"], tmp_path / "out"
    cases = [
        ([], None, "no finished run"),
        ([tmp_path / "nothing"], None, "does not exist"),
        ([control[0].parent], None, "for example"),
        (control, "contrl", "did you mean 'control'"),
    ]
    bare = write_run(tmp_path, "unevaluated-s1", 1)
    (bare / "eval/eval.json").unlink()
    cases.append(([bare], None, "has not been evaluated"))
    for name, file, content in (
        ("yaml", "config.yaml", "a: [1"), ("empty", "config.yaml", ""), ("json", "eval/eval.json", "{"),
        ("rows", "eval/eval.json", '{"rows": [{"model": "student"}]}'), ("none", "eval/eval.json", '{"rows": []}'),
        ("items", "eval/heldout/items.jsonl", "{\n"), ("summary", "fit/summary.json", "{"),
    ):  # fmt: skip
        damaged = write_run(tmp_path, f"{name}-s1", 1)
        write(damaged / file, content)
        cases.append(([damaged], None, name if name == "yaml" else ""))
    altered = write_run(tmp_path, "altered-s1", 1)
    lines = [json.loads(line) for line in (altered / "eval/heldout/items.jsonl").read_text().splitlines()]
    lines[0]["models"]["student"]["bits_per_byte"][0] += 50
    write(altered / "eval/heldout/items.jsonl", lines)
    cases.append(([altered], None, "the items of heldout bits_per_byte give"))
    write(tmp_path / "sweep/sweep.json", {"points": [{"run": "x"}]})
    cases.append(([tmp_path / "sweep"], None, "sweep's file is damaged"))
    for paths, baseline, said in cases:
        with pytest.raises(DanteError, match=re.escape(said) if said != "yaml" else "configuration is damaged"):
            write_comparison(paths, out, baseline)
    assert not out.exists()


def test_command_line(runs: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(path) for path in everything(runs)]
    assert main(["compare", *paths, "--baseline", "good", "--out", str(tmp_path / "x" / "y")]) == 0
    assert "against good" in capsys.readouterr().out
    assert (tmp_path / "x" / "y" / "index.html").is_file()
    assert main(["compare", *paths, "--baseline", "gud"]) == 2
    (tmp_path / "file").write_text("")
    assert main(["compare", *paths, "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("error ") == 2


def test_the_sentences_of_a_table_without_a_primary_metric() -> None:
    assert "no verdict" in verdict.headline([])
