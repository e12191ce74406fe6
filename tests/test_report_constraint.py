"""What the report says of a loss with a multiplier: from numbers that are known, and only where there is one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dante.look.metric import Metric
from dante.look.theme import LIGHT, title_of
from dante.losses.dual_penalty import guards, signals
from dante.report import stage
from dante.report.figures import Drawing, all_figures
from dante.report.figures import constraint as drawn
from dante.report.one_run import constraint, recipe
from dante.report.one_run.constraint import Constraint, Spread, of_fit
from dante.report.read import Fit, Run, read_run
from dante.run.parts import build
from dante.run.step import Step
from tests.report_run import constrain, row, write_run

NAME = "entropy_bound"  # not the recipe's own name: the section goes by keys
EDGES = [0.0, 0.25, 0.5, 0.75, 1.0]
BEFORE, AFTER = {"right": [40, 20, 10, 0], "wrong": [0, 10, 10, 10]}, {"right": [60, 20, 10, 0], "wrong": [0, 5, 5, 0]}


def fit(
    violations: list[float | None],
    multipliers: list[float] | None = None,
    label: str = "fit",
    settings: dict[str, Any] | None = None,
    **block: Any,
) -> Fit:
    """A training step with ε = 0.01 in every step; null before τ was frozen, as training logs it."""
    lines = [
        {"step": k, "loss": 2.0, f"{NAME}/multiplier": (multipliers or [0.0] * 99)[k], f"{NAME}/violation": g,
         f"{NAME}/excess": None if g is None else 0.01 + g, f"{NAME}/bound": None if g is None else 0.01,
         f"{NAME}/coefficient": 0.0, f"{NAME}/difficult_wrong": None if g is None else 0.25}
        for k, g in enumerate(violations)
    ]  # fmt: skip
    known = {"signal": "predictive", "guard_words": "whether right or wrong", "threshold": 0.5, "multiplier": 1.0}
    known |= {"histograms": {"edges": EDGES, "before": BEFORE, "after": AFTER}}
    return Fit(label, lines, {"losses": {NAME: known | block}}, {"losses": {NAME: settings or {}}})


def panels_of(axes: Axes | None) -> list[Axes]:
    assert axes is not None
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return list(figure.axes)


def few_figures(run: Run) -> dict[str, Drawing]:
    """The section's own, and one of the section after it."""
    return {stem: one for stem, one in all_figures(run).items() if one.section == "constraint" or stem == "schedules"}


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Step:
    """A finished report of a run with such a loss, with the figures of its section alone: all would take a while."""
    root = tmp_path_factory.mktemp("runs")
    made = write_run(root)
    constrain(root, NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "all_figures", few_figures)
        stage.run(made)
    return made


def test_tokens_above_a_level_divide_the_bin_that_it_falls_in() -> None:
    spread = Spread.of(EDGES, BEFORE)
    assert spread is not None
    assert spread.above(0.5) == (10, 20)
    assert spread.above(0.4) == pytest.approx((10 + 20 * 0.4, 20 + 10 * 0.4))
    assert spread.above(0.0) == (70, 30)
    assert spread.above(1.0) == (0, 0)
    assert spread.coarser(2).right.tolist() == [60, 10]
    assert spread.coarser(2).edges.tolist() == [0.0, 0.5, 1.0]
    assert spread.coarser(3).edges.tolist() == [0.0, 0.5, 1.0]  # four bins go into two, not into three


@pytest.mark.parametrize("counts", [None, {}, {"right": [1], "wrong": [1]}, {"right": [0] * 4, "wrong": [0] * 4}])
def test_a_distribution_that_is_not_there_is_none(counts: Any) -> None:
    assert Spread.of(EDGES, counts) is None
    assert Spread.of(None, BEFORE) is None


@pytest.mark.parametrize(
    ("violations", "said"),
    [
        # The end is the last tenth of the twenty steps with a constraint: two.
        ([None] * 9 + [0.1] * 18 + [-0.004, 0.002], "the constraint held at the end: over the last 2 logged steps the "
         "excess was 0.009, 0.001 below its bound of 0.01; g ≤ 0 in 1 of these steps."),
        ([None] + [-0.1] * 18 + [0.001, 0.003], "the constraint did not hold at the end: over the last 2 logged "
         "steps the excess was 0.012, 0.002 above its bound of 0.01; g ≤ 0 in none of these steps."),
        # The mean decides, not whether some step was below.
        ([None] + [-0.1] * 18 + [-0.001, 0.005], "the constraint did not hold at the end: over the last 2 logged "
         "steps the excess was 0.012, 0.002 above its bound of 0.01; g ≤ 0 in 1 of these steps."),
        ([None, 0.001], "did not hold at the end: over the last logged step the excess was 0.011, 0.001 above"),
        ([None, None], "Its threshold τ was never frozen"),
    ],
)  # fmt: skip
def test_whether_the_constraint_held_is_what_the_last_steps_say(violations: list[float | None], said: str) -> None:
    assert said in constraint.sentences(Run(fits=[fit(violations)]))[0]


