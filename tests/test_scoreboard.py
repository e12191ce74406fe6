"""The scoreboard: numbers against closed forms, nothing ranked that cannot be compared, wins only where significant."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from dante.errors import DanteError
from dante.evaluate.__main__ import main
from dante.evaluate.scoreboard.board import Board, board_of
from dante.evaluate.scoreboard.compute import hours
from dante.evaluate.scoreboard.compute.capability import Capability, Point
from dante.evaluate.scoreboard.compute.figure import draw
from dante.evaluate.scoreboard.page import content, html, markdown
from dante.evaluate.scoreboard.pairs import Comparison
from dante.evaluate.scoreboard.protocol import STATED, fits
from dante.evaluate.scoreboard.references import references
from dante.evaluate.scoreboard.table import Cell
from dante.look.theme import LIGHT
from dante.statistics.exact import mcnemar
from tests.benchmark_runs import evaluation, right, run, summary

HELLASWAG, ARC, MMLU, PRO = "hellaswag_10shot", "arc_challenge_25shot", "mmlu_5shot", "mmlu_pro_5shot"
PRO_V1, GSM8K, HUMANEVAL = "mmlu_pro_5shot_v1", "gsm8k_cot_8shot", "humaneval"


def board(*paths: Path, figure: str | None = None) -> Board:
    return board_of(list(paths), figure)


def cells(shown: Board, task: str) -> dict[str, Cell]:
    place = [column.task for column in shown.columns].index(task)
    return {row.name: row.cells[place] for row in shown.rows}


def ranked(shown: Board, task: str) -> dict[str, str]:
    return {name: cell.rank.text() for name, cell in cells(shown, task).items() if cell.rank}


def test_a_cell_is_the_share_with_its_standard_error(tmp_path: Path) -> None:
    shown = board(run(tmp_path / "a", {"student": {HELLASWAG: right(0.43, 200, 0)}}))
    error = 100 * math.sqrt(0.43 * 0.57 / 199)  # sample standard deviation of 0s and 1s over √n
    assert cells(shown, HELLASWAG)["student of a"].value == f"43.0 ± {error:.1f}"


def test_best_and_places_within_one_protocol(tmp_path: Path) -> None:
    a = run(tmp_path / "a", {"student": {HUMANEVAL: right(0.5, 50, 0)}, "init": {HUMANEVAL: right(0.4, 50, 1)}})
    b = run(tmp_path / "b", {"student": {HUMANEVAL: right(0.4, 50, 2)}})
    shown = board(a, b)
    assert ranked(shown, HUMANEVAL) == {"student of a": "1/3", "student of b": "2/3", "init of a": "2/3"}
    assert [name for name, cell in cells(shown, HUMANEVAL).items() if cell.best] == ["student of a"]


def test_the_card_is_ranked_where_it_states_our_protocol_only(tmp_path: Path) -> None:
    answers = {task: right(0.3, 50, 0) for task in (HELLASWAG, ARC, MMLU, PRO, PRO_V1, GSM8K, HUMANEVAL)}
    shown = board(run(tmp_path / "a", {"student": answers}))
    ours, card = "student of a", "DANTE-Mosaic-3.5B"
    for task in (HELLASWAG, ARC, MMLU, PRO_V1):
        assert ranked(shown, task) == {card: "1/2", ours: "2/2"}
    for task in (PRO, GSM8K, HUMANEVAL):  # another task version; two readings; another harness
        assert ranked(shown, task) == {}
        assert cells(shown, task)[card].value != "–"


@pytest.mark.parametrize(
    "change",
    [{"chat": True}, {"n_shot": 5}, {"task_version": "2.0"}, {"harness": "other"}, {"harness_version": "0.4.14"},
     {"limit": 50}],
)  # fmt: skip
def test_any_other_protocol_is_not_ranked_with_the_card(tmp_path: Path, change: dict[str, Any]) -> None:
    answers = {"student": {HELLASWAG: right(0.9, 50, 0)}}
    assert ranked(board(run(tmp_path / "a", answers, {HELLASWAG: change})), HELLASWAG) == {}


@pytest.mark.parametrize("name", STATED)
def test_what_a_card_leaves_open_is_not_assumed(tmp_path: Path, name: str) -> None:
    model = board(run(tmp_path / "a", {"student": {HELLASWAG: right(0.9, 50, 0)}})).models[0]
    published = references()[0].of(HELLASWAG)
    assert published is not None
    assert fits(published.stated, model.scores[HELLASWAG].protocol)
    partly = {key: value for key, value in published.stated.items() if key != name}
    assert not fits(partly, model.scores[HELLASWAG].protocol)


def test_versions_that_left_a_task_alone_are_one(tmp_path: Path) -> None:
    answers = {"student": {HELLASWAG: right(0.9, 50, 0)}}
    shown = board(run(tmp_path / "a", answers, {HELLASWAG: {"harness_version": "0.4.7"}}))
    assert ranked(shown, HELLASWAG) == {"student of a": "1/2", "DANTE-Mosaic-3.5B": "2/2"}
    assert shown.columns[0].lines[0].startswith("lm-eval 0.4.7, task version 1, 10-shot, validation split")


def test_a_cloze_value_above_ours_is_not_best(tmp_path: Path) -> None:
    shown = board(run(tmp_path / "a", {"student": {MMLU: right(0.2, 50, 0)}, "init": {MMLU: right(0.1, 50, 0)}}))
    cloze = cells(shown, MMLU)["Qwen3-4B-Base"]
    assert (cloze.value, cloze.rank) == ("47.7", None)
    assert cloze.signs.startswith("cf")
    assert ranked(shown, MMLU) == {"DANTE-Mosaic-3.5B": "1/3", "student of a": "2/3", "init of a": "3/3"}


def test_a_subset_is_marked_and_never_ranked_against_the_full_set(tmp_path: Path) -> None:
    full = run(tmp_path / "full", {"student": {HUMANEVAL: right(0.5, 164, 0)}, "init": {HUMANEVAL: right(0.4, 164, 0)}})
    few = {"student": {HUMANEVAL: right(0.9, 20, 0)}, "teacher": {HUMANEVAL: right(0.8, 20, 0)}}
    subset = run(tmp_path / "subset", few, {HUMANEVAL: {"limit": 20}})
    shown = board(full, subset)
    assert ranked(shown, HUMANEVAL) == {
        "student of full": "A 1/2", "init of full": "A 2/2", "student of subset": "B 1/2", "teacher of subset": "B 2/2",
    }  # fmt: skip
    assert cells(shown, HUMANEVAL)["student of subset"].text() == "90.0 ± 6.9 (20) B 1/2"
    assert shown.columns[0].subset == ""
    assert board(subset).columns[0].subset == "20 items only"


def test_two_subsets_of_other_items_are_not_ranked_together(tmp_path: Path) -> None:
    paths = [
        run(tmp_path / name, {"student": {HUMANEVAL: right(0.5, 20, 0)}}, {HUMANEVAL: {"limit": 20, "start": start}})
        for name, start in (("a", 0), ("b", 10))
    ]
    assert ranked(board(*paths), HUMANEVAL) == {}


def test_a_teacher_of_several_runs_stands_once_and_students_do_not_merge(tmp_path: Path) -> None:
    answers = {"student": {MMLU: right(0.5, 40, 0)}, "teacher": {MMLU: right(0.7, 40, 1)}}
    paths = [run(tmp_path / name, answers) for name in "abc"]
    other = run(tmp_path / "d", {"student": answers["student"], "teacher": {MMLU: right(0.7, 40, 2)}})  # other items
    names = [model.label for model in board(*paths, other).models]
    assert names == [*(f"student of {name}" for name in "abcd"), "teacher of a and 2 others", "teacher of d"]


def test_a_run_named_twice_and_runs_called_alike(tmp_path: Path) -> None:
    answers = {"student": {MMLU: right(0.5, 40, 0)}}
    one, two = run(tmp_path / "x" / "r", answers), run(tmp_path / "y" / "r", answers)
    assert [model.label for model in board(one, one / "eval" / ".." / ".", two).models] == [
        "student of x/r", "student of y/r",
    ]  # fmt: skip
    assert [model.label for model in board(one / "eval").models] == ["student of r"]


def comparison(shown: Board, task: str) -> Comparison:
    return next(one for one in shown.comparisons if one.task == task)


def test_the_paired_difference_has_its_closed_forms(tmp_path: Path) -> None:
    a, b = right(0.6, 300, 0), right(0.4, 300, 1)
    one = comparison(board(run(tmp_path / "r", {"student": {MMLU: a}, "init": {MMLU: b}})), MMLU)
    d = np.array(a) - np.array(b)
    assert one.paired.difference == pytest.approx(d.mean())
    assert one.paired.stderr == pytest.approx(d.std() / math.sqrt(300), rel=0.06)
    assert one.paired.low == pytest.approx(d.mean() - 1.96 * d.std() / math.sqrt(300), abs=0.01)
    wins, losses = int((d > 0).sum()), int((d < 0).sum())
    tail = sum(math.comb(wins + losses, k) for k in range(min(wins, losses) + 1)) / 2 ** (wins + losses)
    assert one.p == pytest.approx(2 * tail)
    assert one.verdict == "win"


def test_mcnemar_needs_six_items_that_differ_for_five_per_cent() -> None:
    a, b = np.zeros(200), np.zeros(200)
    a[:5] = 1.0
    assert mcnemar(a, b) == pytest.approx(2 * 0.5**5)
    assert mcnemar(b, b) == 1.0
    a[5] = 1.0
    assert mcnemar(a, b) == pytest.approx(2 * 0.5**6)


def differing(wins: int) -> tuple[list[int], list[int]]:
    """Answers of two models that differ in so many of 100 items, all one way."""
    base = right(0.5, 100, 0)
    wrong = [place for place, answer in enumerate(base) if answer == 0][:wins]
    return [1 if place in wrong else answer for place, answer in enumerate(base)], base


def test_a_win_counts_only_where_it_holds_after_correction(tmp_path: Path) -> None:
    better, base = differing(7)  # p = 2 · 2⁻⁷ = 0.0156
    alone = board(run(tmp_path / "alone", {"student": {MMLU: better}, "init": {MMLU: base}}))
    assert comparison(alone, MMLU).p_corrected == pytest.approx(2 / 2**7)
    assert comparison(alone, MMLU).verdict == "win"
    four = (HELLASWAG, ARC, PRO, GSM8K)
    many = board(run(tmp_path / "many", {
        "student": {MMLU: better} | dict.fromkeys(four, base), "init": {MMLU: base} | dict.fromkeys(four, base)},
    ))  # fmt: skip
    one = comparison(many, MMLU)
    assert one.p_corrected == pytest.approx(5 * 2 / 2**7)  # the smallest of five
    assert one.paired.low > 0  # the interval, uncorrected, excludes zero
    assert one.verdict == "tie"
    assert content(many, None)["pairs"][0]["tally"] == "0 wins, 5 ties, 0 losses"


def test_a_loss_is_the_other_way_and_small_differences_are_ties(tmp_path: Path) -> None:
    better, base = differing(30)
    close, _ = differing(2)
    shown = board(run(tmp_path / "r", {"student": {MMLU: base, ARC: close}, "init": {MMLU: better, ARC: base}}))
    assert comparison(shown, MMLU).verdict == "loss"
    assert comparison(shown, ARC).verdict == "tie"
    assert content(shown, None)["pairs"][0]["tally"] == "0 wins, 1 tie, 1 loss"


def test_only_equal_items_asked_alike_are_compared(tmp_path: Path) -> None:
    better, base = differing(30)
    full = run(tmp_path / "full", {"student": {MMLU: better}})
    part = run(tmp_path / "part", {"student": {MMLU: base[:60]}}, {MMLU: {"limit": 60, "start": 70}})
    assert comparison(board(full, part), MMLU).paired.n == 30  # items 70 to 99 of both
    for name, change in (("chat", {"chat": True}), ("no items", {"items": False})):
        assert board(full, run(tmp_path / name, {"student": {MMLU: base}}, {MMLU: change})).comparisons == ()
    lines = (full / "eval" / MMLU / "items.jsonl").read_text().replace('"text": "t', '"text": "other')
    (run(tmp_path / "texts", {"student": {MMLU: base}}) / "eval" / MMLU / "items.jsonl").write_text(lines)
    assert board(full, tmp_path / "texts").comparisons == ()


def test_partly_right_items_are_judged_by_the_t_test(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "r", {"student": {MMLU: right(0.6, 60, 0)}, "init": {MMLU: right(0.4, 60, 1)}})
    lines = [json.loads(line) for line in (folder / MMLU / "items.jsonl").read_text().splitlines()]
    a, b = np.random.default_rng(0).random((2, 60))
    for line, x, y in zip(lines, a, b, strict=True):
        line["models"] = {"student": {"acc": [x, 1.0]}, "init": {"acc": [y, 1.0]}}
    (folder / MMLU / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert comparison(board(folder), MMLU).p == pytest.approx(float(stats.ttest_rel(a, b).pvalue))


def test_hours_are_those_of_the_a100_or_the_flops_at_the_cards_rate(tmp_path: Path) -> None:
    # The card's own estimates, 6·N·D of SmolLM3 (3.075 B parameters, 11.2 T and 140 B tokens), come out at that rate.
    assert hours.converted(6 * 3.075e9 * 11.2e12) == pytest.approx(5.75e5, rel=0.005)
    assert hours.converted(6 * 3.075e9 * 140e9) == pytest.approx(7.2e3, rel=0.005)
    answers = {"student": {MMLU: right(0.5, 40, 0)}}
    fits = {"fit-low": summary(3.6e17, 7.2e17), "fit-high": summary(1e20, 3.6e17, "NVIDIA A100-SXM4-40GB")}
    two = hours.of_run(run(tmp_path / "two", answers, fits=fits))
    assert (two.training, two.with_teacher) == (pytest.approx(1 + 2), pytest.approx(1 + 2 + 2 + 1))
    (tmp_path / "two" / "fit-low" / "summary.json").write_text("{}")
    assert hours.of_run(tmp_path / "two").training is None


def test_the_figure_leaves_off_what_is_unknown_and_says_so(tmp_path: Path) -> None:
    answers = {"student": {HELLASWAG: right(0.4, 50, 0), ARC: right(0.6, 50, 0)}}
    known = run(tmp_path / "known", answers, fits={"fit": summary(3.6e17)})
    shown = board(known, run(tmp_path / "unknown", answers))
    points = {point.name: point for point in shown.capability.points}
    assert set(points) == {"student of known", "DANTE-Mosaic-3.5B", "SmolLM3-3B [d]"}
    assert points["student of known"].value == pytest.approx(50)
    error = 100 * math.sqrt(0.24 / 49 + 0.24 / 49) / 2
    assert points["student of known"].stderr == pytest.approx(error)
    assert points["DANTE-Mosaic-3.5B"].value == pytest.approx((76.73 + 62.71) / 2)
    assert any("student of unknown (no fit has left a summary)" in note for note in shown.capability.notes)


@pytest.mark.parametrize(
    "scores", [[40 + k / 5 for k in range(9)], [*range(8), 99], [40, 40.1, 40.2, 90], [10, 89.8, 90]]
)
def test_no_name_of_the_figure_covers_a_point_or_another_name(scores: Sequence[float]) -> None:
    points = tuple(
        Point(f"student of a_run_with_a_long_name-pocket-s{k}", 10.0**k, 10.0**k * 2, float(score), 1.0, k % 2 > 0)
        for k, score in enumerate(scores)
    )
    axes = draw(Capability((MMLU,), ("MMLU",), points, ()), LIGHT)
    assert axes is not None
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
    # An annotation's extent reaches to its point: its text alone is what must stay clear.
    texts = [type(text).__mro__[1].get_window_extent(text, canvas.get_renderer()) for text in axes.texts]
    assert len(boxes) == len(points)
    for place, box in enumerate(texts):
        assert box.x0 > axes.get_window_extent().x1
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert axes.get_window_extent().y0 - 5 <= box.y0
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in texts[place + 1 :])


def test_published_rows_are_verbatim(tmp_path: Path) -> None:
    said = {one.model: "/".join(v.text + v.signs.split(",")[0] * (v.signs[:2] in ("cf", "+,")) for v in one.values)
            for one in references()}  # fmt: skip
    assert said == {
        "DANTE-Mosaic-3.5B": "76.73/62.71/59.38/39.74/74.45/42.60/6.71",
        "SmolLM3-3B": "76.2/65.6/44.1cf/32.7/67.6/52.9+/30.5+",
        "Qwen2.5-3B": "74.2/59.8/42.9cf/31.3/70.1/52.1+/34.1+",
        "Llama-3.2-3B": "75.5/58.6/41.3cf/25.1/25.9/38.9+/25.0+",
        "Qwen3-1.7B-Base": "60.5/55.9/39.1cf/30.4/65.9/59.3+/43.3+",
        "Qwen3-4B-Base": "74.4/62.1/47.7cf/41.1/74.1/63.8+/54.9+",
        "Kai-3B-Instruct": "53.62/51.88/69.53/77.53/39.02/39.27",
        "Laguna-XS.2-dense": "6.7/6.1",
        "Laguna-XS.2 (teacher)": "88.4/84.8",
    }
    page = html(content(board(run(tmp_path / "a", {"student": {MMLU: right(0.5, 40, 0)}})), None))
    for text in ("42.60", "7.2e3", "4.5e5", "5.75e5", "9e5", "not comparable with the canonical benchmark"):
        assert text in page


def test_what_others_wrote_is_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>|x"
    changes = {MMLU: {"said": hostile, "decoding": hostile}}
    values = content(board(run(tmp_path / "a", {hostile: {MMLU: right(0.5, 40, 0)}}, changes)), None)
    page, text = html(values), markdown(values)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in text
    assert text.count("\\|x") >= 3
    assert "http" not in page.replace("http-equiv", "")


def test_the_command_prints_the_table_and_the_paths_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {"student": {MMLU: right(0.5, 40, 0)}, "init": {MMLU: right(0.3, 40, 1)}}
    path = run(tmp_path / "a", answers, {MMLU: {"limit": 40}}, {"fit": summary(1e17)})
    out = tmp_path / "out"
    assert main(["scoreboard", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "50.0 ± 8.0 (40) 1/2" in printed
    assert "student of a against init of a" in printed
    assert printed.rstrip().replace("\n", "").endswith("scoreboard.html")
    assert {file.name for file in out.iterdir()} == {"scoreboard.md", "scoreboard.html", "scoreboard.png"}
    page = (out / "scoreboard.html").read_text()
    assert "data:image/png;base64," in page
    assert "40 items only" in page
    assert "| student of a | **50.0 ± 8.0** (40) 1/2 |" in (out / "scoreboard.md").read_text()


def _no_value(folder: Path) -> None:
    path = evaluation(folder, {"student": {MMLU: right(0.5, 40, 0)}}) / "eval.json"
    path.write_text(path.read_text().replace('"value": 0.5, ', ""))


BAD = {
    "has no evaluation": lambda folder: None,
    "has measured no benchmark": lambda folder: evaluation(folder, {}),
    "is not valid JSON": lambda folder: (folder / "eval.json").write_text("{"),
    "the key 'value' is missing": _no_value,
    "is no evaluation": lambda folder: (folder / "eval.json").write_text("[]"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_error(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    BAD[what](folder)
    with pytest.raises(DanteError, match=what) as caught:
        board(folder)
    assert caught.value.where
    assert caught.value.fix
    assert main(["scoreboard", str(folder)]) == 2
    assert capsys.readouterr().err.count("error ") == 1


def test_a_benchmark_that_nobody_measured_cannot_be_drawn(tmp_path: Path) -> None:
    path = run(tmp_path / "a", {"student": {MMLU: right(0.5, 40, 0)}})
    with pytest.raises(DanteError, match="no run here has measured 'mmlu_5shots'") as caught:
        board(path, figure="mmlu_5shots")
    assert caught.value.fix == "did you mean 'mmlu_5shot'?"
    with pytest.raises(DanteError, match="does not exist"):
        board(tmp_path / "nowhere")
