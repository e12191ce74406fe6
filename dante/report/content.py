"""What was read → what is said: headline, tables and costs, the same for the page and for Markdown."""

from typing import Any

from dante.report.read import Json, Run

# How models are called in sentences.
NAMES = {"init": "the initialisation", "student": "the student", "teacher": "the teacher", "trigram": "the trigram",
         "unigram": "the unigram"}  # fmt: skip


def content(run: Run, experiment: Json, name: str, generations: int) -> dict[str, Any]:
    """Everything the templates show, as plain values: they only lay it out."""
    cached: Json = {key: run.cache[key] for key in ("counts", "decoding", "filters", "licences") if key in run.cache}
    return {
        "name": name,
        "experiment": experiment,
        "headline": headline(run),
        "tiles": tiles(run),
        "scores": scores(run),
        "slices": slices(run),
        "pairs": [pair | {"sentence": pair_sentence(pair)} for pair in _pairs(run, "heldout")],
        "other_rows": [row for row in run.evaluation.get("rows", []) if row["metric"] != "bits_per_byte"],
        "notes": run.evaluation.get("notes", []),
        "heldout": run.evaluation.get("heldout", {}),
        "harness": _harness(run),
        "generations": [_generation(line) for line in run.generations[:generations]],
        "steps": step_table(run),
        "fits": [{"label": f.label, "facts": _flat(f.summary), "settings": _flat(f.settings)} for f in run.fits],
        "who": who(run),
        "cache": _flat(cached),
        "files": run.files,
        "total_wall_s": sum(step.get("wall_s") or 0 for step in run.steps.values()),
    }


def headline(run: Run) -> str:
    """One sentence with the main number, its interval and what it is compared with."""
    value = {row["model"]: row for row in scores(run)}
    if "student" not in value:
        return "This run has not been evaluated."
    sentence = f"The student needs {value['student']['value']:.3f} bits per byte of held-out answers"
    pair = next((p for p in _pairs(run, "heldout") if (p["a"], p["b"]) == ("student", "init")), None)
    if pair:
        distinct = not pair["low"] <= 0 <= pair["high"]
        verdict = f"{abs(pair['difference']):.3f} {_less(pair)} than" if distinct else "not distinguishable from"
        sentence += f": {verdict} its initialisation ({_interval(pair)})"
    return sentence + "."


def tiles(run: Run) -> list[tuple[str, str, str]]:
    """Headline numbers: (value, what it is, remark)."""
    value = {row["model"]: row["value"] for row in scores(run)}
    found = []
    if "student" in value:
        stderr = next(row["stderr"] for row in scores(run) if row["model"] == "student")
        found.append((f"{value['student']:.3f}", "bits per byte", f"± {stderr:.3f} standard error" if stderr else ""))
    if {"student", "init", "teacher"} <= value.keys() and value["init"] > value["teacher"]:
        closed = (value["init"] - value["student"]) / (value["init"] - value["teacher"])
        found.append((f"{closed:.0%}", "of the gap to the teacher closed", "from the initialisation on"))
    if {"student", "trigram"} <= value.keys():
        gap = value["student"] - value["trigram"]
        found.append((f"{gap:+.3f}".replace("-", "−"), "against a trigram", "same train answers, same tokens"))
    for fit in run.fits[-1:]:
        if "wall_s" in fit.summary:
            remark = f"{fit.summary['devices']} × {fit.summary['device_name']}" if "device_name" in fit.summary else ""
            found.append((duration(fit.summary["wall_s"]), f"of {fit.label}", remark))
        if "supervised_tokens" in fit.summary:
            steps = f"{fit.summary.get('steps', '?')} steps"
            found.append((compact(fit.summary["supervised_tokens"]), "supervised tokens", steps))
    return found


def scores(run: Run) -> list[Json]:
    """Bits per byte on all held-out answers, best first."""
    rows = [r for r in run.evaluation.get("rows", []) if r["metric"] == "bits_per_byte" and r["task"] == "heldout"]
    return sorted(rows, key=lambda row: row["value"])


