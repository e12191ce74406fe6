"""Measured results as tables and sentences: everything that `eval.json` holds, whatever its tasks are called."""

from typing import Any

from dante.look.numbers import flops, number
from dante.report.evaluation import MAIN, heading, total
from dante.report.one_run.recipe import anchors
from dante.report.read import Json, Run
from dante.report.words import (
    MODELS,
    change,
    distinct,
    duration,
    how,
    interval,
    pair_sentence,
    sentence,
    task_name,
    the,
)

RETENTION = "retention"


def headline(run: Run) -> str:
    """The verdict: the main number, its interval and what it is compared with."""
    value = {row["model"]: row for row in scores(run)}
    if "student" not in value:
        return "This run has not been evaluated."
    text = f"The student needs {value['student']['value']:.3f} bits per byte of held-out answers"
    pair = find_pair(run, "heldout", "bits_per_byte", "init")
    if pair:
        less = "less" if pair["difference"] < 0 else "more"
        verdict = f"{abs(pair['difference']):.3f} {less} than" if distinct(pair) else "not distinguishable from"
        text += f": {verdict} its initialisation ({interval(pair)})"
    return text + "."


def tiles(run: Run) -> list[tuple[str, str, str]]:
    """Headline numbers: (value, what it is, remark)."""
    result_tiles, value = [], {row["model"]: row for row in scores(run)}
    if "student" in value:
        stderr = value["student"]["stderr"]
        spread = f"± {stderr:.3f} standard error" if stderr else ""
        result_tiles.append((f"{value['student']['value']:.3f}", "bits per byte", spread))
    level = {model: row["value"] for model, row in value.items()}
    if {"student", "init", "teacher"} <= level.keys() and level["init"] > level["teacher"]:
        closed = (level["init"] - level["student"]) / (level["init"] - level["teacher"])
        result_tiles.append((f"{closed:.0%}", "of the gap to the teacher closed", "from the initialisation on"))
    if {"student", "trigram"} <= level.keys():
        gap = how(value["student"]).signed(level["student"] - level["trigram"])
        result_tiles.append((gap, "bits per byte against a trigram", "fitted on the same train answers"))
    stops = [r for r in rows_of(run, "generation", "stop_share") if r["model"] == "student"]
    if stops:
        result_tiles.append((f"{stops[0]['value']:.0%}", "of answers stop by themselves", f"{stops[0]['n']} prompts"))
    return result_tiles + _training(run)


def _training(run: Run) -> list[tuple[str, str, str]]:
    """Tiles of what all fits together took."""
    summaries = [fit.summary for fit in run.fits]
    training_tiles = []
    if summaries and all("wall_s" in summary for summary in summaries):
        last = summaries[-1]
        device = f"{last['devices']} × {last['device_name']}" if "device_name" in last else ""
        what = f"of {run.fits[0].label}" if len(run.fits) == 1 else f"of {len(run.fits)} fits"
        training_tiles.append((duration(sum(summary["wall_s"] for summary in summaries)), what, device))
    if summaries and all("flops" in summary for summary in summaries):
        steps = sum(summary.get("steps", 0) for summary in summaries)
        training_tiles.append(
            (flops(sum(summary["flops"] for summary in summaries)), "training FLOPs", f"{steps} steps")
        )
    return training_tiles


def rows_of(run: Run, task: str, metric: str) -> list[Json]:
    """All models' rows of one measurement."""
    return [r for r in run.evaluation.get("rows", []) if (r["task"], r["metric"]) == (task, metric)]


def scores(run: Run) -> list[Json]:
    """Bits per byte on all held-out answers, best first."""
    return sorted(rows_of(run, "heldout", "bits_per_byte"), key=lambda row: row["value"])


def find_pair(run: Run, task: str, metric: str, other: str) -> Json | None:
    """The paired difference student − other of one measurement."""
    wanted = ("student", other, task, metric)
    return next((p for p in _pairs(run) if (p["a"], p["b"], p["task"], p["metric"]) == wanted), None)


def models(run: Run) -> list[str]:
    """Models that have rows, in the order of the tables' columns."""
    there = dict.fromkeys(row["model"] for row in run.evaluation.get("rows", []))
    return [m for m in MODELS if m in there] + [m for m in there if m not in MODELS]


def main_table(run: Run) -> list[Json]:
    """Groups of what was measured on the same items in the same way: a heading, and a line per metric."""
    keys = dict.fromkeys((r["task"], r["metric"]) for r in run.evaluation.get("rows", []) if "/" not in r["task"])
    groups: dict[tuple[Any, ...], list[Json]] = {}
    for task, metric in keys:
        line = _line(run, task, metric)
        groups.setdefault((task, line["n"], line["harness"]), []).append(line)
    return [_group(lines, heading(run.evaluation, lines[0]["task"])) for lines in groups.values()]


def slices(run: Run, kind: str) -> list[Json]:
    """Per metric, a table of the slices of a task (`heldout/domain=code`) with the student's change from its start."""
    prefix, metrics = f"{kind}/", dict[str, list[str]]()
    for row in run.evaluation.get("rows", []):
        if row["task"].startswith(prefix) and row["task"] not in metrics.setdefault(row["metric"], []):
            metrics[row["metric"]].append(row["task"])
    return [
        {"metric": how(rows_of(run, tasks[0], metric)[0]), "lines": [_line(run, task, metric) for task in tasks]}
        for metric, tasks in metrics.items()
    ]


