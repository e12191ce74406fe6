"""A finished run as the report reads it: small files that look like real ones, where the pipeline would put them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dante.evaluate.suites.continuation.suite import Continuation
from dante.evaluate.suites.generation import Generation
from dante.evaluate.suites.heldout.suite import Heldout
from dante.evaluate.suites.retention import Retention
from dante.run.stages import STAGES
from dante.run.step import Step
from dante.text.repetition import RepetitionLimit

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>\n```\n## not a heading {{ 7*7 }}"
NAME = "dante_mosaic-pocket-s1"
SETTINGS = {
    "seed": 1,
    "fit": {
        "steps": 120, "lr": 4e-4, "batch": {"unit": "records", "size": 8},
        "curriculum": {"_target_": "dante.data.curriculum.SortedOnceRepeat"},
    },
    "fidelity": {"name": "sound"},
    "losses": {
        "cwce": {"_target_": "x", "floor": 0.3, "slope": 1.5, "midpoint": 1.5,
                 "weight": {"_target_": "dante.losses.schedule.HoldThenRamp", "start": 0.7, "end": 1.0, "hold": 0.1}},
        "tea": {"reduction": "relative", "calibrate": True,
                "weight": {"_target_": "dante.losses.schedule.Linear", "start": 1.0, "end": 0.1}},
    },
}  # fmt: skip
EXPERIMENT = {
    "name": "dante_mosaic",
    "title": "DANTE on SmolLM2",
    "hypothesis": "Confidence weights, an anchor and an entropy curriculum beat plain fine-tuning.",
    "source": "DANTE-Mosaic-3.5B card",
}
TEACHER_SHAPES = {"embed": (7, 4), "body": (4, 5)}  # 48 numbers
LABELS = ("teacher", "cache", "init", "fit", "release", "eval-teacher", "eval-init", "eval")


SUITES = {
    suite.name: {"heading": suite.heading, "counts": suite.counts,
                 "metrics": {key: vars(metric) for key, metric in suite.metrics.items()}}
    for suite in (
        Heldout(bins=15, validation=False, shown=12), Retention(wanted=True),
        Generation(4, 160, RepetitionLimit(3, 40, 5)), Continuation(60, 200),
    )
}  # fmt: skip


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(line) + "\n" for line in content) if path.suffix == ".jsonl" else json.dumps(content)
    path.write_text(lines)


def metrics(rng: np.random.Generator, steps: int) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, steps + 1):
        t = step / steps
        ce = 2.1 + 6.0 * np.exp(-9 * t) + rng.normal(0, 0.12)
        drift = 0.9 * t**0.6
        rows.append({
            "step": step, "epoch": step / 60, "loss": ce + 0.01 * drift, "ce_nats": ce * 1.4, "loss/cwce": ce,
            "loss/tea": drift**2 * 0.02, "weight/cwce": 0.7 + 0.3 * max(0, t - 0.1) / 0.9, "weight/tea": 1 - 0.9 * t,
            "cwce/mean_weight": 0.9 - 0.5 * t, "lr": 4e-4 * min(1, t / 0.1) * (0.5 + 0.5 * np.cos(np.pi * t)),
            "grad_norm": 1.2 + 4 * np.exp(-6 * t) + abs(rng.normal(0, 0.3)), "tea/drift_frobenius": drift,
            "tea/drift_rms": drift / 5000, "tea/gradient_ratio": 0.1 * t, "skipped_updates": int(t > 0.5),
            "supervised_tokens": int(900 + rng.integers(-90, 90)),
            "tokens_per_s": 255 + rng.normal(0, 6), "supervised_tokens_per_s": 150 + rng.normal(0, 4),
            "mfu": 0.42 + rng.normal(0, 0.01), "peak_mem_gib": 3.1, "data_wait_share": 0.002 + rng.uniform(0, 0.001),
            **({"spike": True, "loss": 9.0} if step == 80 else {}),
        })  # fmt: skip
    return rows


def evaluation(rng: np.random.Generator, n: int, shift: float = 0.0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """`eval.json` and the lines of `items.jsonl`; `shift` moves the student's bits per byte."""
    level = {"teacher": 0.62, "init": 1.95, "student": 1.08 + shift, "unigram": 2.71, "trigram": 1.83}
    items = []
    domains = ["chat", "code", "maths", "writing"]
    for index in range(n):
        size, hard = int(rng.integers(150, 900)), rng.normal(1, 0.2)
        items.append({
            "id": f"r{index:03d}", "text": f"{index:016x}",
            "slices": [f"domain={domains[index % 4]}", f"language={'it' if index % 7 == 0 else 'en'}"],
            "models": {m: {"bits_per_byte": [size * v * hard * (1 + rng.normal(0, 0.05)), size],
                           "top1_accuracy": [size // 8, size // 4]} for m, v in level.items()},
        })  # fmt: skip
    tasks = {"heldout": items} | {
        f"heldout/{field}={value}": [i for i in items if f"{field}={value}" in i["slices"]]
        for field, values in (("domain", domains), ("language", ["en", "it"]))
        for value in values
    }
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for task, chosen in tasks.items():
        needs = {m: ratio([i["models"][m]["bits_per_byte"] for i in chosen]) for m in level}
        for model in level:
            rows.append(row(model, task, "bits_per_byte", needs[model], len(chosen)))
        for other in ("init", "teacher", "trigram", "unigram"):
            gap = needs["student"] - needs[other]
            pairs.append(pair(other, task, "bits_per_byte", gap, 0.04, len(chosen)))
    return {"rows": rows, "pairs": pairs, "precision": "bf16", "suites": SUITES, "notes": [HOSTILE]}, items


def ratio(parts: list[list[float]]) -> float:
    return sum(above for above, _ in parts) / sum(below for _, below in parts)


def more_results(result: dict[str, Any]) -> None:
    """The measurements beside bits per byte on the cache's answers."""
    for model, accuracy in (("teacher", 0.85), ("init", 0.3), ("student", 0.7)):
        result["rows"].append(row(model, "heldout", "top1_accuracy", accuracy, 60, stderr=0.01))
        result["rows"].append(row(model, "heldout", "never_heard_of", accuracy, 60, stderr=None))
        result["rows"].append(row(model, "continuation", "acc_norm", accuracy - 0.1, 200, harness="lm-eval"))
    for model, share in (("init", 0.0), ("student", 0.5)):
        result["rows"].append(row(model, "generation", "stop_share", share, 4, decoding="greedy, max_new_tokens=160"))
    for task, teacher, before, after in (
        ("retention/language", 1.0, 1.5, 1.7), ("retention/language=fr", 1.0, 1.5, 1.7),
        ("retention/code", 0.9, 2.0, 1.8), ("retention/code=python", 0.9, 2.0, 1.8),
    ):  # fmt: skip
        for model, value in (("teacher", teacher), ("init", before), ("student", after)):
            result["rows"].append(row(model, task, "bits_per_byte", value, 12))
        result["pairs"].append(pair("init", task, "bits_per_byte", after - before, 0.05, 12))
    bins = [{"low": k / 15, "high": (k + 1) / 15, "tokens": 100 * k, "confidence": (k + 0.5) / 15 if k else None,
             "accuracy": 0.9 * (k + 0.5) / 15 if k else None} for k in range(15)]  # fmt: skip
    calibrated = {model: {"calibration": {"ece": 0.071, "bins": bins}} for model in ("teacher", "init", "student")}
    result["details"] = {"heldout": calibrated, "generation": {"student": {"max_new_tokens": 160}}}
    result["commands"] = {"continuation": "python -m lm_eval --tasks continuation"}


def row(model: str, task: str, metric: str, value: float, n: int, **other: Any) -> dict[str, Any]:
    same = {"stderr": 0.021, "n_shot": 0, "harness": "dante", "harness_version": "0", "decoding": "teacher-forced"}
    return same | {"model": model, "task": task, "metric": metric, "value": value, "n": n, "seed": 1} | other


def pair(other: str, task: str, metric: str, difference: float, reach: float, n: int) -> dict[str, Any]:
    interval = {"low": difference - reach, "high": difference + reach, "resamples": 1000, "confidence": 0.95}
    what = {"a": "student", "b": other, "task": task, "metric": metric, "difference": difference, "stderr": 0.02}
    return what | interval | {"n": n}


def generations() -> list[dict[str, Any]]:
    """Four prompts: the student stops twice, loops once, and is cut without a loop once."""
    code = "Here is a function:\n\n```python\ndef mean(values):\n    return sum(values) / len(values)\n```\n"
    loop = "The mean is the mean of the mean of " * 12
    student = [
        {"text": code[:80], "tokens": 41, "stopped": True, "repetition": 0.0},
        {"text": HOSTILE, "tokens": 30, "stopped": True, "repetition": 0.1},
        {"text": loop, "tokens": 160, "stopped": False, "repetition": 0.93},
        {"text": code, "tokens": 160, "stopped": False, "repetition": 0.49},
    ]
    prompts = ["Write a Python function that returns the mean of a list.", HOSTILE, "A loop?", "A long one?"]
    return [
        {"id": f"g{index}", "domain": HOSTILE if index == 1 else "code", "language": "en", "prompt": prompt,
         "answers": {"teacher": {"text": code, "tokens": None, "stopped": True},
                     "init": {"text": loop, "tokens": 160, "stopped": False, "repetition": 0.93},
                     "student": answer}}
        for index, (prompt, answer) in enumerate(zip(prompts, student, strict=True))
    ]  # fmt: skip


def write_run(root: Path) -> Step:
    """Writes `root/.steps/<stage>-<label>` and `root/<run>/<label>` links, and returns the report step of that run."""
    rng = np.random.default_rng(0)
    store = root / ".steps"
    folders = {label: store / f"{label.split('-')[0]}-{label.replace('-', '')}00" for label in LABELS}
    result, items = evaluation(rng, 60)
    more_results(result)
    write(folders["teacher"] / "teacher.json", {"name": "SmolLM2-135M-Instruct", "licence": "Apache-2.0"})
    tensors = {name: np.zeros(shape, dtype=np.float16) for name, shape in TEACHER_SHAPES.items()}
    (folders["teacher"] / "model").mkdir()
    save_file(tensors, folders["teacher"] / "model" / "model.safetensors")
    counts = {"records": 300, "train": 240, "heldout": 60, "teacher_tokens": 20_000}
    cache = {"counts": counts, "decoding": {"temperature": 0.0}, "filters": [{"name": "truncated", "dropped": 7}],
             "licences": {"prompts": "CC0"}, "shards": [{"file": "records-00000.jsonl"}]}  # fmt: skip
    write(folders["cache"] / "manifest.json", cache)
    write(
        folders["cache"] / "records-00000.jsonl", [{"output_entropy": float(h)} for h in rng.gamma(4, 0.15, size=300)]
    )
    init = {"name": "smollm2-14of30", "licence": "Apache-2.0", "parameters": 78_120_000, "layers": [0, 1, 2]}
    write(folders["init"] / "init.json", init)
    write(folders["fit"] / "metrics.jsonl", metrics(rng, 120))
    summary = {"steps": 120, "supervised_tokens": 108_000, "tokens": 131_000, "wall_s": 402.0, "device_hours": 0.1117,
               "devices": 1, "device_name": "CPU", "accelerator": "cpu", "tokens_per_s": 255.3, "peak_mem_gib": 3.1,
               "flops": 6.1e13, "mfu": 0.1, "supervised_tokens_per_s": 151.2, "startup_s": 8.2, "peak_tflops": 1.5,
               "peak_source": "measured", "measured_peak_tflops": {"bf16": 1.5, "fp32": 0.2}, "peak_mem_scope": "fit",
               "data_wait_share": 0.002, "checkpoint_share": 0.021, "energy_j": 44_000.0, "skipped_updates": 1,
               "spikes": 1, "data": {"records": 960, "train_records": 240}}  # fmt: skip
    write(folders["fit"] / "summary.json", summary)
    write(folders["eval"] / "eval.json", result)
    write(folders["eval"] / "heldout/items.jsonl", items)
    write(folders["eval"] / "generations.jsonl", generations())
    write(folders["eval-teacher"] / "scores.json", {})
    write(folders["eval-init"] / "scores.json", {})
    write(folders["release"] / "config.json", {})
    (folders["release"] / "README.md").write_text(
        "---\nlicense: apache-2.0\nmodel-index:\n- name: x\n  results: []\n---\n\n# x\n\n"
        "## Results\n\nNot yet.\n\n## Recipe\n"
    )
    write(root / NAME / "config.yaml", {})
    write(root / NAME / "manifest.json", {})
    for label, folder in folders.items():
        write(folder / "step.json", {
            "label": label, "stage": "score" if "-" in label else label, "fingerprint": folder.name.split("-")[1],
            "wall_s": 405.0 if label == "fit" else 40.0, "files": {"a": {"bytes": 1_234_567}},
            "settings": SETTINGS if label == "fit" else {"source": {"path": None}} if label == "cache" else {},
            "environment": {"git": "abc", "python": "3.11.2", "hardware": {"cpu": "2 cores", "memory": "24 GiB"}},
        })  # fmt: skip
        (root / NAME / label).symlink_to(f"../.steps/{folder.name}")
    (root / NAME / "report").symlink_to("../.steps/report-f")
    return Step(
        label="report",
        stage="report",
        settings=STAGES["report"].typed(
            {
                "experiment": EXPERIMENT,
                "run": {"name": NAME},
                "report": {"generations": 3, "scale": "pocket", "seed": 1, "published": None},
            }
        ),
        resources={},
        inputs=folders,
        out=store / "report-f.partial",
        fingerprint="f",
        seed=0,
    )


def constrain(root: Path, name: str = "dual_penalty", steps: int = 200, frozen: int = 20) -> None:
    """Gives the run under `root` (see `write_run`) a loss with a multiplier, as training and evaluation log it.

    τ is frozen after `frozen` steps. Held out, the student is surer than its initialisation and more often right.
    """
    rng = np.random.default_rng(3)
    folder, lines, multiplier, coefficient = root / ".steps/fit-fit00", [], 0.0, 0.0
    for line in metrics(rng, steps):
        t = line["step"] / steps
        known = line["step"] > frozen
        bound = 0.0021 * (1 - 0.5 * max(0, t - 0.1) / 0.9)
        excess = 0.0021 * (0.62 + 0.38 * np.exp(-2.4 * t)) * rng.normal(1, 0.09) / (1 + 0.03 * coefficient)
        own = {
            "excess": excess, "bound": bound, "violation": excess - bound, "threshold": 0.212,
            "difficult_share": 0.2 - 0.07 * t + rng.normal(0, 0.006), "difficult_entropy": 3.4 - 0.5 * t,
            "easy_entropy": 0.62 - 0.2 * t + rng.normal(0, 0.02), "difficult_accuracy": 0.31 + 0.09 * t,
            "difficult_wrong": 0.69 - 0.09 * t, "easy_accuracy": 0.9 + 0.03 * t,
        }  # fmt: skip
        own |= {"multiplier": multiplier, "coefficient": coefficient}
        waiting = not known
        lines.append(line | {f"loss/{name}": 0.001 if known else 0.0, f"weight/{name}": 1.0}
                     | {f"{name}/{key}": None if waiting and key not in ("multiplier", "coefficient") else float(value)
                        for key, value in own.items()})  # fmt: skip
        if known:
            multiplier = max(0.0, multiplier + 10 / steps * (excess - bound) / 0.0021)
            coefficient = max(0.0, multiplier + (excess - bound) / 0.0021)
    write(folder / "metrics.jsonl", lines)
    summary = json.loads((folder / "summary.json").read_text())
    before, after = spread(rng, 9000, 0.27, 0.30, 64), spread(rng, 9100, 0.20, 0.38, 64)
    summary["losses"] = {name: {
        "signal": "predictive", "signal_axis": "predictive entropy H / log V", "guard": "label_is_argmax",
        "guard_words": "only where the label is the most likely token", "threshold": 0.212, "initial_bound": 0.0021,
        "multiplier": multiplier,
        "histograms": {"edges": np.linspace(0, 1, 65).tolist(), "before": before, "after": after},
    }}  # fmt: skip
    write(folder / "summary.json", summary)
    evaluated = root / ".steps/eval-eval00/eval.json"
    result = json.loads(evaluated.read_text())
    entropies = {
        model: {"edges": np.linspace(0, 1, 33).tolist()} | spread(rng, 12_000, mean, 0.32, 32)
        for model, mean in (("teacher", 0.08), ("init", 0.24), ("student", 0.12))
    }
    for model, spread_of in entropies.items():
        result["details"]["heldout"][model]["entropy"] = spread_of
    for model, nats in (("teacher", 0.86), ("init", 2.59), ("student", 1.3)):
        result["rows"].append(row(model, "heldout", "entropy_nats", nats, 60))
    write(evaluated, result)


def spread(rng: np.random.Generator, tokens: int, mean: float, unsure_right: float, bins: int) -> dict[str, list[int]]:
    """Counts over a signal in [0, 1]: many sure tokens, a tail of unsure ones, and the surer the more often right."""
    signal = np.clip(rng.gamma(0.55, mean / 0.9, size=tokens), 0, 0.93)
    right = rng.random(tokens) < unsure_right + (0.99 - unsure_right) * np.exp(-8 * signal)
    counts = (np.histogram(signal[chosen], bins, (0, 1))[0].tolist() for chosen in (right, ~right))
    return dict(zip(("right", "wrong"), counts, strict=True))


def part(root: Path) -> None:
    """Gives the run under `root` (see `write_run`) a teacher of its vocabulary: tables and tokens of two answers."""
    folder = root / ".steps/eval-eval00"
    result = json.loads((folder / "eval.json").read_text())
    for model, level in (("init", 0.3), ("student", 0.7)):
        result["details"]["heldout"][model]["agreement"] = {
            "position": [agreed(1, 5, 240, level), agreed(5, 9, 200, level - 0.1), agreed(9, None, 0, None)],
            "entropy": [agreed(0.0, 0.5, 300, level + 0.2), agreed(0.5, 2.0, 140, level - 0.2)],
        }
    write(folder / "eval.json", result)
    sides = {"r000": ["Ciao", " \n", "", "è", "<|im_end|>"], "r001": ["\u202eabc", HOSTILE, "<|im_end|>"]}
    write(folder / "heldout/tokens.jsonl", [
        {"id": identity, "prompt": HOSTILE if identity == "r001" else [{"role": "user", "content": "Say"}],
         "domain": HOSTILE, "language": "it",
         "models": {model: [token(text, factor * place) for place, text in enumerate(texts)]
                    for model, factor in (("init", 2.0), ("student", 0.1 if identity == "r000" else 3.0))}}
        for identity, texts in sides.items()
    ])  # fmt: skip


def agreed(low: float, high: float | None, tokens: int, agreement: float | None) -> dict[str, Any]:
    error = None if agreement is None else 0.02
    kl = None if agreement is None else 2 - agreement
    return {"low": low, "high": high, "tokens": tokens, "answers": tokens // 4, "agreement": agreement,
            "agreement_stderr": error, "kl_nats": kl, "kl_nats_stderr": error}  # fmt: skip


def token(text: str, kl: float) -> dict[str, Any]:
    own = {"bytes": {"": "\\xc3", "è": "\\xa8"}[text]} if text in ("", "è") else {}
    return {"text": text, **own, "kl_nats": kl, "agrees": kl < 1, "log_p": -kl,
            "teacher": {"token": text, "p": 0.5, "entropy_nats": 0.7},
            "model": {"token": HOSTILE, "p": 0.00002, "entropy_nats": 0.9}}  # fmt: skip
