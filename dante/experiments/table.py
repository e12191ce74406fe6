"""Values per seed and differences as Markdown tables, from `results.json` alone."""

from collections.abc import Iterable
from statistics import fmean, stdev

from dante.experiments.schema import Difference, Results


def results_table(results: Results) -> str:
    """A table per primary metric (arms × seeds, mean, spread over seeds), then one of their differences."""
    all_metrics = list(dict.fromkeys(metric for values in results.arms.values() for metric in values))
    metrics = results.primary or all_metrics
    parts = [_metric_table(results, metric) for metric in metrics]
    differences = [
        difference for difference in results.differences if not results.primary or difference.metric in metrics
    ]
    if differences:
        parts.append(_difference_table(differences))
    if results.failed:
        parts.append("Not finished:\n\n" + "\n".join(f"- {line}" for line in results.failed))
    return "\n\n".join(parts)


def _metric_table(results: Results, metric: str) -> str:
    arms = {arm: values[metric] for arm, values in results.arms.items() if metric in values}
    seeds = sorted({seed for values in arms.values() for seed in values})
    header = [metric, *(f"seed {seed}" for seed in seeds)]
    references = {name: values[metric] for name, values in results.references.items() if metric in values}
    rows = [[name, *("" for _ in seeds), number(value), ""] for name, value in references.items()]
    for arm, values in arms.items():
        cells = [number(values[seed]) if seed in values else "–" for seed in seeds]
        seed_values = list(values.values())
        rows.append(
            [arm, *cells, number(fmean(seed_values)), f"{stdev(seed_values):.2g}" if len(seed_values) > 1 else "–"]
        )
    if len(seeds) == 1 and not references:  # a mean of one value says nothing
        return _markdown(header, [row[:2] for row in rows])
    return _markdown([*header, "mean", "sd"], rows)


def _difference_table(differences: Iterable[Difference]) -> str:
    all_differences = list(differences)
    tested = [
        difference for difference in all_differences if difference.p is not None or difference.p_adjusted is not None
    ]
    # An arm with one seed is not judged: its p is over answers alone, and nobody corrects it.
    corrected = any(difference.p_adjusted is not None for difference in tested)
    heading = ["p, corrected" if corrected else "p, uncorrected"] if tested else []
    rows = []
    for difference in all_differences:
        interval = (
            "–"
            if difference.low is None or difference.high is None
            else f"{signed(difference.low)} to {signed(difference.high)}"
        )
        confidence = "" if difference.confidence is None or interval == "–" else f" ({difference.confidence * 100:g} %)"
        row = [difference.name, difference.metric, signed(difference.difference), interval + confidence]
        rows.append([*row, *([_probability(difference, corrected)] if tested else [])])
    return _markdown(["difference", "metric", "", "interval", *heading], rows)


def _probability(difference: Difference, corrected: bool) -> str:
    """The p-value under a heading that says `corrected`, or does not."""
    if difference.p_adjusted is not None:
        return f"{difference.p_adjusted:.3g}"
    if difference.p is None:
        return "–"
    return f"{difference.p:.3g} (uncorrected)" if corrected else f"{difference.p:.3g}"


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    left = 2 if header[0] == "difference" else 1
    rule = "|" + "---|" * left + "--:|" * (len(header) - left)
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in [header, *rows])
    first, *rest = ("| " + " | ".join(row) + " |" for row in escaped)
    return "\n".join([first, rule, *rest])


def number(value: float) -> str:
    """Five significant digits, whole numbers whole."""
    return f"{value:.0f}" if float(value).is_integer() and value != 0 else f"{value:#.5g}"


def signed(value: float) -> str:
    """A difference: three significant digits with its sign."""
    return f"{value:+.3g}"
