"""What was read → what is said, the same for the page and for Markdown."""

import os
from pathlib import Path
from typing import Any

from dante.report.one_run import answers, constraint, cost, footprint, recipe, results, sentences, tokens
from dante.report.read import Json, Run
from dante.report.settings import Settings
from dante.report.words import MODELS, flat, plain

CACHE_FACTS = ("counts", "decoding", "engine", "filters", "licences")


def content(run: Run, settings: Settings, links: list[Json]) -> dict[str, Any]:
    """Everything the templates show, as plain values: they only lay it out.

    Args:
        run: what was read.
        settings: the report step's.
        links: see `file_links`.
    """
    experiment, name, options = settings.experiment, settings.run.name, settings.report
    cached: Json = {key: run.cache[key] for key in CACHE_FACTS if key in run.cache}
    return {
        "name": name,
        "experiment": experiment,
        "headline": results.headline(run),
        "undecided": results.undecided(run),
        "recipe": recipe.sentences(run),
        "command": recipe.command(run, name, experiment.name, options.scale, options.seed),
        "exact": recipe.exact(f"runs/{name}", name),
        "tiles": results.tiles(run),
        "models": [(model, MODELS.get(model, model)) for model in results.models(run)],
        "table": results.main_table(run),
        "pairs": results.pair_sentences(run),
        "interval_note": results.confidence_note(run),
        "slices": results.all_slices(run),
        "retention": results.slices(run, "retention"),
        "retention_sentences": results.retention_sentences(run),
        "notes": run.evaluation.get("notes", []),
        "heldout": results.scored(run),
        "precision": run.evaluation.get("precision", ""),
        "commands": run.evaluation.get("commands", {}),
        "parting": tokens.sentence(run),
        "said": sentences.sentences(run),
        "kept_tables": sentences.tables(run),
        "has_examples": bool(run.sentence_examples),
        "generations": answers.shown(run, options.generations),
        "asked": len(run.generations),
        "stop_sentences": answers.summary(run),
        "cached_side": answers.cached_side(run),
        "what_loops": answers.what_loops(run),
        "constraint": constraint.sentences(run),
        "cost": cost.facts(run),
        "cost_unit": cost.unit(run),
        "footprint": footprint.rows(run),
        "footprint_note": footprint.note(run),
        "steps": cost.step_table(run),
        "total": cost.total(run),
        "generation_cost": cost.generation_sentence(run),
        "published": cost.published_sentence(run, options.published),
        "who": who(run),
        "settings": [(fit.label, flat(fit.settings)) for fit in run.fits if fit.settings],
        "cache": flat(cached),
        "links": links,
    }


def file_links(run: Run, inputs: dict[str, Path], out: Path, name: str) -> list[Json]:
    """Addresses of the run's files, relative to the report.

    They go up to the directory that holds the runs and their store of steps. `runs/NAME/report/` and
    `runs/.steps/report-…/` both lie two levels below it, so a link works from either.
    """
    runs = out.absolute().parent.parent
    base = Path("../..")
    run_files = [(file, str(base / name / file)) for file in ("config.yaml", "manifest.json")]
    links: list[Json] = [{"label": "run", "files": run_files}]
    for label, folder in inputs.items():
        place = base / os.path.relpath(folder.absolute(), runs)
        links.append({"label": label, "files": [(file, str(place / file)) for file in run.files[label]]})
    return links


def who(run: Run) -> list[tuple[str, str]]:
    """Teacher, initialisation and environment in a few rows."""
    rows = [("teacher", _named(run.teacher)), ("initialisation", _named(run.init))]
    if run.teacher_parameters:
        rows.append(("teacher's parameters", f"{run.teacher_parameters:,}"))
    if "parameters" in run.init:
        rows.append(("student's parameters", f"{run.init['parameters']:,}"))
    environment: Json = next((s["environment"] for s in reversed(run.steps.values()) if "environment" in s), {})
    for key in ("hardware", "packages", "git", "python"):
        value = environment.get(key)
        if isinstance(value, dict):
            value = ", ".join(f"{part}: {plain(fact)}" for part, fact in value.items())
        rows.append((key, str(value or "")))
    return [(key, value) for key, value in rows if value]


def _named(thing: Json) -> str:
    return f"{thing['name']} ({thing.get('licence') or 'licence not recorded'})" if "name" in thing else ""
