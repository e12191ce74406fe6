"""What the README and the pages of docs/ tell a newcomer to type is what runs here, and their links lead somewhere."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import train
from dante.cost.estimate import estimate
from dante.run import pipeline
from dante.sweep.arguments import is_sweep
from tests.gguf_files import tiny_qwen, write_gguf
from tests.test_config import CONF, composed
from tests.test_evaluate_fidelity import tiny

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]}
LINES = [
    line
    for text in PAGES.values()
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in block.splitlines()
]
TYPED = dict.fromkeys(match.group(1) for line in LINES if (match := re.search(r"python train\.py (.*)", line)))
# Parts that the pages themselves define are run by tests/test_extending.py.
COMMANDS = [command for command in TYPED if not re.search(r"focal|my_texts|counted|parrot", command)]


def test_ci_runs_the_readme_s_test_command() -> None:
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()[-1]
    assert command.endswith("&& pytest -n 2 --dist loadfile")
    assert command in LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name}: {target}"
        if heading and linked.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
            assert heading in slugs, f"{page.name}: {target}"


def test_the_readme_is_read_in_five_minutes() -> None:
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert len(prose.split()) < 900


@pytest.mark.parametrize("command", [c for c in COMMANDS if not is_sweep(shlex.split(c, comments=True))])
def test_every_command_of_the_readme_composes(command: str, tmp_path: Path) -> None:
    if "FOLDER" in command:  # a model of the user's
        model, renderer = tiny(270, 0)
        for part in (model, renderer.tokenizer):
            part.save_pretrained(tmp_path / "mine")
    if "MODEL.gguf" in command:
        write_gguf(tmp_path / "mine.gguf", tiny_qwen(tied=True))
    command = command.replace("FOLDER", str(tmp_path / "mine")).replace("MODEL.gguf", str(tmp_path / "mine.gguf"))
    words = shlex.split(command, comments=True)
    cfg = composed(*words, f"run.dir={tmp_path}/run")
    assert estimate(cfg, pipeline.plan_steps(cfg)).parameters > 0


@pytest.mark.parametrize("command", [c for c in COMMANDS if is_sweep(shlex.split(c, comments=True))])
def test_every_sweep_of_the_readme_is_planned(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *shlex.split(command, comments=True), "dry_run=true"])
    assert train.main() == 0
    assert "sweep " in capsys.readouterr().out
    assert not any(tmp_path.rglob("sweep.json"))


ONE_ARM = 'hydra.sweeper.only_arms=[[shuffled,ce,"off"]]'


@pytest.mark.parametrize(
    "typed",
    [
        ["+sweep=dante_ablation", ONE_ARM, "hydra/launcher=basic"],
        ["+sweep=dante_ablation", ONE_ARM, "hydra/launcher=slurm", "hydra.launcher.partition=gpu"],
        ["+sweep=dante_ablation", ONE_ARM, "hydra.launcher.n_jobs=1"],
        ["+sweep=equal_tuning", "+experiment=sft", "hydra.sweeper.tune.grid={fit.lr:[1e-5,2e-5]}"],
    ],
)
def test_a_named_sweep_takes_another_launcher_and_another_grid(
    typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Points are composed without what was typed of the sweep itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *typed, "scale=smoke", "dry_run=true"])
    assert train.main() == 0, capsys.readouterr().err


def test_every_script_in_launch_is_named_in_the_readme() -> None:
    for script in (ROOT / "launch").iterdir():
        assert script.name in README, script.name


def test_every_file_of_the_configuration_is_reached_by_a_documented_choice() -> None:
    groups = {path.parent.relative_to(CONF).parts[0] for path in CONF.rglob("*.yaml") if path.parent != CONF}
    assert groups <= {
        "budget", "cache", "calibration", "card", "divergence", "engine", "eval", "experiment", "fidelity", "fit",
        "hydra", "init", "kept", "logger", "loss", "mixed", "pair", "prompts", "recipe", "report", "scale", "student",
        "selection", "suite", "supervision", "sweep", "teacher", "texts", "trainer",
    }  # fmt: skip
