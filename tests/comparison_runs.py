"""Finished runs as a comparison reads them: small files that look like real ones, where the pipeline puts them."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.report_run import SUITES

Json = dict[str, Any]
ANSWERS = 40
LEVELS = {"teacher": 0.62, "init": 1.95, "trigram": 1.83}
CONFIG: Json = {
    "seed": 1,
    "run": {"name": "x", "dir": "runs/x"},
    "only": None,
    "where": {"scale": "pocket"},
    "experiment": {"name": "sft", "title": "SFT", "hypothesis": "none", "source": "none"},
    "fit": {"lr": 1e-3, "steps": 20, "curriculum": {"_target_": "dante.data.curriculum.Shuffled"}},
    "losses": {"ce": {"_target_": "dante.losses.ce.CE", "weight": {"value": 1.0}}},
    "student": {"name": "small", "init": {"_target_": "x.KeepLayers", "layers": None}},
    "teacher": {"name": "big"},
    "cache": {"seed": 0},
    "eval": {"seed": 0},
    "steps": {
        label: {"stage": label, "settings": {}} for label in ("teacher", "cache", "init", "fit", "release", "eval")
    },
}
SHAPE = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "vocab_size": 512, "dtype": "bfloat16"}


def write_arm(root: Path, name: str, seeds: tuple[int, ...] = (1, 2, 3), **options: Any) -> list[Path]:
    """Writes one run per seed; see `write_run`."""
    return [write_run(root, f"{name}-s{seed}", seed, **options) for seed in seeds]


def write_run(
    root: Path, name: str, seed: int, *, shift: float = 0.0, experiment: str = "sft", config: Json | None = None,
    shape: Json | None = None, teacher: str = "big", shards: str = "aa", texts: str = "t", flops: float = 1e12,
    compute: Json | None = None, rows: Json | None = None, fit: bool = True,
) -> Path:  # fmt: skip
    """One run's directory with copies of its steps.

    Args:
        root: where runs lie. name: of the run. seed: of its training.
        shift: added to the student's bits per byte.
        experiment, config: changes of the configuration, keys with dots.
        shape, teacher, shards, texts: what decides on the table.
        flops, compute: cost; `compute` is the block of `summary.json`.
        rows: changes of every row of the student, e.g. its decoding.
        fit: whether there is a training step.
    """
    folder = root / name
    settings = copy.deepcopy(CONFIG)
    settings |= {"seed": seed, "run": {"name": name, "dir": f"runs/{name}"}}
    settings["experiment"]["name"] = experiment
    for key, value in (config or {}).items():
        put(settings, key, value)
    write(folder / "config.yaml", yaml.safe_dump(settings))
    step(folder / "teacher", "teacher", "t0")
    write(folder / "teacher/teacher.json", {"name": teacher, "sha256": teacher})
    step(folder / "cache", "cache", f"c{shards}")
    counts = {"train": 200, "heldout": ANSWERS, "validation": 10, "teacher_tokens": 20_000}
    write(folder / "cache/manifest.json", {"counts": counts, "shards": [{"file": "x", "sha256": shards}]})
    step(folder / "init", "init", "i0")
    write(folder / "init/init.json", {"name": "small", "parameters": 107_000})
    if fit:
        step(folder / "fit", "fit", name, {"cache": f"c{shards}"})
        write_fit(folder / "fit", seed, shift, flops, compute)
    step(folder / "release", "release", name)
    write(folder / "release/config.json", SHAPE | (shape or {}))
    step(folder / "eval", "eval", name)
    write_evaluation(folder / "eval", seed, shift, texts, rows or {})
    return folder


def write_fit(folder: Path, seed: int, shift: float, flops: float, compute: Json | None) -> None:
    rng = np.random.default_rng(seed)
    lines = [{"step": n, "loss": 3 / n, "ce_nats": 2 + shift + 3 / n + 0.1 * rng.normal(), "supervised_tokens": 100}
             for n in range(1, 31)]  # fmt: skip
    write(folder / "metrics.jsonl", lines)
    summary = {"steps": 30, "tokens": 5000, "flops": flops, "wall_s": 12.0, "device_hours": 0.01, "peak_mem_gib": 1.5}
    write(folder / "summary.json", summary | ({"compute": compute} if compute else {}))


def write_evaluation(folder: Path, seed: int, shift: float, texts: str, changes: Json) -> None:
    """Bits per byte with a part of the answer, of the seed and of both; accuracy; an error without items."""
    hard = np.random.default_rng(0).normal(1, 0.2, ANSWERS)
    rng = np.random.default_rng(1000 * seed + round(1e6 * abs(shift)))
    of_seed = 0.003 * np.random.default_rng(seed).normal() + 0.001 * rng.normal()
    items = []
    for index in range(ANSWERS):
        size = 200 + 7 * index
        value = hard[index] + of_seed + shift + 0.02 * rng.normal()
        hits = int(size / 4 * np.clip(1 - value / 2, 0.05, 0.95))
        student = {"bits_per_byte": [size * value, size], "top1_accuracy": [hits, size // 4]}
        items.append({
            "id": f"r{index:03d}", "text": f"{texts}{index}",
            "slices": [f"domain={('chat', 'code')[index % 2]}"],
            "models": {m: {"bits_per_byte": [size * v, size]} for m, v in LEVELS.items()} | {"student": student},
        })  # fmt: skip
    rows = []
    for task, chosen in (("heldout", items), ("heldout/domain=code", items[1::2])):
        for model in ("student", *LEVELS):
            rows.append(row(model, task, "bits_per_byte", ratio(chosen, model, "bits_per_byte"), len(chosen)))
        rows.append(row("student", task, "top1_accuracy", ratio(chosen, "student", "top1_accuracy"), len(chosen)))
    rows.append(row("student", "heldout", "ece", 0.05 + shift + of_seed, ANSWERS))
    rows.append(row("student", "humaneval", "pass@1", 0.3 - shift + of_seed, 164))
    for one in rows:
        one |= changes if one["model"] == "student" else {}
    write(folder / "eval.json", {"rows": rows, "precision": "bf16", "suites": SUITES})
    write(folder / "heldout" / "items.jsonl", items)


def ratio(items: list[Json], model: str, metric: str) -> float:
    above, below = zip(*(item["models"][model][metric] for item in items), strict=True)
    return sum(above) / sum(below)


def row(model: str, task: str, metric: str, value: float, n: int) -> Json:
    return {"model": model, "task": task, "metric": metric, "value": value, "stderr": None, "n": n, "n_shot": 0,
            "harness": "dante", "harness_version": "1", "decoding": "teacher-forced", "seed": 0}  # fmt: skip


def write_sweep(root: Path, name: str, points: list[Json], **fields: Any) -> Path:
    sweep = {"sweep": name, "command": f"python train.py +sweep={name}", "baseline": None, "compute": None,
             "tuning": None, "points": points}  # fmt: skip
    write(root / name / "sweep.json", sweep | fields)
    return root / name


def point(run: Path, arm: str, seed: int, **fields: Any) -> Json:
    usual = {"phase": "final", "overrides": ["+experiment=sft", f"seed={seed}"], "status": "done", "error": None}
    return {"run": run.name, "arm": arm, "seed": seed} | usual | fields


def step(folder: Path, label: str, fingerprint: str, inputs: Json | None = None) -> None:
    write(folder / "step.json", {"label": label, "stage": label, "fingerprint": fingerprint, "inputs": inputs or {},
                                 "settings": {}, "wall_s": 1.0, "files": {}})  # fmt: skip


def put(settings: Json, key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        settings = settings.setdefault(part, {})
    if value is None:
        settings.pop(last, None)
    else:
        settings[last] = value


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(json.dumps(line) + "\n" for line in content)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