@pytest.mark.parametrize(
    ("multipliers", "settings", "said"),
    [
        ([0.0, 0.0, 0.0], {}, "stayed at 0"),
        ([2.0, 2.0, 2.0], {}, "was 2 throughout"),
        ([0.0, 3.0, 1.5], {}, "went from 0 to 1.5 (largest 3)"),
        ([0.0, 1.0, 1.5], {"multiplier": {"maximum": 10.0}}, "went from 0 to 1.5, and"),
        ([0.0, 5.0, 10.0], {"multiplier": {"maximum": 10.0}}, "went from 0 to 10 (largest 10, its limit)"),
    ],
)
def test_how_the_multiplier_moved(multipliers: list[float], settings: dict[str, Any], said: str) -> None:
    run = Run(fits=[fit([None, 0.1, 0.1], multipliers, settings=settings)])
    assert f"The multiplier λ of {NAME} {said}" in constraint.sentences(run)[0]


def test_wrong_difficult_tokens_are_counted_and_else_taken_from_the_steps() -> None:
    counted = constraint.sentences(Run(fits=[fit([None, 0.1])]))[1]
    assert counted == (
        "About 5 of the 15 difficult tokens (above τ = 0.5) of the last steps were wrong (33%); before the constraint "
        "began 67% were. Difficult tokens are penalised whether right or wrong."
    )
    logged = constraint.sentences(Run(fits=[fit([None, 0.1], histograms=None)]))[1]
    assert "25% of the difficult tokens" in logged
    easy = {"right": [1, 0, 0, 0], "wrong": [1, 0, 0, 0]}
    none_left = fit([None, 0.1], histograms={"edges": EDGES, "after": easy})
    assert "No token of the last steps lies above" in constraint.sentences(Run(fits=[none_left]))[1]


def test_several_fits_are_told_apart_and_an_unfinished_one_is_no_mistake() -> None:
    low, high = (fit([None, 0.1, -0.1], label=label) for label in ("fit-low_t", "fit-high_t"))
    unfinished = fit([None, None], label="fit-x", threshold=None, histograms={"edges": EDGES, "before": BEFORE})
    run = Run(fits=[low, high, unfinished, Fit("fit-plain", [{"step": 1, "loss": 1.0}], {}, {})])
    texts = constraint.sentences(run)
    assert [text.split(",")[0] for text in texts] == [
        f"In fit-{n}" for n in ("low_t", "low_t", "high_t", "high_t", "x")
    ]
    figures = all_figures(run)
    for label in ("fit-low_t", "fit-high_t"):
        for kind in ("constraint", "difficult"):
            axes = figures[f"{label}-{kind}-{NAME}"].draw(LIGHT)
            assert axes is not None
            assert title_of(axes).endswith(f"({label})")
    axes = figures[f"fit-x-difficult-{NAME}"].draw(LIGHT)
    assert len(panels_of(axes)) == 1
    assert axes is not None
    assert "τ never frozen" in title_of(axes)
    assert not any(stem.startswith(("fit-plain-constraint", "fit-plain-difficult")) for stem in figures)
    assert figures["heldout_entropy"].draw(LIGHT) is None  # nothing was evaluated


def test_the_stack_shows_the_constraint_s_parts_and_its_zero() -> None:
    (one,) = of_fit(fit([None, 0.1, 0.2, 0.1]))
    panels = panels_of(drawn.trace(one, LIGHT))
    labels = [axes.get_title(loc="left") for axes in panels]
    assert [label.split(" ")[0] for label in labels] == ["multiplier", "mean", "violation"]  # what was logged
    rules = [list(line.get_ydata()) for line in panels[2].lines if list(line.get_xdata()) == [0, 1]]
    assert rules == [[0.0, 0.0]]
    low, high = panels[2].get_ylim()
    assert low < 0 < high
    assert list(panels[2].lines[0].get_xdata()) == [1, 2, 3]  # not the step without τ


