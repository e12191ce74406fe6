"""Experiments: the repository's own are sound, the index is up to date, every kind of fault is found, `new` fills."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from dante.errors import DanteError
from dante.experiments.__main__ import main
from dante.experiments.check import MAX_FILE_BYTES, check, check_all
from dante.experiments.configuration import configuration, leaves
from dante.experiments.findings import publish, runs_by_arm
from dante.experiments.index import folders, index_table, with_index, write_generated
from dante.experiments.new import fill, new
from dante.experiments.readme import SECTIONS, parse, read_readme
from dante.experiments.schema import read_configuration, read_results
from dante.experiments.table import results_table
from dante.report.comparison.command import write_comparison
from tests.comparison_runs import point, write_arm, write_sweep
from tests.test_config import composed

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
NAMES = [folder.name for folder in folders(EXPERIMENTS)]


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_is_of_the_form(name: str) -> None:
    assert [str(fault) for fault in check(EXPERIMENTS / name)] == []


def test_the_index_is_up_to_date() -> None:
    assert (EXPERIMENTS / "README.md").read_text(encoding="utf-8") == with_index(EXPERIMENTS)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository of one sound experiment, to be spoilt."""
    folder = tmp_path / "repository" / "experiments" / "pocket_learning_rate"
    shutil.copytree(EXPERIMENTS / "pocket_learning_rate", folder)
    shutil.copytree(ROOT / "conf" / "experiment", tmp_path / "repository" / "conf" / "experiment")
    shutil.copyfile(ROOT / "train.py", tmp_path / "repository" / "train.py")
    shutil.copyfile(EXPERIMENTS / "README.md", folder.parent / "README.md")
    write_generated(folder.parent)
    assert check_all(folder.parent) == []
    return folder


def _readme(old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "README.md"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return spoil


def _results(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "results.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return spoil


def _config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "config.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")

    return spoil


def _difference(**changed: Any) -> Callable[[Path], None]:
    one = {
        "name": "a − b", "metric": "bits_per_byte", "arms": None, "difference": 0.1, "low": 0.0, "high": 0.2,
        "confidence": 0.95,
    }  # fmt: skip
    return _results(lambda r: r["differences"].append(one | changed))


def _empty_verdict(folder: Path) -> None:
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("## Verdict")] + "## Verdict\n", encoding="utf-8")


def _swap(folder: Path) -> None:
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    swapped = {"## Command": "## Config", "## Config": "## Command"}
    path.write_text(re.sub("## Command|## Config", lambda m: swapped[m.group()], text), encoding="utf-8")


