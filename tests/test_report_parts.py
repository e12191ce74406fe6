"""What the report says and draws, part by part: costs, sentences, answers, curves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dante.look.metric import Metric
from dante.look.numbers import number
from dante.look.theme import LIGHT, title_of
from dante.report.figures import all_figures
from dante.report.figures.capability import learning_curve
from dante.report.figures.curves import is_noisy, smooth
from dante.report.figures.data import confidence_weights
from dante.report.figures.training import components, loss, machine, measured, measurements
from dante.report.one_run import answers, cost, recipe, results
from dante.report.read import Fit, Run, count_parameters, read_run
from dante.report.words import change, duration, pair_sentence
from dante.run.config.check import check
from tests.report_run import SETTINGS, SUITES, generations, pair, row, write_run

CONF = Path(__file__).resolve().parents[1] / "conf"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("runs")).inputs)


def panels_of(axes: Axes | None) -> list[Axes]:
    assert axes is not None
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return list(figure.axes)


def test_parameters_are_counted_in_headers(run: Run) -> None:
    assert run.teacher_parameters == 7 * 4 + 4 * 5
    assert count_parameters([]) is None


def test_a_given_cache_cost_something_once_but_nothing_here(run: Run) -> None:
    text = cost.generation_sentence(run)
    assert "cost nothing in this run" in text
    assert "1.92e6 FLOPs (estimate" in text  # 2 · 48 parameters · 20,000 tokens
    assert [row["flops"] for row in cost.step_table(run)] == ["–", "–", "–", "6.10e13", "–", "–", "–", "–"]


def test_a_cache_made_here_is_measured_and_estimated(run: Run) -> None:
    step = {"label": "cache", "wall_s": 40.0, "settings": {"source": {"engine": {"_target_": "x"}}}}
    made = Run(**{**vars(run), "cache_step": step})
    assert "took 40 s (measured)" in cost.generation_sentence(made)
    assert cost.step_table(made)[1]["flops"] == "≈ 1.92e6"
    unknown = Run(**{**vars(made), "teacher_parameters": None})
    assert "FLOPs" not in cost.generation_sentence(unknown)


def test_device_hours_are_the_fit_s_own_and_one_device_elsewhere(run: Run) -> None:
    table = {row["label"]: row for row in cost.step_table(run)}
    assert table["fit"]["device_hours"] == "0.112"
    assert table["eval"]["device_hours"] == "0.0111"  # 40 s
    assert cost.total(run) == {"wall": "11 min 25 s", "device_hours": "0.189"}
    assert cost.unit(run) == "CPU-hours"


def test_a_card_s_cost_stands_beside_the_run_s(run: Run) -> None:
    published = {"source": "A card", "gpu_hours": 21, "gpu": "A100-40GB", "cache_gpu_hours": 40}
    text = cost.published_sentence(run, published)
    assert "A card: 21 A100-40GB-hours for training and about 40 for its cache. Training here took 0.112 hours" in text
    assert cost.published_sentence(run, None) == ""


def test_every_fit_of_a_recipe_with_several_is_told_and_drawn(run: Run) -> None:
    low, high = (Fit(**{**vars(run.fits[0]), "label": label}) for label in ("fit-low_t", "fit-high_t"))
    both = Run(**{**vars(run), "fits": [low, high]})
    assert "Step fit-low_t minimises" in " ".join(recipe.sentences(both))
    figures = all_figures(both)
    for label in ("fit-low_t", "fit-high_t"):
        axes = figures[f"{label}-loss"].draw(LIGHT)
        assert axes is not None
        assert label in title_of(axes)
    capability = figures["capability"].draw(LIGHT)
    assert capability is not None
    assert title_of(capability).startswith("1.22e14 FLOPs")  # both fits


def test_evaluation_is_an_estimate_over_texts_and_answers(run: Run) -> None:
    scored = sum(item["models"]["student"]["top1_accuracy"][1] for item in run.items["heldout"])
    written = sum(line["answers"][m]["tokens"] for line in run.generations for m in ("init", "student"))
    expected = 2 * 48 * scored + 2 * 78_120_000 * (2 * scored + written)
    assert cost.evaluation_flops(run) == pytest.approx(expected)


@pytest.mark.parametrize("overrides", [["seed=3"], ["fit.steps=7", "fit.lr=0.0001", "fidelity=card"]])
def test_the_command_composes_to_the_same_settings(overrides: list[str]) -> None:
    def composed(*words: str) -> dict[str, Any]:
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            return check(compose("train", overrides=list(words)))

    ran = composed("+experiment=sft", *overrides)
    run = Run(fits=[Fit("fit", [], {}, ran["steps"]["fit"]["settings"])])
    words = recipe.command(
        run, ran["run"]["name"], ran["experiment"]["name"], ran["report"]["scale"], ran["report"]["seed"]
    ).split()
    assert words[:2] == ["python", "train.py"]
    assert composed(*words[2:]) == ran


def test_a_run_with_a_name_of_its_own_keeps_it() -> None:
    assert recipe.command(Run(), "slow", "sft", "pocket", 1).endswith("seed=1 run.name=slow")


@pytest.mark.parametrize(
    ("difference", "metric", "said"),
    [
        (
            -0.3,
            "bits_per_byte",
            "The student needs 0.300 bits per byte less than the initialisation (95% interval 0.26",
        ),
        (0.3, "bits_per_byte", "The student needs 0.300 bits per byte more than the initialisation (95% interval 0.26"),
        (
            0.3,
            "top1_accuracy",
            "The student is 30.0 points above the initialisation in top-1 accuracy (95% interval 26.0 to 34.0, 60 a",
        ),
        (-0.01, "kl_nats", "not distinguishable in KL to the teacher (95% interval −0.050 to +0.030"),
    ],
)
def test_differences_are_said_in_the_right_direction(difference: float, metric: str, said: str) -> None:
    known = {"how": Metric(**SUITES["heldout"]["metrics"][metric]), "counts": "answers"}
    assert said in pair_sentence(pair("init", "heldout", metric, difference, 0.04, 60) | known)


def test_retention_says_what_was_lost_and_what_was_repaired(run: Run) -> None:
    language, code, anchor = results.retention_sentences(run)
    assert "0.200 bits per byte more" in language
    assert "cost it some" in language
    assert "0.200 bits per byte less" in code
    assert "1.100 above the teacher, so this is recovery" in code
    assert "0.9 (Frobenius norm, 1.8e-4 rms per entry)" in anchor
    assert "cannot be read from one run" in anchor


def test_the_headline_does_not_claim_what_is_not_distinct(run: Run) -> None:
    blurred = [p | {"low": -0.1, "high": 0.1} for p in run.evaluation["pairs"]]
    same = Run(**{**vars(run), "evaluation": run.evaluation | {"pairs": blurred}})
    assert "less than its initialisation (95% interval" in results.headline(run)
    assert "not distinguishable from its initialisation" in results.headline(same)


def test_answers_that_do_not_stop_are_told_apart(run: Run) -> None:
    init, student = answers.summary(run)
    assert (
        "initialisation ended 0 of 4 answers by itself within 160 tokens (0%); of the other 4, 4 looped and 0" in init
    )
    assert "ended 2 of 4 answers" in student
    assert "of the other 2, 1 looped and 1 went on without a loop" in student
    kinds = [line["answers"][2]["kind"] for line in answers.shown(run, 4)]
    assert kinds == ["stopped", "stopped", "looping", "cut"]
    assert [line["id"] for line in answers.shown(run, 2)] == ["g0", "g1"]


def test_whose_the_cached_answers_are_is_said(run: Run) -> None:
    assert answers.cached_side(run) == "The teacher's side is the cached text."
    lines = [{"answers": {"cache": {}, "teacher": {}, "student": {}}}]
    assert "by another model" in answers.cached_side(Run(generations=lines))
    other = Run(generations=lines, cache={"teacher": {"name": "Big"}})
    assert answers.cached_side(other) == "Cached answers are by Big, which wrote the cache and is not the teacher."


def test_marking_keeps_the_text_and_marks_the_second_time() -> None:
    for line in generations():
        for answer in line["answers"].values():
            assert "".join(piece for piece, _ in answers.marked(answer["text"])) == answer["text"]
    assert answers.marked("a b c d e\n a b c d f") == [("a b c d e", False), ("\n a b c d", True), (" f", False)]
    assert answers.marked(" ") == [(" ", False)]


def test_a_new_loss_is_found_by_its_keys() -> None:
    lines = [
        {"step": s, "loss": 2.0 + s, "loss/new": 1.0 + s, "weight/new": 1.0, "new/gap": 0.5 * s, "new/far": 1.5 * s,
         "new/odd": s * s, "lr": 1e-3, "mfu": 0.4} for s in (1, 2, 3)
    ]  # fmt: skip
    assert measurements(lines) == {"new": ["new/gap", "new/far", "new/odd"]}
    fit = Fit("fit", lines, {}, {})
    assert len(panels_of(components(fit, LIGHT))) == 1
    labels = [axes.get_title(loc="left") for axes in panels_of(measured(fit, "new", LIGHT))]
    assert labels == ["gap   (far ends at 4.5)", "odd"]  # multiples of each other share a panel


def test_learning_curve_is_in_the_unit_of_the_held_out_score() -> None:
    lines = [{"step": s, "ce_nats": 3.0, "supervised_tokens": t} for s, t in ((1, 10), (2, 30), (3, 60))]
    parts = [{"bits_per_byte": [1.0, size], "top1_accuracy": [1, tokens]} for size, tokens in ((40, 10), (60, 15))]
    items = {"heldout": [{"models": {"student": part}} for part in parts]}
    only = Run(fits=[Fit("fit", lines, {"flops": 2e9}, {})], items=items)
    curve = learning_curve(only)
    assert curve is not None
    assert curve[0] == pytest.approx([2e8, 8e8, 2e9])
    assert curve[1] == pytest.approx([3.0 / np.log(2) * 25 / 100] * 3)
    assert learning_curve(Run(fits=only.fits * 2, items=items)) is None


def test_confidence_weights_follow_the_published_values() -> None:
    node = SETTINGS["losses"]["cwce"]
    run = Run(fits=[Fit("fit", [], {}, {"losses": {"any_name": node}})], entropies=[0.0, 5.0])
    axes = confidence_weights(run, LIGHT)
    assert axes is not None
    assert "0.30 to 0.93" in title_of(axes)


def test_smoothing_keeps_a_line_and_leaves_schedules_alone() -> None:
    line = np.linspace(5.0, 1.0, 101)
    assert smooth(line)[20:80] == pytest.approx(line[20:80])
    warm_up_then_cosine = np.concatenate([np.linspace(0, 1, 12), 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, 108))])
    assert not is_noisy(warm_up_then_cosine)
    assert is_noisy(line + np.random.default_rng(0).normal(0, 0.1, size=101))


def test_numbers_read_as_a_person_writes_them() -> None:
    assert [number(x) for x in (0.0, 2127.6, 3.05e-6, 0.0215, -4e7)] == ["0", "2,128", "3.05e-6", "0.0215", "-4e7"]
    assert [duration(s) for s in (4.2, 42, 425, 9420)] == ["4.2 s", "42 s", "7 min 05 s", "2 h 37 min"]
    share = Metric("a share", share=True)
    assert share.value(0.583) == "58.3%"
    assert change(pair("init", "heldout", "acc", 0.1, 0.2, 5) | {"how": share}) == "+10.0 [−10.0, +30.0]"


def test_the_evaluation_s_own_word_on_loops_counts_more_than_repetition(run: Run) -> None:
    said = {"text": "x", "tokens": 9, "stopped": False, "repetition": 0.2}
    lines = [{"id": str(k), "prompt": "?", "answers": {"student": said | {"looped": k < 2}}} for k in range(3)]
    rule = {"min_tokens": 3, "max_tokens": 40, "count": 5}
    told = Run(generations=lines, evaluation={"details": {"generation": {"student": {"loop": rule}}}})
    assert "of the other 3, 2 looped and 1 went on" in answers.summary(told)[0]
    assert "same 3 to 40 tokens had come 5 times in a row" in answers.what_loops(told)
    assert answers.flag(lines[0]["answers"]["student"])[1] == "looping, ended there, 20% of its 4-grams repeat"
    assert "at least 50% of its 4-grams" in answers.what_loops(run)


def test_one_heading_for_one_set_of_items(run: Run) -> None:
    rows = [row("student", "heldout", "bits_per_byte", 1.0, 8),
            row("student", "heldout", "ece", 0.1, 8, decoding="teacher-forced, 15 bins")]  # fmt: skip
    rows[1]["how"] = Metric(**SUITES["heldout"]["metrics"]["ece"])
    (group,) = results.main_table(Run(evaluation={"rows": rows, "suites": SUITES}))
    assert group["heading"] == "held-out answers, n = 8; dante 0, teacher-forced"
    rows += [row("init", "generation", "stop_share", 0.1, 6), row("student", "generation", "stop_share", 0.5, 64)]
    assert "n = 64 (initialisation 6)" in results.main_table(Run(evaluation={"rows": rows}))[1]["heading"]
    assert group["lines"][1]["meaning"] == "ECE of the most likely token, 15 bins"


def test_training_s_cost_tells_time_speed_memory_energy_and_spikes(run: Run) -> None:
    rows = dict(dict(cost.facts(run))["Training"])
    assert rows["wall time"] == "6 min 42 s"
    assert (rows["of it waiting for data"], rows["of it writing checkpoints"]) == ("0.2%", "2.1%")
    assert rows["before the first step"] == "8.2 s"
    assert rows["FLOPs"] == "6.10e13 (10% of the device's 1.5 TFLOP/s, as measured)"
    assert rows["TFLOP/s, measured"] == "1.5 in bf16, 0.2 in fp32"
    assert rows["tokens per second"] == "255 (151 supervised)"
    assert rows["peak memory"] == "3.1 GiB"
    assert rows["energy"] == "12.2 Wh"
    assert (rows["skipped updates"], rows["loss spikes"]) == ("1", "1")
    summary = {**run.fits[0].summary, "devices": 8, "peak_mem_scope": "process", "energy_j": None, "peak_tflops": None}
    rows = dict(dict(cost.facts(Run(**{**vars(run), "fits": [Fit("fit", [], summary, {})]})))["Training"])
    assert rows["peak memory"] == "3.1 GiB on the fullest device, earlier stages included"
    assert "energy" not in rows
    assert rows["FLOPs"] == "6.10e13 (10% of the device's peak)"


def test_summaries_of_before_the_accounting_still_read(run: Run) -> None:
    old = {"wall_s": 402.0, "tokens_per_s": 255.3, "flops": 6.1e13, "mfu": 0.4, "peak_mem_gib": 3.1}
    rows = dict(dict(cost.facts(Run(**{**vars(run), "fits": [Fit("fit", [], old, {})]})))["Training"])
    assert rows == {
        "wall time": "6 min 42 s",
        "FLOPs": "6.10e13 (40% of the device's peak)",
        "tokens per second": "255",
        "peak memory": "3.1 GiB",
    }


def test_the_machine_figure_shows_what_was_logged_and_the_loss_marks_spikes(run: Run) -> None:
    (fit,) = run.fits
    titles = [axes.get_title(loc="left") for axes in panels_of(machine(fit, LIGHT))]
    assert titles == [
        "tokens per second",
        "peak memory (GiB)",
        "model FLOPs utilisation (share of peak)",
        "share of the time without a batch",
        "supervised tokens per step",
    ]
    assert "spike" not in measurements(fit.metrics)
    drawn = loss(fit, LIGHT)
    assert drawn is not None
    (marks,) = [line for line in drawn.lines if line.get_marker() == "^"]
    assert list(marks.get_xdata()) == [80]
    calm = Fit(**{**vars(fit), "metrics": [{k: v for k, v in r.items() if k != "spike"} for r in fit.metrics]})
    drawn = loss(calm, LIGHT)
    assert drawn is not None
    assert not [line for line in drawn.lines if line.get_marker() == "^"]


def test_answers_whose_teacher_counted_no_tokens_have_a_cost_section_without_them() -> None:
    given = Run(cache={"counts": {"records": 5, "train": 4, "teacher_tokens": None}})
    assert cost.generation_sentence(given) == ""
    assert "tokens kept" not in str(cost.facts(given))


def test_who_wrote_the_answers_is_named_where_it_is_not_the_teacher(run: Run) -> None:
    """A mixture that was made of a dense model teaches on that model's answers."""
    teacher = run.teacher["name"]
    same = Run(**{**vars(run), "cache": run.cache | {"teacher": {"name": teacher}}})
    other = Run(**{**vars(run), "cache": run.cache | {"teacher": {"name": "the dense one"}}})
    assert f"answers of {teacher};" in recipe.sentences(same)[0]
    assert f"answers of the dense one, with {teacher} as its teacher;" in recipe.sentences(other)[0]
