"""What a factor of a sweep changes: over all pairs of arms that differ in it alone, against a reference by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dante.report.comparison.command import compare, write_comparison
from dante.report.comparison.factors import FactorEffect, effects
from tests.comparison_runs import point, ratio, write_arm, write_sweep

ORDER = {"shuffled": 0.0, "sorted": 0.004}
ANCHOR = {"off": 0.0, "calibrated": -0.1, "card": -0.09}


def arm_name(order: str, anchor: str) -> str:
    return f"{order}-{anchor}"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five of six arms: shuffled-card was not run."""
    root = tmp_path_factory.mktemp("runs")
    points = []
    for order, of_order in ORDER.items():
        for anchor, of_anchor in ANCHOR.items():
            if (order, anchor) == ("shuffled", "card"):
                continue
            arm = arm_name(order, anchor)
            changed = {"fit.order": order, "fit.anchor": anchor}
            runs = write_arm(root, arm, shift=of_order + of_anchor, config=changed)
            points += [
                point(run, arm, seed, levels={"order": order, "anchor": anchor})
                for seed, run in enumerate(runs, start=1)
            ]
    return write_sweep(root, "factorial", points, baseline="shuffled-off")


def found(sweep: Path) -> dict[tuple[str, str], FactorEffect]:
    [(group, results)], _ = compare([sweep])
    return {(one.level, one.against): one for one in effects(group, results)}


def value(sweep: Path, arm: str, seed: int) -> float:
    lines = (sweep.parent / f"{arm}-s{seed}" / "eval" / "heldout" / "items.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    return ratio(items, "student", "bits_per_byte")


def test_an_effect_is_the_mean_over_all_pairs_of_arms_that_differ_in_it_alone(sweep: Path) -> None:
    mine = found(sweep)
    pairs = {
        ("sorted", "shuffled"): [("sorted-off", "shuffled-off"), ("sorted-calibrated", "shuffled-calibrated")],
        ("calibrated", "off"): [("shuffled-calibrated", "shuffled-off"), ("sorted-calibrated", "sorted-off")],
        ("card", "off"): [("sorted-card", "sorted-off")],
        ("card", "calibrated"): [("sorted-card", "sorted-calibrated")],
    }
    assert {key: one.pairs for key, one in mine.items()} == {key: len(listed) for key, listed in pairs.items()}
    for key, listed in pairs.items():
        per_seed = [np.mean([value(sweep, a, s) - value(sweep, b, s) for a, b in listed]) for s in (1, 2, 3)]
        assert mine[key].effect.difference == pytest.approx(np.mean(per_seed), abs=1e-9), key
        # Never more sure than the seeds alone are.
        over_seeds = stats.ttest_1samp(per_seed, 0.0)
        assert mine[key].effect.p is not None
        assert mine[key].effect.p >= over_seeds.pvalue - 1e-12


def test_effects_are_corrected_together_and_have_a_verdict(sweep: Path) -> None:
    mine = found(sweep)
    raw = sorted(one.effect.p for one in mine.values())  # type: ignore[type-var]
    smallest = min(mine.values(), key=lambda one: one.effect.p)  # type: ignore[arg-type,return-value]
    assert smallest.p_corrected == pytest.approx(min(1, len(mine) * raw[0]))  # type: ignore[operator]
    assert mine["calibrated", "off"].verdict == "better"
    assert mine["calibrated", "off"].effect.difference == pytest.approx(-0.1, abs=0.01)
    assert mine["sorted", "shuffled"].verdict == "undecided"
    assert mine["sorted", "shuffled"].detectable is not None


def test_the_page_and_the_files_tell_the_factors(sweep: Path, tmp_path: Path) -> None:
    page = write_comparison([sweep], tmp_path / "out")
    text = page.read_text()
    assert "What each factor changes" in text
    assert "anchor: calibrated − off" in text
    assert (page.parent / "factors.png").stat().st_size > 5000
    assert "| anchor: calibrated − off | 2 |" in (page.parent / "comparison.md").read_text()
    known = json.loads((page.parent / "comparison.json").read_text())["tables"][0]["factors"]
    [calibrated] = [one for one in known if (one["level"], one["against"]) == ("calibrated", "off")]
    assert calibrated["verdict"] == "better"
    assert calibrated["n_seeds"] == 3
    with (page.parent / "comparison.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["arm"] == "anchor: calibrated"]
    assert [line["baseline"] for line in lines] == ["off"]
    assert float(lines[0]["difference"]) == pytest.approx(calibrated["difference"])


@pytest.mark.parametrize("levels", [None, {"arm": "one"}])
def test_arms_that_are_no_product_of_factors_have_no_effects(tmp_path: Path, levels: Any) -> None:
    points = []
    for number, arm in enumerate(("a", "b")):
        runs = write_arm(tmp_path, arm, shift=0.1 * number, config={"fit.lr": 1e-3 * (1 + number)})
        known = levels and {"arm": arm}
        points += [point(run, arm, seed, levels=known) for seed, run in enumerate(runs, start=1)]
    assert found(write_sweep(tmp_path, "s", points)) == {}


def test_a_seed_that_one_arm_lacks_is_left_out_of_all(sweep: Path) -> None:
    content = json.loads((sweep / "sweep.json").read_text())
    content["points"] = [p for p in content["points"] if (p["arm"], p["seed"]) != ("sorted-off", 3)]
    fewer = sweep.parent / "fewer"
    fewer.mkdir(exist_ok=True)
    (fewer / "sweep.json").write_text(json.dumps(content))
    assert found(fewer)["calibrated", "off"].effect.seeds_a == (1, 2)
