"""The model card of a release: recipe, compute, limits and licences; results are filled in by the report."""

import json
from pathlib import Path
from typing import Any

from dante.look.page import environment
from dante.release.settings import Settings
from dante.run.step import Step


def model_card(step: Step[Settings], parameters: int) -> str:
    """README.md of the release: YAML front matter with `model-index`, then recipe, compute, limits and licences.

    Args:
        step: the release step, whose inputs hold teacher.json, manifest.json, init.json, summary.json and step.json.
        parameters: number of parameters of the released model, a tied head counted once.
    """
    teacher, cache = _read(step.inputs["teacher"] / "teacher.json"), _read(step.inputs["cache"] / "manifest.json")
    facts = {
        "name": step.settings.name,
        "dtype": step.settings.dtype,
        "parameters": parameters,
        "fingerprint": step.fingerprint,
        "experiment": step.settings.experiment,
        "teacher": teacher,
        # A mixture that was made of a dense model teaches on that model's answers.
        "writer": (cache.get("teacher") or {}).get("name", teacher["name"]),
        "init": _read(step.inputs["init"] / "init.json"),
        "cache": cache,
        "fits": _fits(step),
    }
    # Markdown made of settings and counts: no text of a model is in it, so nothing is escaped for HTML.
    templates = environment("dante.release", ".")
    templates.filters |= {"plain": _plain, "settings_rows": _flat}
    return templates.get_template("model_card.md.jinja").render(facts)


def _fits(step: Step[Settings]) -> list[dict[str, Any]]:
    """Settings and `summary.json` of the fits that led to the release, the last one's behind the others.

    `fit` names the one whose weights are released; a recipe of several fits gives the step the others, too.
    """
    names = [name for name, folder in step.inputs.items() if name != "fit" and (folder / "summary.json").is_file()]
    described = []
    for name in [*names, "fit"]:
        folder = step.inputs[name]
        own = _read(folder / "step.json")
        label = own.get("label", name) if names else ""
        described.append(
            {"label": label, "settings": own.get("settings", {}), "summary": _read(folder / "summary.json")}
        )
    return described


def trained_seed(fit: Path) -> int | None:
    """The seed that a fit's step was made with."""
    return _read(fit / "step.json").get("settings", {}).get("seed")


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as rows `(dotted key, value)`, in their order."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
    return rows


def _plain(value: Any) -> str:
    """A value as the text of one Markdown table cell."""
    if value is None:
        value = "–"
    elif isinstance(value, float):
        value = f"{value:.6g}"
    elif isinstance(value, list | tuple):
        value = ", ".join(_plain(item) for item in value)
    elif isinstance(value, dict):
        value = ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