def slices(run: Run) -> list[Json]:
    """Per slice: items, and teacher's, initialisation's and student's bits per byte with the paired difference."""
    table: dict[str, Json] = {}
    for row in run.evaluation.get("rows", []):
        if row["metric"] == "bits_per_byte" and "/" in row["task"]:
            name = row["task"].split("/", 1)[1].replace("=", ": ")
            line = table.setdefault(row["task"], {"name": name, "n": row["n"]})
            line[row["model"]] = row["value"]
    for task, line in table.items():
        pair = next((p for p in _pairs(run, task) if (p["a"], p["b"]) == ("student", "init")), None)
        line["change"] = f"{pair['difference']:+.3f} [{pair['low']:+.3f}, {pair['high']:+.3f}]" if pair else "–"
    return list(table.values())


def pair_sentence(pair: Json) -> str:
    """A paired difference in words, with its interval, and plainly when it is not distinguishable from none."""
    a, b = (NAMES.get(pair[side], pair[side]) for side in ("a", "b"))
    if pair["low"] <= 0 <= pair["high"]:
        return f"{a} and {b} are not distinguishable on these answers ({_interval(pair)})".capitalize()
    amount = f"{abs(pair['difference']):.3f} bits per byte {_less(pair)}"
    return f"{a} needs {amount} than {b} ({_interval(pair)})".capitalize()


def step_table(run: Run) -> list[Json]:
    """Per step: stage, fingerprint, wall time, size of what it wrote."""
    rows = []
    for label, step in run.steps.items():
        size = sum(file["bytes"] for file in step.get("files", {}).values())
        rows.append({"label": label, "stage": step.get("stage", label), "fingerprint": step.get("fingerprint", ""),
                     "wall": duration(step["wall_s"]) if "wall_s" in step else "–", "size": _size(size)})  # fmt: skip
    return rows


def who(run: Run) -> list[tuple[str, str]]:
    """Teacher, initialisation and environment in a few rows."""
    rows = [("teacher", _named(run.teacher)), ("initialisation", _named(run.init))]
    if "parameters" in run.init:
        rows.append(("student's parameters", f"{run.init['parameters']:,}"))
    environment: Json = next((s["environment"] for s in reversed(run.steps.values()) if "environment" in s), {})
    for key in ("hardware", "git", "python"):
        value = environment.get(key)
        if isinstance(value, dict):
            value = ", ".join(f"{name}: {plain(fact)}" for name, fact in value.items())
        rows.append((key, str(value or "")))
    return [(key, value) for key, value in rows if value]


def duration(seconds: int | float) -> str:
    """Seconds as a person would say them: `42 s`, `7 min 05 s`, `2 h 37 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def compact(number: int | float) -> str:
    """`1.2 M`, `38 k`, `512`."""
    for power, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= power:
            return f"{number / power:.3g}{unit}"
    return f"{number:.4g}"


def plain(value: Any) -> str:
    """A value of a settings or summary table as text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return compact(value) if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value) or "none"
    return str(value)


def _pairs(run: Run, task: str) -> list[Json]:
    return [pair for pair in run.evaluation.get("pairs", []) if pair["task"] == task]


def _interval(pair: Json) -> str:
    """The interval, in the direction that the sentence names; signed where it holds zero."""
    low, high = pair["low"], pair["high"]
    if low <= 0 <= high:
        reach = f"{low:+.3f} to {high:+.3f}"
    else:
        reach = " to ".join(f"{edge:.3f}" for edge in sorted((abs(low), abs(high))))
    return f"{pair['confidence']:.0%} interval {reach}, {pair['n']} answers"


def _less(pair: Json) -> str:
    return "less" if pair["difference"] < 0 else "more"


def _harness(run: Run) -> str:
    rows = scores(run)
    return f"{rows[0]['harness']} {rows[0]['harness_version']}, {run.evaluation.get('precision', '')}" if rows else ""


def _generation(line: Json) -> Json:
    prompt = line["prompt"]
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return line | {"turns": turns, "answers": [{"model": model} | answer for model, answer in line["answers"].items()]}


def _named(thing: Json) -> str:
    return f"{thing['name']} ({thing.get('licence') or 'licence not recorded'})" if "name" in thing else ""


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


def _flat(values: Json, prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, plain(value))]
    return rows