# What is spoilt → what the one fault of the folder must say.
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no README": (lambda f: (f / "README.md").unlink(), "has no README.md"),
    "no results": (lambda f: (f / "results.json").unlink(), "has no results.json"),
    "no config": (lambda f: (f / "config.yaml").unlink(), "has no config.yaml"),
    "no title": (_readme("# Learning rate of the pocket pair", "Learning rate"), "has no title"),
    "missing section": (_readme("## Hypothesis", "### Hypothesis"), "section 'Hypothesis' is missing"),
    "double section": (_readme("## Config", "## Command\n\nAgain.\n\n## Config"), "section 'Command' stands twice"),
    "wrong order": (_swap, "the sections stand as Question, Hypothesis, Config, Command"),
    "empty verdict": (_empty_verdict, "section 'Verdict' is empty"),
    "empty free section": (_readme("## Verdict", "## Design\n\n## Verdict"), "section 'Design' is empty"),
    "unfilled TODO": (_readme("None was written", "TODO: write"), "section 'Hypothesis' has an unfilled TODO"),
    "verdict without its line": (_readme("**1e-3 of {5e-4, 1e-3, 2e-3}.**\n\n", ""), "'Verdict' does not open with"),
    "verdict partly bold": (_readme("**1e-3 of {5e-4", "**1e-3** of **{5e-4"), "'Verdict' does not open with"),
    "figure that is missing": (_readme("## Verdict", "![effects](effects.png)\n\n## Verdict"), "names effects.png"),
    "figure that is not shown": (lambda f: (f / "loss.png").write_bytes(b"png"), "does not show loss.png"),
    "file that is not there": (_readme("## Verdict", "See `analyse.py`.\n\n## Verdict"), "names analyse.py"),
    "link that leads nowhere": (_readme("## Verdict", "[b](../other/README.md)\n\n## Verdict"), "../other/README.md"),
    "script that is not there": (_readme("```bash\n", "```bash\npython experiments/x/y.py\n"), "experiments/x/y.py"),
    "recipe that is not there": (_readme("+experiment=sft", "+experiment=stf"), "needs conf/experiment/stf.yaml"),
    "results that are not JSON": (lambda f: (f / "results.json").write_text("{"), "results.json is not JSON"),
    "unknown key": (_results(lambda r: r.update(scores={})), "scores"),
    "missing key": (_results(lambda r: r.pop("made_with")), "made_with"),
    "no arms": (_results(lambda r: r.update(arms={})), "arms"),
    "arm without metrics": (_results(lambda r: r["arms"].update({"lr 1e-3": {}})), "arms.lr 1e-3"),
    "arm without seeds": (_results(lambda r: r["arms"]["lr 1e-3"].update(bits_per_byte={})), "lr 1e-3.bits_per_byte"),
    "value that is no number": (
        _results(lambda r: r["arms"]["lr 1e-3"]["bits_per_byte"].update({"42": float("nan")})),
        "lr 1e-3.bits_per_byte.42",
    ),
    "results of another": (_results(lambda r: r.update(experiment="other")), "results.json is of 'other'"),
    "difference of no arm": (_difference(arms=["lr 1e-3", "lr 3e-3"]), "'lr 3e-3', which is no arm"),
    "primary metric of no arm": (_results(lambda r: r.update(primary=["bits"])), "metric 'bits' is no arm's"),
    "interval backwards": (_difference(low=0.2, high=0.0), "ends before it begins"),
    "config that is not YAML": (lambda f: (f / "config.yaml").write_text("a: [1"), "config.yaml is not YAML"),
    "config without origin": (_config(lambda c: c.pop("origin")), "origin"),
    "config with other arms": (_config(lambda c: c["arms"].pop("lr 2e-3")), "same arms: lr 2e-3 in only one"),
    "large file": (lambda f: (f / "data.csv").write_bytes(b"0" * (MAX_FILE_BYTES + 1)), "data.csv has 300,001 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_is_the_only_one(name: str, copy: Path) -> None:
    spoil, said = FAULTS[name]
    spoil(copy)
    faults = [str(fault) for fault in check(copy)]
    assert len(faults) == 1, faults
    assert said in faults[0]


def test_two_faults_are_two_errors(copy: Path) -> None:
    (copy / "config.yaml").unlink()
    _readme("None was written", "TODO: write")(copy)
    assert len(check(copy)) == 2


def test_a_stale_index_is_found_and_written_anew(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _readme("1e-3 of {5e-4, 1e-3, 2e-3}", "2e-3 | by far")(copy)
    where = ["--dir", str(copy.parent)]
    assert [str(fault)[:34] for fault in check_all(copy.parent)] == ["the index of experiments is out of"]
    assert main([*where, "check"]) == 1
    assert main([*where, "index"]) == 0
    assert main([*where, "check"]) == 0
    assert "| 2e-3 \\| by far. |" in (copy.parent / "README.md").read_text(encoding="utf-8")
    assert main([*where, "index"]) == 0
    assert "up to date" in capsys.readouterr().out


def test_an_index_without_its_markers_is_a_fault(copy: Path) -> None:
    path = copy.parent / "README.md"
    path.write_text("# Experiments\n", encoding="utf-8")
    assert [fault.what for fault in check_all(copy.parent)] == ["README.md lacks the markers of the generated index"]
    assert path.read_text(encoding="utf-8") == "# Experiments\n"


def test_the_index_repeats_bold_lines_that_run_over_two_lines(copy: Path) -> None:
    _readme("**1e-3 of {5e-4,", "**1e-3\nof {5e-4,")(copy)
    assert "| 1e-3 of {5e-4, 1e-3, 2e-3}. |" in index_table(copy.parent)


def test_a_heading_inside_a_code_block_is_no_section() -> None:
    readme = parse("# T\n\n## Command\n\n```bash\n## not a section\n# nor a title\n```\n\n## Config\n\nx\n")
    assert list(readme.sections) == ["Command", "Config"]
    assert "## not a section" in readme.sections["Command"]


# --- a folder from a sweep -------------------------------------------------------------------------------------------

VALUES = {"sft": {1: 0.75, 2: 0.81}, "dante_mosaic": {1: 0.7, 2: 0.72}}
BITS = "heldout bits_per_byte"


@cache
def _smoke(arm: str, seed: int) -> dict[str, Any]:
    return composed(f"+experiment={arm}", "scale=smoke", f"seed={seed}")


def _comparison(command: str) -> dict[str, Any]:
    """What `python -m dante.report compare` writes of that sweep, as far as it is read."""
    none = dict.fromkeys(("difference", "low", "high", "stderr", "n_items", "p", "p_corrected"))
    effect = {"difference": -0.07, "low": -0.09, "high": -0.05, "stderr": 0.01, "n_items": 8, "p": 0.01}
    cells = [
        {"arm": arm, "baseline": "sft", "seed_values": {str(seed): value for seed, value in seeds.items()}} | none
        for arm, seeds in VALUES.items()
    ]
    cells[1] |= effect | {"p_corrected": 0.02}
    result = {
        "task": "heldout",
        "metric": "bits_per_byte",
        "references": {"teacher": 0.25, "init": None},
        "arms": cells,
    }
    arms = {
        arm: {"runs": {str(seed): {"run": f"{arm}-smoke-s{seed}", "command": "python train.py"} for seed in seeds}}
        for arm, seeds in VALUES.items()
    }
    results = [
        result | {"primary": True},
        result | {"metric": "kl_nats", "primary": False, "references": {}},
        result | {"task": "heldout/domain=code", "primary": False},
    ]
    return {
        "confidence": 0.95,
        "tables": [{"table": 1, "arms": arms, "results": results}],
        "absent": [{"run": "sft-smoke-s3", "arm": "sft", "seed": 3, "phase": "final", "why": "failed: x"}],
        "sweeps": [{"sweep": "mine", "command": command}],
    }


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of two arms and two seeds with a comparison, and its runs' own records; one more point has failed."""
    runs = tmp_path / "runs"
    points = []
    for arm, seeds in (*VALUES.items(), ("tune", {1: 0.9})):
        for seed in seeds:
            run = runs / f"{arm}-smoke-s{seed}"
            cfg = _smoke("sft" if arm == "tune" else arm, seed)
            step = run / "fit" / "step.json"
            step.parent.mkdir(parents=True)
            step.write_text("{}")
            (run / "config.yaml").write_text(yaml.safe_dump(cfg))
            steps = {
                "init": {"stage": "init", "fingerprint": "0", "complete": True, "wall_s": 3.0},
                "fit": {"stage": "fit", "fingerprint": f"{arm}{seed}", "complete": True, "wall_s": 10.0},
            }
            environment = {"git": "abc", "python": "3.11", "packages": {"torch": "2"}, "hardware": None}
            (run / "manifest.json").write_text(json.dumps({"environment": environment, "steps": steps}))
            phase = "tune" if arm == "tune" else "final"
            points.append({"run": run.name, "arm": arm, "seed": seed, "phase": phase, "status": "done"})
    points.append({"run": "sft-smoke-s3", "arm": "sft", "seed": 3, "phase": "final", "status": "failed", "error": "x"})
    folder = runs / "mine"
    folder.mkdir()
    command = "python /somewhere/train.py -m +experiment=sft,dante_mosaic seed=1,2,3"
    tuning = {
        "grid": {"fit.lr": ["0.001"]}, "seed": 1, "metric": "validation bits per byte", "at_edge": {},
        "scores": {"sft": {"0.001": 0.9, "0.002": None}}, "chosen": {"sft": {"fit.lr": "0.001"}},
    }  # fmt: skip
    content = {"sweep": "mine", "command": command, "baseline": "sft", "tuning": tuning, "points": points}
    (folder / "sweep.json").write_text(json.dumps(content))
    (folder / "comparison.json").write_text(json.dumps(_comparison(command)))
    (folder / "curves.png").write_bytes(b"png")
    return folder


def test_new_makes_a_folder_that_fails_only_for_its_todos(copy: Path, sweep: Path) -> None:
    folder = new(copy.parent, "mine", sweep)
    faults = [fault.what for fault in check(folder)]
    assert faults == [f"the section {name!r} has an unfilled TODO" for name in ("Question", "Hypothesis", "Verdict")]
    readme = read_readme(folder / "README.md")
    assert list(readme.sections) == list(SECTIONS)
    assert "python train.py -m +experiment=sft,dante_mosaic seed=1,2,3" in readme.sections["Command"]
    assert readme.figures() == ["curves.png"]

    results = read_results(folder / "results.json")
    assert {arm: metrics[BITS] for arm, metrics in results.arms.items()} == VALUES
    assert list(results.arms["sft"]) == [BITS, "heldout kl_nats"]
    assert results.references == {"teacher": {BITS: 0.25}}
    assert [(one.arms, one.difference, one.p_adjusted) for one in results.differences if one.metric == BITS] == [
        (("dante_mosaic", "sft"), -0.07, 0.02)
    ]
    assert results.failed == ["sft-smoke-s3: failed: x"]
    assert results.tuning is not None
    assert results.tuning.chosen == {"sft": {"fit.lr": "0.001"}}
    assert results.wall_s == 53.0  # with the tuning run; the init that all share counts once
    assert (results.made_with.git, results.made_with.hardware) == ("abc", None)
    assert results_table(results) in readme.sections["Results"]
    assert BITS in readme.sections["Results"]
    assert "kl_nats" not in readme.sections["Results"]  # not a primary metric

    config = read_configuration(folder / "config.yaml")
    assert config.origin == "recorded"
    assert config.arms["sft"]["fit.curriculum._target_"] == "dante.data.curriculum.Shuffled"
    assert "losses.tea.weight.start" in config.arms["dante_mosaic"]
    assert config.shared["where"] == {"scale": "smoke"}


@pytest.mark.parametrize(
    ("adjusted", "heading", "cells"),
    [
        ([0.04, 0.05], "p, corrected", ["0.04", "0.05"]),
        ([0.04, None], "p, corrected", ["0.04", "0.02 (uncorrected)"]),
        ([None, None], "p, uncorrected", ["0.01", "0.02"]),
    ],
)
def test_a_p_value_is_called_corrected_only_where_it_is(
    adjusted: list[float | None], heading: str, cells: list[str]
) -> None:
    results = read_results(EXPERIMENTS / "ads_sensitivity" / "results.json")
    judged = [
        one.model_copy(update={"p": p, "p_adjusted": p_adjusted})
        for one, p, p_adjusted in zip(results.differences, (0.01, 0.02), adjusted, strict=False)
    ]
    table = results_table(results.model_copy(update={"differences": judged})).split("\n\n")[-1].splitlines()
    assert [line.split(" | ")[-1].strip(" |") for line in (table[0], *table[2:])] == [heading, *cells]


def test_a_script_finds_the_runs_of_every_arm_and_says_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points, expected = [], {}
    for arm in ("ads", "sft"):
        expected[arm] = write_arm(tmp_path / "runs", arm, seeds=(1, 2))
        points += [point(path, arm, seed) for seed, path in enumerate(expected[arm], 1)]
    found = runs_by_arm([str(write_sweep(tmp_path / "runs", "mine", points))])
    assert {arm: [run.resolve() for run in runs] for arm, runs in found.items()} == expected
    publish(tmp_path, {"table.md": "| λ |", "figure.png": b"\x89PNG"}, before=("results.json",))
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == "| λ |"
    assert (tmp_path / "figure.png").read_bytes() == b"\x89PNG"
    said = capsys.readouterr().out.splitlines()
    assert said == ["| λ |", *(f"wrote {tmp_path / name}" for name in ("results.json", "table.md", "figure.png"))]


def test_a_folder_without_its_todos_is_sound(copy: Path, sweep: Path) -> None:
    folder = new(copy.parent, "mine", sweep)
    path = folder / "README.md"
    path.write_text(path.read_text(encoding="utf-8").replace("TODO: ", ""), encoding="utf-8")
    write_generated(copy.parent)
    assert check_all(copy.parent) == []


def test_a_question_can_be_written_down_before_its_runs(copy: Path, sweep: Path) -> None:
    folder = new(copy.parent, "mine")
    _readme("TODO: what is expected", "I expect nothing: what is expected")(folder)
    fill(folder, sweep)
    assert "I expect nothing" in (folder / "README.md").read_text(encoding="utf-8")
    assert read_results(folder / "results.json").arms["sft"][BITS] == VALUES["sft"]
    said = [fault.what for fault in check(folder)]
    assert "the README does not show curves.png" in said
    assert not any("results.json" in what or "Hypothesis" in what for what in said)


def test_a_table_that_its_results_have_left_behind_is_stale(copy: Path, sweep: Path) -> None:
    folder = new(copy.parent, "mine", sweep)
    _results(lambda r: r["arms"]["sft"][BITS].update({"1": 0.9}))(folder)
    assert "mine's table of results is not that of its results.json" in [fault.what for fault in check(folder)]
    assert folder / "README.md" in write_generated(copy.parent)
    assert "| sft | 0.90000 | 0.81000 | 0.85500 | 0.064 |" in (folder / "README.md").read_text(encoding="utf-8")


def test_new_refuses_what_exists_and_leaves_nothing_behind(copy: Path, sweep: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in copy.iterdir()}
    with pytest.raises(DanteError, match="'pocket_learning_rate' exists"):
        new(copy.parent, copy.name, sweep)
    assert {p: p.read_bytes() for p in copy.iterdir()} == before
    (sweep / "comparison.json").write_text(json.dumps({"arms": []}))
    for name, source, said in [
        ("../mine", None, "no name for an experiment"),
        ("mine", tmp_path, "holds no comparison.json"),
        ("mine", sweep, "is not of the shape"),
    ]:
        with pytest.raises(DanteError, match=said):
            new(copy.parent, name, source)
    assert folders(copy.parent) == [copy]


def test_a_run_that_lies_elsewhere_is_named(copy: Path, sweep: Path) -> None:
    shutil.rmtree(sweep.parent / "sft-smoke-s2")
    with pytest.raises(DanteError, match="sft-smoke-s2 has no readable configuration"):
        new(copy.parent, "mine", sweep)


def test_shared_and_changed_configuration_give_every_run_s_own_back() -> None:
    runs: dict[str, dict[int, dict[str, Any]]] = {
        "scratch": {s: composed("+experiment=scratch", f"seed={s}") for s in (1, 2)},
        "sft": {s: composed("+experiment=sft", f"seed={s}", "fit.lr=2e-3") for s in (1, 2)},
    }
    found = configuration(runs, "recorded")
    assert found.seeds == {"scratch": {1: {"student.init.seed": 1}, 2: {"student.init.seed": 2}}}
    assert found.arms["sft"]["fit.lr"] == 2e-3
    for arm, seeds in runs.items():
        for seed, cfg in seeds.items():
            again = dict(leaves(found.shared)) | found.arms[arm] | found.seeds.get(arm, {}).get(seed, {})
            nodes = ("fit", "losses", "student", "cache", "eval", "teacher", "fidelity", "budget", "trainer", "where")
            for node in nodes:
                its = {key: value for key, value in again.items() if key.startswith(f"{node}.")}
                assert its == dict(leaves(cfg[node], node))
            assert again["experiment.name"] == arm


# --- what a recipe says of itself -------------------------------------------------------------------------------------

RECIPES = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
FIELDS = ("Hypothesis", "Source", "Command", "Expected", "Cost")


def header(text: str) -> dict[str, str]:
    """The fields of a recipe's opening comment: name → text, lines joined by newlines."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        start = re.fullmatch(r"# ([A-Z][a-z]+) {2,}(.+)", line)
        if start:
            name, found[start.group(1)] = start.group(1), start.group(2)
        elif name and line.startswith("#   "):
            found[name] += "\n" + line[1:].strip()
    return found


def leads_nowhere(expected: str) -> list[str]:
    """Which of the places that `Expected` names do not exist: `README, "Section"` or a path, joined by semicolons."""
    missing = []
    for place in " ".join(expected.split()).removesuffix(".").split("; "):
        section = re.fullmatch(r'(README|\S+\.md), "(.+)"', place)
        if section is None:
            there = (ROOT / place).exists()
        else:
            path = ROOT / f"{section.group(1).removesuffix('.md')}.md"
            there = path.is_file() and section.group(2) in read_readme(path).sections
        missing += [] if there else [place]
    return missing


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_opens_with_its_hypothesis_source_command_expected_result_and_cost(recipe: Path) -> None:
    fields = header(recipe.read_text(encoding="utf-8").removeprefix("# @package _global_\n"))
    assert tuple(fields) == FIELDS
    assert all(re.search(r"[A-Za-z]{3}", text) for text in fields.values()), fields
    assert leads_nowhere(fields["Expected"]) == []
    for command in fields["Command"].splitlines():
        words = shlex.split(command)
        assert words[:3] == ["python", "train.py", f"+experiment={recipe.stem}"]
        composed(*words[2:])


def test_a_place_that_does_not_exist_is_noticed() -> None:
    assert leads_nowhere('README, "Results"; experiments/dante_retention.') == []
    assert leads_nowhere('README, "Outcomes"; experiments/none.') == ['README, "Outcomes"', "experiments/none"]
    assert leads_nowhere('experiments/README.md, "None".') == ['experiments/README.md, "None"']


def test_new_reads_what_a_comparison_really_writes(tmp_path: Path) -> None:
    """Not a hand-written comparison: small finished runs, compared; their factors come along."""
    runs = tmp_path / "runs"
    points = []
    for order, of_order in (("shuffled", 0.0), ("sorted", 0.01)):
        for anchor, of_anchor in (("off", 0.0), ("on", -0.1)):
            arm = f"{order}-{anchor}"
            paths = write_arm(runs, arm, shift=of_order + of_anchor, config={"fit.order": order, "fit.anchor": anchor})
            levels = {"order": order, "anchor": anchor}
            points += [point(run, arm, seed, levels=levels) for seed, run in enumerate(paths, start=1)]
            for run in paths:
                (run / "manifest.json").write_text(json.dumps({"steps": {}, "environment": {"git": "abc"}}))
    source = write_sweep(runs, "factorial", points, baseline="shuffled-off")
    write_comparison([source], source)
    folder = new(tmp_path / "experiments", "factorial", source)
    results = read_results(folder / "results.json")
    assert set(results.arms) == {"shuffled-off", "shuffled-on", "sorted-off", "sorted-on"}
    assert results.primary == ["heldout bits_per_byte"]
    named = {one.name: one for one in results.differences if one.metric == "heldout bits_per_byte"}
    anchor = named["anchor: on − off (2 pairs of arms)"]
    assert (anchor.pairs, anchor.arms) == (2, None)
    assert anchor.difference == pytest.approx(-0.1, abs=0.01)
    assert named["sorted-on − shuffled-off"].p_adjusted is not None
    assert {str(fault).split(" has an unfilled TODO")[0] for fault in check(folder) if "TODO" in str(fault)} == {
        f"the section {name!r}" for name in ("Question", "Hypothesis", "Verdict")
    }
