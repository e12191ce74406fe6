"""What the runs of an experiment recorded of themselves: configuration, revision, versions, hardware, time."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from dante.errors import DanteError
from dante.experiments.schema import Hardware, MadeWith
from dante.system.files import STEP_FILE, read_json


def read_config(run: Path) -> dict[str, Any]:
    """A run's resolved configuration.

    Raises:
        DanteError: it has none, or what is there is not YAML.
    """
    path = run / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise DanteError(
            f"the run {run.name} has no readable configuration ({str(error).splitlines()[0]})",
            where=str(path),
            fix="keep a sweep's runs beside its directory, as the sweep made them",
        ) from None
    return dict(content)


def made_with(runs: Iterable[Path]) -> MadeWith:
    """Revision, versions and hardware of the runs. Where they differ, a revision names all and the rest is null."""
    runs = list(runs)
    environments = [manifest.get("environment", {}) for manifest in map(_manifest, runs)]

    def common(key: str) -> Any:
        values = [environment.get(key) for environment in environments]
        return values[0] if values and all(value == values[0] for value in values) else None

    hardware = common("hardware")
    revisions = sorted({environment["git"] for environment in environments if environment.get("git")})
    return MadeWith(
        git=", ".join(revisions) or None,
        date=_last_day(runs),
        python=common("python"),
        packages=common("packages"),
        hardware=Hardware.model_validate(hardware) if hardware else None,
    )


def wall_s(runs: Iterable[Path]) -> float | None:
    """Seconds that the runs' steps took, a step that several share counted once; None where one is not known."""
    steps = {
        (step["stage"], step["fingerprint"]): step["wall_s"]
        for run in runs
        for step in _manifest(run).get("steps", {}).values()
        if step.get("complete")
    }
    known_seconds = [seconds for seconds in steps.values() if seconds is not None]
    return round(sum(known_seconds), 1) if known_seconds and len(known_seconds) == len(steps) else None


def _manifest(run: Path) -> dict[str, Any]:
    path = run / "manifest.json"
    return dict(read_json(path)) if path.is_file() else {}


def _last_day(runs: Iterable[Path]) -> str | None:
    """Day of the youngest `step.json`: a step writes it last [I]."""
    ended = [path.stat().st_mtime for run in runs for path in run.glob(f"*/{STEP_FILE}")]
    return datetime.fromtimestamp(max(ended), UTC).date().isoformat() if ended else None