def test_the_histogram_s_title_is_computed_and_its_bars_are_shares() -> None:
    (one,) = of_fit(fit([None, 0.1]))
    axes = drawn.difficult(one, LIGHT)
    assert axes is not None
    assert title_of(axes).replace("\u00a0", " ") == "Above τ: 30% → 15% of the tokens; right among these: 33% → 67%"
    before, after = panels_of(axes)
    for panel, counts in ((before, BEFORE), (after, AFTER)):
        bars = [(bar.get_x(), bar.get_y(), bar.get_height()) for bar in panel.patches]
        right = [(x, h) for x, y, h in bars if y == 0][:4]
        assert right == [(x, pytest.approx(n / 100)) for x, n in zip(EDGES[:4], counts["right"], strict=True)]
        assert sum(h for _, _, h in bars) == pytest.approx(1.0)
        hatched = sum(bar.get_height() for bar in panel.patches if bar.get_hatch())
        assert hatched == pytest.approx(sum(counts["wrong"]) / 100)


def detailed(key: str, by_model: dict[str, Any]) -> dict[str, Any]:
    """The entry `details` of `eval.json`."""
    return {"heldout": {model: {key: said} for model, said in by_model.items()}}


def shares(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as they are read: with how their metric reads."""
    return [r | {"how": Metric("x", share=True)} if r["task"] == "generation" else r for r in rows]


def test_what_may_be_cheated_is_said_with_its_numbers() -> None:
    rows = [row("init", "generation", "stop_share", 0.2, 8), row("student", "generation", "stop_share", 0.75, 8),
            row("student", "generation", "loop_share", 0.125, 8),
            row("student", "heldout", "entropy_nats", 1.25, 8)]  # fmt: skip
    ece = {"student": {"ece": 0.09, "stderr": 0.003}, "init": {"ece": 0.05, "stderr": 0.004}}
    run = Run(fits=[fit([None, 0.1])], evaluation={"rows": shares(rows), "details": detailed("calibration", ece)})
    *_, calibration, generation = constraint.sentences(run)
    assert "is 0.090 (initialisation 0.050; worse by 0.040), at a mean entropy of 1.250 nats per token." in calibration
    assert "75.0% stop by themselves (initialisation 20.0%) and 12.5% loop." in generation
    near = ece | {"init": {"ece": 0.088, "stderr": 0.004}}
    run = Run(fits=run.fits, evaluation={"rows": rows, "details": detailed("calibration", near)})
    assert "the difference is within the error" in constraint.sentences(run)[-2]


def test_held_out_curves_are_shares_above_and_wrong_ones_dashed() -> None:
    entropy = {model: {"edges": EDGES, **counts} for model, counts in (("init", BEFORE), ("student", AFTER))}
    rows = [row("init", "heldout", "entropy_nats", 2.5, 8), row("student", "heldout", "entropy_nats", 1.25, 8)]
    run = Run(fits=[fit([None, 0.1])], evaluation={"rows": rows, "details": detailed("entropy", entropy)})
    axes = drawn.heldout(run, LIGHT)
    assert axes is not None
    assert "1.25 nats per token unsure, 2.50 before" in title_of(axes)
    everything, wrong = (list(line.get_ydata()) for line in axes.lines[:2])
    assert everything == pytest.approx([1.0, 0.6, 0.3, 0.1, 0.0])
    assert wrong == pytest.approx([0.3, 0.3, 0.2, 0.1, 0.0])
    (tau,) = [line for line in axes.lines if list(line.get_ydata()) == [0, 1]]
    assert list(tau.get_xdata()) == [0.5, 0.5]


def test_page_and_markdown_have_the_section_and_its_figures(step: Step) -> None:
    page, markdown = ((step.out / name).read_text() for name in ("index.html", "report.md"))
    sections = re.findall(r'section id="(\w+)"', page)
    assert sections.index("answers") < sections.index("constraint") < sections.index("training")
    assert '<a href="#constraint">' in page
    assert "\n## Constraint\n" in markdown
    run = read_run(step.inputs)
    assert len(constraint.sentences(run)) == 4
    for text in constraint.sentences(run):
        assert escape(text) in page
        assert text in markdown
    pictures = {path.stem for path in step.out.glob("*.png")}
    wanted = {f"constraint-{NAME}", f"difficult-{NAME}", "heldout_entropy"}
    assert wanted | {"schedules"} == pictures
    assert f"measured-{NAME}" not in all_figures(run)  # said once
    assert all(f"({stem}.png)" in markdown for stem in wanted)


def test_a_run_without_such_a_loss_has_no_section(tmp_path: Path) -> None:
    made = write_run(tmp_path)
    result = json.loads((made.inputs["eval"] / "eval.json").read_text())
    result["details"] = detailed("entropy", {"student": {"edges": EDGES, **BEFORE}})
    (made.inputs["eval"] / "eval.json").write_text(json.dumps(result))
    run = read_run(made.inputs)
    assert constraint.sentences(run) == []
    assert "constraint" not in {drawing.section for drawing in all_figures(run).values()}
    facts = stage.content(run, made.settings, stage.file_links(run, made.inputs, made.out, "x"))
    assert facts["constraint"] == []
    facts |= {"figures": {section: [] for section in stage.SECTIONS}}
    assert 'id="constraint"' not in stage.templates(True).get_template("index.html.jinja").render(facts)
    assert "## Constraint" not in stage.templates(False).get_template("report.md.jinja").render(facts)


def test_a_new_measurement_of_such_a_loss_is_still_drawn() -> None:
    lines = [line | {f"{NAME}/novel": float(k)} for k, line in enumerate(fit([None, 0.1]).metrics)]
    assert f"measured-{NAME}" in all_figures(Run(fits=[Fit("fit", lines, {}, {})]))


def test_old_summaries_have_a_stack_and_no_histogram() -> None:
    one = Constraint(Fit("fit", fit([None, 0.1, 0.2]).metrics, {}, {}), NAME)
    assert drawn.difficult(one, LIGHT) is None
    assert drawn.trace(one, LIGHT) is not None
    assert one.threshold is None


DUAL = {
    "_target_": "dante.losses.dual_penalty.DualPenalty", "signal": "predictive", "guard": "label_is_argmax",
    "difficult": 0.2, "threshold": None, "initial_bound": None, "measure_from": 0.0, "measure_until": 0.1,
    "bound": {"_target_": "dante.losses.schedule.HoldThenRamp", "start": 1.0, "end": 0.5, "hold": 0.1},
    "augmentation": 1.0,
    "multiplier": {"_target_": "dante.losses.multiplier.NuPI", "k_i": 10.0, "k_p": 1.0, "nu": 0.9, "maximum": 10.0},
    "weight": {"_target_": "dante.losses.schedule.Constant", "value": 1.0},
}  # fmt: skip


def said(name: str, node: dict[str, Any]) -> str:
    return build(node, name=name).sentence()


def test_a_dual_penalty_says_what_it_does_and_the_recipe_repeats_it() -> None:
    text = said("ads", DUAL)
    assert text.startswith("ads penalises what a token's signal (entropy of its prediction over log V) exceeds")
    for part in (
        "only where the label is the most likely token",
        "τ lets 20% of the tokens between 0% and 10% of the run exceed it",
        "ε goes from 1 to 0.5 times the measured excess from 10% of the run on",
        "the multiplier follows νPI (K_I 10, K_P 1, ν 0.9, at most 10)",
        "augmented with c = 1.",
    ):
        assert part in text
    told = {"losses": {"ads": {"sentence": text}, "other": {"threshold": 1.0}}}
    assert recipe.sentences(Run(fits=[Fit("fit", [], told, {}), Fit("again", [], told, {})]))[-1] == text
    bounded = said("ads", DUAL | {"threshold": 0.3, "initial_bound": 0.004})
    assert "τ = 0.3, ε goes from 1 to 0.5 times 0.004" in bounded
    fixed = DUAL | {"multiplier": {"_target_": "dante.losses.multiplier.Fixed", "level": 2.0}, "augmentation": 0.0,
                    "threshold": 0.3, "initial_bound": 0.004}  # fmt: skip
    text = said("ads", fixed)
    assert "τ = 0.3, the multiplier is fixed at 2" in text
    assert "as hard as it takes" not in text  # nothing adapts
    assert text.endswith("the multiplier is fixed at 2.")


def test_what_a_dual_penalty_was_told_is_said_and_not_what_it_has_measured() -> None:
    loss = build(DUAL, name="ads")
    loss.threshold.fill_(0.5)
    loss.initial_bound.fill_(0.1)
    assert loss.sentence() == said("ads", DUAL)


def test_every_signal_and_guard_has_words() -> None:
    assert signals.WORDS.keys() == signals.SIGNALS.keys()
    assert guards.WORDS.keys() == guards.GUARDS.keys()


def test_an_entropy_penalty_says_what_it_does_and_losses_whose_names_say_it_nothing() -> None:
    weight = {"weight": DUAL["weight"]}
    text = said("control", {"_target_": "dante.losses.entropy_penalty.EntropyPenalty"} | weight)
    assert text.startswith("control penalises the mean entropy of all predictions over log V, right or wrong")
    assert said("ce", {"_target_": "dante.losses.ce.CE"} | weight) == ""


@pytest.mark.parametrize(
    ("schedule", "path"),
    [
        ({"_target_": "dante.losses.schedule.Constant", "value": 0.5}, "is 0.5 nats"),
        ({"_target_": "dante.losses.schedule.Linear", "start": 1.0, "end": 0.1}, "goes from 1 to 0.1 nats"),
        (DUAL["bound"], "goes from 1 to 0.5 nats from 10% of the run on"),
    ],
)
def test_a_schedule_says_how_it_goes(schedule: dict[str, Any], path: str) -> None:
    assert build(schedule).path(" nats") == path
