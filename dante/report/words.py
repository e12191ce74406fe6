"""How numbers, models and metrics are written out; the same in the page, in Markdown and on figures."""

from typing import Any

from dante.look.metric import Metric
from dante.report.read import Json

# Order and headings of models in tables; a model that is not here comes last under its own name.
MODELS = {
    "teacher": "teacher",
    "init": "initialisation",
    "matched": "matched student",
    "student": "student",
    "trigram": "trigram",
    "unigram": "unigram",
    "cache": "cached answer",
}


def how(row: Json) -> Metric:
    """How the metric of a row or of a paired difference reads; one that no suite describes is shown under its key."""
    metric = row.get("how")
    return metric if isinstance(metric, Metric) else Metric(row["metric"].replace("_", " "))


def the(model: str) -> str:
    """`the student`."""
    return f"the {MODELS.get(model, model)}"


def sentence(text: str) -> str:
    """With a capital at the start; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def task_name(task: str) -> str:
    """`heldout/domain=code` → `code`; `retention/language` → `all languages`."""
    kind = task.split("/", 1)[-1]
    return kind.split("=", 1)[1] if "=" in kind else {"language": "all languages"}.get(kind, f"all {kind}")


def distinct(pair: Json) -> bool:
    """Whether the interval of a paired difference excludes zero."""
    return not pair["low"] <= 0 <= pair["high"]


def interval(pair: Json) -> str:
    """The interval, in the direction that the sentence names; signed where it holds zero."""
    metric, low, high = how(pair), pair["low"], pair["high"]
    if distinct(pair):
        near, far = sorted((abs(low), abs(high)))
        reach = f"{metric.gap(near).removesuffix(' points')} to {metric.gap(far).removesuffix(' points')}"
    else:
        reach = f"{metric.signed(low)} to {metric.signed(high)}"
    return f"{pair['confidence']:.0%} interval {reach}, {pair['n']} {pair.get('counts', 'items')}"


def change(pair: Json) -> str:
    """`−3.120 [−3.265, −2.988]`."""
    metric = how(pair)
    return f"{metric.signed(pair['difference'])} [{metric.signed(pair['low'])}, {metric.signed(pair['high'])}]"


def pair_sentence(pair: Json, of: str = "") -> str:
    """A paired difference in words, with its interval, and plainly when it is not distinguishable from none.

    Args:
        pair: of `eval.json`.
        of: what was measured, where the metric's name alone does not tell.
    """
    metric, a, b = how(pair), the(pair["a"]), the(pair["b"])
    label = metric.label + (f" of {of}" if of else "")
    if not distinct(pair):
        return sentence(f"{a} and {b} are not distinguishable in {label} ({interval(pair)})")
    if pair["metric"] == "bits_per_byte":
        less = "less" if pair["difference"] < 0 else "more"
        return sentence(f"{a} needs {metric.gap(pair['difference'])} bits per byte {less} than {b} ({interval(pair)})")
    side = "below" if pair["difference"] < 0 else "above"
    return sentence(f"{a} is {metric.gap(pair['difference'])} {side} {b} in {label} ({interval(pair)})")


def duration(seconds: int | float) -> str:
    """Seconds as a person would say them: `42 s`, `7 min 05 s`, `2 h 37 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def hours(value: int | float) -> str:
    """Hours with three significant digits: `0.0759`, `21`."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def compact(number: int | float) -> str:
    """`1.2 M`, `38 k`, `512`."""
    for power, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= power:
            return f"{number / power:.3g}{unit}"
    return f"{number:.4g}"


def size(size_bytes: int) -> str:
    """`151.2 MB`."""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= power:
            return f"{size_bytes / power:.1f} {unit}"
    return f"{size_bytes} B"


def plain(value: Any) -> str:
    """A value of a settings or summary table as text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return compact(value) if 10_000 <= abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value) or "none"
    return str(value)


def flat(values: Json, prefix: str = "") -> list[tuple[str, str]]:
    """Nested containers as rows `outer.inner`, value."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        rows += flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, plain(value))]
    return rows
