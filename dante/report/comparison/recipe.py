"""The commands that repeat each run."""

import shlex

from dante import console
from dante.report.comparison.runs.read import Trained
from dante.report.one_run import recipe


def command(run: Trained) -> str:
    """As it was typed, from the overrides that a sweep stores; otherwise with what a run's report spells out."""
    if run.point.overrides is None:
        config = run.config
        scale = config.get("where", {}).get("scale", "pocket")
        return recipe.command(run.files, run.name, config["experiment"]["name"], scale, run.seed)
    given = list(run.point.overrides)
    named = {word.lstrip("+").partition("=")[0] for word in given}
    words = ["python", "train.py"]
    if "experiment" not in named:
        words.append(f"+experiment={run.config['experiment']['name']}")
    words += given
    words += [] if "seed" in named else [f"seed={run.seed}"]
    words += [] if "run.name" in named else [f"run.name={run.name}"]
    return shlex.join(words)


def exact(run: Trained) -> str:
    """From the stored configuration, every key of it; beside the old run, which it leaves alone."""
    return recipe.exact(console.short(run.point.path.absolute()), run.name)
