"""What is wrong with an experiment's folder: one error per fault."""

from collections.abc import Iterator
from pathlib import Path

from dante.errors import DanteError
from dante.experiments.index import INDEX, folders, with_index, with_results
from dante.experiments.readme import OPENING, SECTIONS, TODO, Readme, read_readme
from dante.experiments.schema import Configuration, Results, read_configuration, read_results

FILES = ("README.md", "results.json", "config.yaml")
# A figure or a table larger than this is data, which a repository is the wrong place for.
MAX_FILE_BYTES = 300_000


def check_all(experiments: Path) -> list[DanteError]:
    """Every fault of every experiment and of the index.

    Raises:
        DanteError: there is no such directory.
    """
    faults = [fault for folder in folders(experiments) for fault in check(folder)]
    return faults + list(_index(experiments))


def check(folder: Path) -> list[DanteError]:
    """Every fault of one experiment.

    Raises:
        DanteError: there is no such folder.
    """
    if not folder.is_dir():
        experiment_names = ", ".join(p.name for p in folders(folder.parent)) if folder.parent.is_dir() else ""
        raise DanteError(f"there is no experiment {folder.name!r}", where=str(folder), allowed=experiment_names)
    missing = [name for name in FILES if not (folder / name).is_file()]
    faults = [
        DanteError(f"{folder.name} has no {name}", where=str(folder / name), fix="see experiments/README.md")
        for name in missing
    ]
    results: Results | None = None
    configuration: Configuration | None = None
    if "results.json" not in missing:
        try:
            results = read_results(folder / "results.json")
        except DanteError as fault:
            faults.append(fault)
    if "config.yaml" not in missing:
        try:
            configuration = read_configuration(folder / "config.yaml")
        except DanteError as fault:
            faults.append(fault)
    if results:
        faults += _results(folder, results, configuration)
    if "README.md" not in missing:
        readme = read_readme(folder / "README.md")
        faults += [*_sections(folder, readme), *_files(folder, readme)]
        if results:
            faults += _results_table(folder, results)
    faults += [
        DanteError(
            f"{path.name} has {path.stat().st_size:,} bytes",
            where=str(path),
            allowed=f"at most {MAX_FILE_BYTES:,}",
            fix="round what it holds, or draw the figure smaller",
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size > MAX_FILE_BYTES
    ]
    return faults


def _sections(folder: Path, readme: Readme) -> Iterator[DanteError]:
    path = str(folder / "README.md")
    if not readme.title:
        yield DanteError(f"{folder.name} has no title", where=path, fix="begin with a line such as `# What it asks`")
    for name in readme.doubled:
        yield DanteError(f"the section {name!r} stands twice", where=path, fix="keep one")
    missing = [name for name in SECTIONS if name not in readme.sections]
    for name in missing:
        yield DanteError(f"the section {name!r} is missing", where=path, fix=f"add `## {name}` in its place")
    order = [name for name in readme.sections if name in SECTIONS]
    if order != [name for name in SECTIONS if name in order]:
        yield DanteError(f"the sections stand as {', '.join(order)}", where=path, allowed=", ".join(SECTIONS))
    for name, text in readme.sections.items():
        if not text.strip():
            yield DanteError(f"the section {name!r} is empty", where=path, fix="fill it, or remove a free one")
        elif TODO in text:
            yield DanteError(f"the section {name!r} has an unfilled {TODO}", where=path, fix="write what it asks for")
        elif name in OPENING and readme.opening(name) is None:
            yield DanteError(
                f"the section {name!r} does not open with a bold line of its own, which the index repeats",
                where=path,
                fix="begin it with a paragraph such as `**Yes: it helps by 0.03 bits per byte.**`",
            )


def _files(folder: Path, readme: Readme) -> Iterator[DanteError]:
    path, root = str(folder / "README.md"), folder.parent.parent
    for name in readme.named_files():
        # A bare name lies in the folder or at the repository's root; `../other/README.md` is relative to the folder.
        if name not in FILES and not (folder / name).exists() and not (root / name).exists():
            yield DanteError(f"the README names {name}, which does not exist", where=path, fix="correct the name")
    for name in readme.named_choices():
        if not (root / name).is_file():
            yield DanteError(f"a command of the README needs {name}, which does not exist", where=path)
    shown = {Path(name).name for name in readme.figures()}
    for figure in sorted(folder.glob("*.png")):
        if figure.name not in shown:
            yield DanteError(
                f"the README does not show {figure.name}",
                where=path,
                fix=f"show it: ![what it is]({figure.name}); or remove it",
            )


def _results(folder: Path, results: Results, configuration: Configuration | None) -> Iterator[DanteError]:
    path = str(folder / "results.json")
    if results.experiment != folder.name:
        yield DanteError(f"results.json is of {results.experiment!r}", where=path, allowed=folder.name)
    measured = {metric for values in results.arms.values() for metric in values}
    for name in results.primary:
        if name not in measured:
            yield DanteError(
                f"the primary metric {name!r} is no arm's", where=path, allowed=", ".join(sorted(measured))
            )
    for difference in results.differences:
        unknown = [arm for arm in difference.arms or () if arm not in results.arms and arm not in results.references]
        if unknown:
            yield DanteError(
                f"the difference {difference.name!r} is of {unknown[0]!r}, which is no arm",
                where=path,
                allowed=", ".join([*results.arms, *results.references]),
            )
        if difference.low is not None and difference.high is not None and not difference.low <= difference.high:
            yield DanteError(f"the interval of {difference.name!r} ends before it begins", where=path)
    if configuration:
        result_arms, config_arms = set(results.arms), set(configuration.arms)
        if result_arms != config_arms:
            yield DanteError(
                "config.yaml and results.json do not have the same arms: "
                f"{', '.join(sorted(result_arms ^ config_arms))} in only one",
                where=str(folder / "config.yaml"),
            )


def _results_table(folder: Path, results: Results) -> Iterator[DanteError]:
    path = folder / "README.md"
    try:
        wanted = with_results(path, results)
    except DanteError as fault:
        yield fault
        return
    if wanted != path.read_text(encoding="utf-8"):
        yield _stale(f"{folder.name}'s table of results is not that of its results.json", path)


def _index(experiments: Path) -> Iterator[DanteError]:
    path = experiments / INDEX
    try:
        wanted = with_index(experiments)
    except DanteError as fault:
        yield fault
        return
    if wanted != path.read_text(encoding="utf-8"):
        yield _stale("the index of experiments is out of date", path)


def _stale(what: str, path: Path) -> DanteError:
    return DanteError(what, where=str(path), fix="python -m dante.experiments index")
