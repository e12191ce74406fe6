"""What experiments' own scripts judge: pairs of arms on the items of one model, evaluated runs or not."""

from pathlib import Path

import pytest

from dante.experiments.findings import Measure, runs_by_arm, scored, write_contrasts
from dante.system.jsonl import read_lines
from tests.comparison_runs import point, write, write_arm, write_sweep

BITS = Measure("heldout", "bits_per_byte", "bits per byte", True)
MATCHED = Measure("heldout", "bits_per_byte", "bits per byte, matched", True, model="matched")
SEEDS = (1, 2, 3)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three arms: `better` is 0.2 bits per byte below `usual`, `early` ends before an evaluation of its own."""
    points = []
    for arm, shift in (("usual", 0.0), ("better", -0.2), ("early", 0.3)):
        for seed, run in zip(SEEDS, write_arm(tmp_path / "runs", arm, seeds=SEEDS, shift=shift), strict=True):
            items = read_lines(run / "eval" / "heldout" / "items.jsonl")
            step = [{"id": item["id"], "values": item["models"]["student"]} for item in reversed(items)]
            write(run / "eval-matched" / "heldout" / "items.jsonl", step)
            if arm == "early":
                (run / "eval" / "eval.json").unlink()
                (run / "eval" / "heldout" / "items.jsonl").unlink()
            points.append(point(run, arm, seed))
    return write_sweep(tmp_path / "runs", "mine", points)


def test_runs_without_an_evaluation_belong_to_their_arm(sweep: Path) -> None:
    assert {arm: len(runs) for arm, runs in runs_by_arm([str(sweep)]).items()} == {"usual": 3, "better": 3, "early": 3}


def test_a_difference_that_is_there_is_found_and_its_sign_is_the_first_arms(sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    pairs = (("better", "usual"), ("early", "usual"))
    write_contrasts(folder, [str(sweep)], pairs, (BITS, MATCHED))
    table, contrasts = (folder / "contrasts.md").read_text(encoding="utf-8").split("\n\n")
    assert table.splitlines()[0] == "| | usual | better | early |"
    assert [bool(cell.strip()) for cell in table.splitlines()[2].split("|")[2:5]] == [True, True, False]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in contrasts.splitlines()[2:]]
    assert [row[0] for row in rows] == ["better − usual", "better − usual", "early − usual"]
    assert [row[-1] for row in rows] == ["better", "better", "worse"]
    for row, planted in zip(rows, (-0.2, -0.2, 0.3), strict=True):
        low, high = map(float, row[3].split(" to "))
        assert low < planted < high
    assert {path.name for path in folder.glob("*.png")} == {"bits_per_byte.png", "matched_bits_per_byte.png"}


def test_items_are_read_in_one_order_whatever_wrote_them(sweep: Path) -> None:
    run = runs_by_arm([str(sweep)])["usual"][0]
    joined, alone = scored(run, BITS), scored(run, MATCHED)
    assert joined is not None
    assert alone is not None
    assert joined.numerator.tolist() == alone.numerator.tolist()
    assert scored(run, Measure("heldout", "bits_per_byte", "", True, model="init")) is None
