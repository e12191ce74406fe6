"""A run's directory: its lock, `config.yaml`, the links to its steps, `manifest.json`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dante import console
from dante.errors import DanteError
from dante.run.renamed import first_names
from dante.system import locks
from dante.system.files import write_text

STORE = ".steps"
# Keys that may differ between two starts of the same run: where it runs and how, and what a comparison makes of it, not
# what it computes; and short names, which stand where they are used, too.
_NOT_IDENTITY = {
    "prompts",
    "engine",
    "only",
    "on_existing",
    "dry_run",
    "trainer",
    "logger",
    "run",
    "decided",
    "control",
}

_ABSENT = "absent"

# Set for a point of a sweep: wait for a run that another process works on, instead of refusing it.
WAIT_FOR_RUN = "DANTE_WAIT_FOR_RUN"


@contextmanager
def opened(run_dir: Path, cfg: dict[str, Any], steps: dict[str, str]) -> Iterator[None]:
    """Hold the run while it is worked on, with its configuration checked and stored.

    A configuration binds what was finished with it: as long as every finished step is one of this recipe, too, the new
    configuration takes the old one's place.

    Args:
        run_dir: made if it is not there.
        cfg: the checked configuration.
        steps: by label the name of the directory in the store that each step of the recipe has, or will have.

    Raises:
        DanteError: it is being worked on by another process, exists with another configuration, or lost its steps.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = run_dir / ".lock"
    # A sweep that was killed may have left a point that is just stopping.
    waiting = _say_waiting if os.environ.get(WAIT_FOR_RUN) else None
    try:
        with locks.hold(lock, waiting):
            _refuse_if_moved(run_dir, cfg)
            _check_configuration(run_dir, cfg, steps)
            stored = yaml.safe_dump(cfg, sort_keys=False, allow_unicode=True)
            write_text(run_dir / "config.yaml", stored)
            yield
    except locks.Busy as busy:
        raise DanteError(
            f"the run {cfg['run']['name']!r} is being worked on by {busy}",
            where=str(lock),
            fix="wait until that has ended, stop it, or give this one another run.name",
        ) from None


def begun(run_dir: Path) -> dict[str, Any]:
    """The stored configuration of a run that holds finished steps; nothing for one that does not."""
    stored = run_dir / "config.yaml"
    if not stored.is_file() or not any(path.is_symlink() for path in run_dir.iterdir()):
        return {}
    return _read(stored)


def _say_waiting(owner: str) -> None:
    console.note(f"{owner} is working on this run; waiting for it")


def _check_configuration(run_dir: Path, cfg: dict[str, Any], steps: dict[str, str]) -> None:
    stored = run_dir / "config.yaml"
    if not stored.is_file():
        return
    if cfg["on_existing"] == "error":
        raise DanteError(
            f"the run {cfg['run']['name']!r} exists",
            where=str(run_dir),
            fix="on_existing=resume to continue it, on_existing=overwrite to redo it, or another run.name",
        )
    if cfg["on_existing"] == "overwrite":
        return
    differing = _differences(_read(stored), cfg)
    if not differing:
        return
    shown = "; ".join(differing[:8]) + (f"; and {len(differing) - 8} more" if len(differing) > 8 else "")
    bound = [label for label, target in _links(run_dir).items() if steps.get(label) != target]
    if bound:
        raise DanteError(
            f"the run {cfg['run']['name']!r} was started with another configuration: {shown}; "
            f"{', '.join(bound)} finished with it",
            where=str(stored),
            fix="a name for the sweep, which its runs then carry: hydra.sweeper.name=NAME"
            if os.environ.get(WAIT_FOR_RUN)
            else f"run.name={cfg['run']['name']}-2 for a run of its own, or on_existing=overwrite",
        )
    console.note(f"no finished step of this run depends on what has changed, so it goes on with: {shown}")


def _read(stored: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(stored.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        content = str(error).splitlines()[0]
    if not isinstance(content, dict):
        raise DanteError(
            "the run's stored configuration is damaged, so it cannot be compared with this one",
            where=str(stored),
            fix="delete that file if this is the run's configuration; its steps are found by their fingerprints",
        )
    return content


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`key: old → new` wherever two configurations differ in what is part of a run's identity."""
    both = old.get("steps", {}).keys() & new.get("steps", {}).keys()  # a step more or less changes no other
    before, after = (
        {k: v for k, v in c.items() if k not in _NOT_IDENTITY | {"steps"}}
        | {"steps": {label: {"changes": c["steps"][label].get("changes") or {}} for label in sorted(both)}}
        for c in (old, new)
    )
    return list(_differing(first_names(before), first_names(after), ""))


def _differing(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(k for k in old if k not in new)]:
            yield from _differing(old.get(key, _ABSENT), new.get(key, _ABSENT), f"{path}.{key}" if path else str(key))
    elif _plain(old) != _plain(new):
        yield f"{path}: {_shown(old)} → {_shown(new)}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    """A part by its name and arguments, anything else as it is."""
    if not isinstance(value, dict) or not value:
        return str(value)
    arguments = ", ".join(f"{key}={_shown(child)}" for key, child in value.items() if not str(key).startswith("_"))
    return f"{str(value.get('_target_', '')).rpartition('.')[2]}({arguments})"


def _refuse_if_moved(run_dir: Path, cfg: dict[str, Any]) -> None:
    """A run that was moved without its steps would silently make all of them again."""
    if cfg["on_existing"] == "overwrite":
        return
    store = run_dir.parent / STORE
    links = _links(run_dir)
    # A step that was made here and is gone (deleted, put aside) left its lock, and is made again.
    stored_steps = {p.name.lstrip(".").partition(".")[0] for p in store.iterdir()} if store.is_dir() else set()
    for label, target in links.items():
        if target in stored_steps:
            continue
        raise DanteError(
            f"the run's links lead nowhere ({label} → ../{STORE}/{target}): it was moved or copied without its steps",
            where=str(run_dir),
            fix=f"move the folder {STORE} that lay beside it to {store} as well (runs/ moves as a whole), or make all "
            "steps again with on_existing=overwrite",
        )


def _links(run_dir: Path) -> dict[str, str]:
    """The run's finished steps: by label the name of the directory that each leads to."""
    return {p.name: Path(os.readlink(p)).name for p in run_dir.iterdir() if p.is_symlink()}


def link(run_dir: Path, label: str, directory: Path) -> None:
    """Let `run_dir/label` lead to a finished step; the old link stays until the new one takes its place."""
    path, target = run_dir / label, os.path.relpath(directory, run_dir)
    if path.is_symlink() and os.readlink(path) == target:
        return
    if path.exists() and not path.is_symlink():
        raise DanteError(
            f"{label!r} is in the way: the run's link to its step belongs there",
            where=str(path),
            fix="move it away; a run copied with its links followed (cp -L) holds copies of its steps",
        )
    temporary = run_dir / f".{label}.link"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