def all_slices(run: Run) -> list[Json]:
    """The slices of every suite but the retention texts, which have a section of their own."""
    suites = dict.fromkeys(row["task"].split("/")[0] for row in run.evaluation.get("rows", []))
    return [table for suite in suites if suite != RETENTION for table in slices(run, suite)]


def scored(run: Run) -> Json:
    """How many held-out answers were scored, and their bytes; empty without items."""
    items = run.items.get(MAIN, [])
    first = next(iter(items[0]["models"])) if items else ""
    return {"records": len(items), "bytes": round(total(items, first, "bits_per_byte")[1])} if items else {}


def pair_sentences(run: Run) -> list[str]:
    """Paired differences on whole tasks, in words."""
    pairs = [pair for pair in _pairs(run) if "/" not in pair["task"] and pair["task"] != RETENTION]
    tasks: dict[str, set[str]] = {}
    for pair in pairs:
        tasks.setdefault(how(pair).label, set()).add(pair["task"])
    return [pair_sentence(pair, pair["task"] if len(tasks[how(pair).label]) > 1 else "") for pair in pairs]


def confidence_note(run: Run) -> str:
    """How the intervals were made."""
    pairs = _pairs(run)
    if not pairs:
        return ""
    return (
        f"Intervals: paired bootstrap over items, {pairs[0]['resamples']:,} resamples. They say how much the choice of "
        "answers matters, not how much another training seed would."
    )


def retention_sentences(run: Run) -> list[str]:
    """What training did to text that the cache does not hold, and what one run can say of the anchor."""
    texts = [text for kind in ("language", "code") if (text := _kept(run, kind))]
    if not texts:
        return []
    for name, last in anchors(run):
        drift, rms = last[f"{name}/drift_frobenius"], last.get(f"{name}/drift_rms")
        per_entry = f", {number(rms)} rms per entry" if rms is not None else ""
        texts.append(
            f"The anchor {name} was on, and the embedding ended {drift:.3g} (Frobenius norm{per_entry}) from where it "
            "began. Whether the anchor is the reason for these changes cannot be read from one run: the same recipe "
            "without it is the comparison."
        )
    return texts


def _kept(run: Run, kind: str) -> str:
    pair = find_pair(run, f"retention/{kind}", "bits_per_byte", "init")
    if pair is None:
        return ""
    where = {"language": "On texts in natural languages", "code": "On source code"}[kind]
    where += " that the cache does not hold, the student"
    if not distinct(pair):
        return f"{where} and its initialisation are not distinguishable ({interval(pair)})."
    lost = pair["difference"] > 0
    amount = f"{abs(pair['difference']):.3f} bits per byte {'more' if lost else 'less'}"
    verdict = "training cost it some of what it could" if lost else "training on other texts made it better here too"
    text = f"{where} needs {amount} than its initialisation ({interval(pair)}): {verdict}."
    level = {row["model"]: row["value"] for row in rows_of(run, f"retention/{kind}", "bits_per_byte")}
    if "teacher" in level and level["init"] > level["teacher"] and not lost:
        gap = f"{level['init'] - level['teacher']:.3f}"
        text += f" The initialisation was {gap} above the teacher, so this is recovery rather than retention."
    return text


def _group(lines: list[Json], asked: str) -> Json:
    """A heading for lines on the same items; how one of them was made beyond the others stands with its meaning."""
    first = lines[0]
    title = f"{asked}, n = {first['n']}; {first['harness']}"
    if not first["decoding"]:
        return {"heading": title, "lines": lines}
    for line in lines:
        extra = line["decoding"].removeprefix(first["decoding"]).strip(", ")
        line["meaning"] = ", ".join(part for part in (line["meaning"], extra) if part)
    return {"heading": f"{title}, {first['decoding']}", "lines": lines}


def _line(run: Run, task: str, metric: str) -> Json:
    row_by_model = {row["model"]: row for row in rows_of(run, task, metric)}
    of_student = row_by_model.get("student") or next(iter(row_by_model.values()))
    reads = how(of_student)
    fewer = [f"{MODELS.get(m, m)} {row['n']}" for m, row in row_by_model.items() if row["n"] != of_student["n"]]
    pair = find_pair(run, task, metric, "init")
    return {
        "task": task,
        "name": task_name(task) if "/" in task else task,
        "metric": reads,
        "meaning": reads.meaning,
        "n": f"{of_student['n']} ({', '.join(fewer)})" if fewer else str(of_student["n"]),
        "values": {model: reads.value(row["value"]) for model, row in row_by_model.items()},
        "stderrs": {
            m: reads.value(r["stderr"]).removesuffix("%") for m, r in row_by_model.items() if r["stderr"] is not None
        },
        "decoding": of_student.get("decoding") or "",
        "change": change(pair) if pair else "–",
        "harness": f"{of_student['harness']} {of_student['harness_version']}",
    }


def _pairs(run: Run) -> list[Json]:
    return list(run.evaluation.get("pairs", []))


def undecided(run: Run) -> str:
    """What a single run cannot say, where there is a result at all."""
    if not scores(run):
        return ""
    return sentence(
        f"one run, one seed: it says what {the('student')} learnt, not whether another recipe would have done better. "
        "For that: python -m dante.report compare RUN CONTROL."
    )
