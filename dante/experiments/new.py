"""An experiment's folder from the template, and its results from a sweep or a comparison."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dante.errors import DanteError
from dante.experiments.comparison import Comparison, read_comparison
from dante.experiments.configuration import configuration
from dante.experiments.index import between, with_results
from dante.experiments.runs import made_with, read_config, wall_s
from dante.experiments.schema import Configuration, Results
from dante.experiments.table import results_table
from dante.look.page import environment
from dante.system.files import write_json, write_text

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_ABOUT_CONFIG = {
    "recorded": "# Recorded by the runs: what the arms share, then what each changes.\n",
    "composed": "# Composed from the command after the runs: what the arms share, then what each changes.\n",
}


@dataclass(frozen=True)
class Filled:
    """What a comparison says of an experiment."""

    results: Results
    configuration: Configuration
    comparison: Comparison


def new(experiments: Path, name: str, source: Path | None = None) -> Path:
    """Makes `experiments/<name>/`, with results, configuration and figures if a sweep or comparison is given.

    Raises:
        DanteError: the name is not one, the folder exists, or the source cannot be read; nothing is left behind.
    """
    if not _NAME.fullmatch(name):
        raise DanteError(f"{name!r} is no name for an experiment", allowed="lower-case letters, digits and _")
    folder = experiments / name
    if folder.exists():
        raise DanteError(
            f"the experiment {name!r} exists",
            where=str(folder),
            fix=f"another name; or `python -m dante.experiments fill {name} --from …` for its results alone",
        )
    filled = read(name, source) if source else None
    folder.mkdir(parents=True)
    write_text(folder / "README.md", _readme(name, filled))
    if filled:
        _write(folder, filled)
    return folder


def fill(folder: Path, source: Path) -> list[Path]:
    """Writes results, configuration and figures of an existing experiment anew, and its README's table of results.

    Raises:
        DanteError: there is no such experiment, or the source cannot be read.
    """
    if not (folder / "README.md").is_file():
        raise DanteError(
            f"there is no experiment {folder.name!r}",
            where=str(folder),
            fix=f"python -m dante.experiments new {folder.name}",
        )
    filled = read(folder.name, source)
    text = with_results(folder / "README.md", filled.results)
    write_text(folder / "README.md", text)
    return [folder / "README.md", *_write(folder, filled)]


def read(name: str, source: Path) -> Filled:
    """Results and configuration of what a sweep or comparison holds."""
    comparison = read_comparison(source)
    final = [run for seeds in comparison.runs.values() for run in seeds.values()]
    all_runs = [*final, *comparison.tuning_runs]
    results = Results(
        experiment=name,
        made_with=made_with(all_runs),
        wall_s=wall_s(all_runs),
        tuning=comparison.tuning,
        references=comparison.references,
        arms=comparison.arms,
        differences=comparison.differences,
        primary=comparison.primary,
        failed=comparison.failed,
    )
    configs = {arm: {seed: read_config(run) for seed, run in seeds.items()} for arm, seeds in comparison.runs.items()}
    return Filled(results, configuration(configs, "recorded"), comparison)


def write_configuration(path: Path, content: Configuration) -> None:
    """`config.yaml`, opened by a line that says where it comes from."""
    plain = content.model_dump()
    if not plain["seeds"]:
        del plain["seeds"]
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, _ABOUT_CONFIG[content.origin] + text)


def write_results(path: Path, content: Results) -> None:
    """`results.json`, without what it does not say."""
    write_json(path, content.model_dump(mode="json", exclude_defaults=True))


def _write(folder: Path, filled: Filled) -> list[Path]:
    write_results(folder / "results.json", filled.results)
    write_configuration(folder / "config.yaml", filled.configuration)
    for figure in filled.comparison.figures:
        shutil.copyfile(figure, folder / figure.name)
    return [folder / "results.json", folder / "config.yaml", *(folder / f.name for f in filled.comparison.figures)]


def _readme(name: str, filled: Filled | None) -> str:
    return (
        environment("dante.experiments")
        .get_template("README.md.jinja")
        .render(
            name=name,
            title=name.replace("_", " ").capitalize(),
            commands=filled.comparison.commands if filled else [],
            changes=_changes(filled.configuration) if filled else {},
            figures=[figure.name for figure in filled.comparison.figures] if filled else [],
            table=between("results", results_table(filled.results) if filled else ""),
            filled=filled is not None,
        )
        .rstrip("\n")
        + "\n"
    )


def _changes(content: Configuration) -> Mapping[str, list[str]]:
    return {arm: [f"{key}={_short(value)}" for key, value in keys.items()] for arm, keys in content.arms.items()}


def _short(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
