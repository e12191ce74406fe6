"""How the training went: loss, its components and schedules, gradients, and what each loss measured of itself.

What is drawn is discovered from the keys of metrics.jsonl: losses from `loss/<name>`, their schedules from
`weight/<name>`, a loss's own measurements from `<name>/<metric>`. KL to a teacher is `<name>/kl_nats`, and drawn for
all losses together. A new loss needs no line here.
"""

import re
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes

from dante.look.numbers import number
from dante.look.theme import Theme
from dante.report.figures.curves import Points, Row, is_noisy, names, series, smooth, stack
from dante.report.read import Fit, Json

# How keys of metrics.jsonl read on an axis; a key that is not here is shown as it is.
AXIS = {
    "lr": "learning rate",
    "grad_norm": "gradient norm, before clipping",
    "ce_nats": "cross-entropy",
    "tokens_per_s": "tokens per second",
    "data_wait_share": "share of the time without a batch",
    "energy_j": "energy so far (J)",
    "peak_mem_gib": "peak memory (GiB)",
    "mfu": "model FLOPs utilisation (share of peak)",
    "supervised_tokens": "supervised tokens per step",
    "skipped_updates": "skipped updates, in all",
    "drift_frobenius": "drift from the start $\\|\\Delta E\\|_F$",
    "drift_rms": "rms drift per entry",
    "gradient_ratio": "gradient of the anchor / of the token losses",
}
SPEED = ("tokens_per_s", "supervised_tokens_per_s")
MACHINE = ("peak_mem_gib", "mfu", "data_wait_share", "energy_j", "supervised_tokens")
OPTIMIZER = ("lr", "grad_norm", "skipped_updates")
KL_NATS = "/kl_nats"
NATS = "nats per supervised token"
# What a loss of blocks logs of each layer: `dante.report.figures.matching` draws it.
LAYER = re.compile(r"[^/]+/layer-(?P<number>\d+)$")
NOT_MEASUREMENTS = ("step", "epoch", "loss", "ce_nats", "weight", "spike", *SPEED, *MACHINE, *OPTIMIZER)


def loss(fit: Fit, theme: Theme) -> Axes | None:
    """The total that was minimised and the plain cross-entropy beside it."""
    total, plain = series(fit.metrics, "loss"), series(fit.metrics, "ce_nats")
    if len(total[0]) < 2:
        return None
    title = f"Training loss went from {number(total[1][0])} to {number(_end(total))}{suffix(fit)}"
    lines = [("total", total)]
    if len(plain[0]) >= 2:
        lines.append(("cross-entropy", plain))
        title += f", plain cross-entropy from {plain[1][0]:.2f} to {_end(plain):.2f}"
    # A loss of blocks has no unit: it is an error over what is usual of its block.
    unit = "per token and layer" if any(map(LAYER.match, _numbers(fit.metrics))) else NATS
    axes = stack(theme, title, [Row(unit, lines)])
    spikes = [row["step"] for row in fit.metrics if row.get("spike")]
    if axes is not None and spikes:
        # A spike may stand above what is drawn: its place is marked at the bottom.
        axes.plot(
            spikes, [0.02] * len(spikes), "^", color=theme.ink, markersize=4, transform=axes.get_xaxis_transform()
        )
        axes.set_title(f"{axes.get_title(loc='left')}, ▲ spike", loc="left", color=theme.muted, fontsize=8.5, pad=4)
    return axes


def components(fit: Fit, theme: Theme) -> Axes | None:
    """Every loss by itself, before its weight: sums of a loss and of an anchor have different units."""
    rows = [Row(f"{name}{_weighed(fit, name)}", [("", series(fit.metrics, f"loss/{name}"))])
            for name in _losses(fit.metrics)]  # fmt: skip
    return stack(theme, f"Components of the loss, each on its scale{suffix(fit)}", rows)


def kl(fit: Fit, theme: Theme) -> Axes | None:
    """KL to a teacher of every loss that logs one."""
    points = {key.removesuffix(KL_NATS): series(fit.metrics, key) for key in _numbers(fit.metrics) if _is_kl(key)}
    lines = [(name if len(points) > 1 else "", one) for name, one in points.items()]
    title = f"KL to the teacher over training{suffix(fit)}"
    if len(points) == 1:
        ((name, one),) = points.items()
        if len(one[0]) >= 2:
            title = f"{name}: KL to the teacher went from {one[1][0]:.2f} to {_end(one):.2f}{suffix(fit)}"
    return stack(theme, title, [Row(NATS, lines)])


def _is_kl(key: str) -> bool:
    return key.endswith(KL_NATS)


def _weighed(fit: Fit, name: str) -> str:
    """A constrained loss is logged with what its multiplier made of it; its schedule is apart from that."""
    return ", times μ" if any(f"{name}/coefficient" in row for row in fit.metrics) else ", unweighted"


def schedules(fit: Fit, theme: Theme) -> Axes | None:
    """The scheduled weight of every loss, calibration included."""
    points_by_loss = {name: series(fit.metrics, f"weight/{name}") for name in names(fit.metrics, "weight")}
    rows = [Row(f"weight of {name}", [("", points)]) for name, points in points_by_loss.items()]
    return stack(theme, f"Schedules: the weight of every loss{suffix(fit)}", rows)


def optimizer(fit: Fit, theme: Theme) -> Axes | None:
    """Learning rate and gradient norms; skipped updates where there were any."""
    skipped = series(fit.metrics, "skipped_updates")[1]
    count = int(skipped[-1]) if len(skipped) else None
    skip_words = {None: "", 0: ": no update skipped", 1: ": 1 update skipped"}
    norms = [(key.partition("/")[2], series(fit.metrics, key)) for key in _keys(fit.metrics, "grad_norm")]
    rows = [Row(AXIS["lr"], [("", series(fit.metrics, "lr"))]), Row(AXIS["grad_norm"], norms)]
    if count:
        rows.append(Row(AXIS["skipped_updates"], [("", series(fit.metrics, "skipped_updates"))]))
    title = f"Learning rate, gradient{skip_words.get(count, f': {count} updates skipped')}{suffix(fit)}"
    return stack(theme, title, rows)


def measured(fit: Fit, group: str, theme: Theme) -> Axes | None:
    """What one loss logged of itself; measurements that are multiples of each other share a panel."""
    points_by_name = {key.partition("/")[2]: series(fit.metrics, key) for key in measurements(fit.metrics)[group]}
    rows: list[Row] = []
    proportional: list[tuple[str, Points]] = []
    for name, points in points_by_name.items():
        other = next((first for first, same in proportional if _multiples(same, points)), None)
        label = AXIS.get(name, name.replace("_", " "))
        if other is None:
            proportional.append((name, points))
            rows.append(Row(label, [("", points)]))
        else:
            place = [first for first, _ in proportional].index(other)
            rows[place] = Row(
                f"{rows[place].label}   ({label} ends at {number(float(points[1][-1]))})", rows[place].lines
            )
    ends = [f"{name.replace('_', ' ')} {number(_end(points))}" for name, points in proportional[:2] if len(points[1])]
    return stack(theme, f"{group} ends at {', '.join(ends)}{suffix(fit)}", rows)


def machine(fit: Fit, theme: Theme) -> Axes | None:
    """Speed, memory, utilisation, waiting and energy, where they were logged."""
    speed = [(name, series(fit.metrics, key)) for name, key in zip(("all", "supervised"), SPEED, strict=True)]
    drawn = [line for line in speed if len(line[1][0])]
    rows = [Row(AXIS["tokens_per_s"], drawn if len(drawn) > 1 else [("", points) for _, points in drawn])]
    rows += [Row(AXIS[key], [("", series(fit.metrics, key))]) for key in MACHINE]
    return stack(theme, f"Speed and memory{suffix(fit)}", rows)


def measurements(metrics: Sequence[Json]) -> dict[str, list[str]]:
    """Every other number that was logged, by the loss that logged it (a key without a slash is its own group)."""
    keys = [key for key in _numbers(metrics) if _group(key) not in NOT_MEASUREMENTS and not _is_kl(key)]
    keys = [key for key in keys if not LAYER.match(key)]
    measured_keys = sorted(keys, key=_group)  # stable
    return {group: list(members) for group, members in groupby(measured_keys, key=_group)}


def _numbers(metrics: Sequence[Json]) -> dict[str, None]:
    """Keys that hold a number somewhere, in order of appearance."""
    return dict.fromkeys(key for row in metrics for key, value in row.items() if isinstance(value, int | float))


def _group(key: str) -> str:
    return key.partition("/")[0]


def _losses(metrics: Sequence[Json]) -> list[str]:
    return names(metrics, "loss")


def _keys(metrics: Sequence[Json], name: str) -> list[str]:
    """`name` itself and all `name/<part>`."""
    return [key for key in dict.fromkeys(k for row in metrics for k in row) if _group(key) == name]


def _multiples(a: Points, b: Points) -> bool:
    """Whether two series are the same but for a factor."""
    if len(a[1]) != len(b[1]) or not len(a[1]) or not np.any(a[1]) or not np.any(b[1]):
        return False
    factor = float(a[1] @ b[1] / (a[1] @ a[1]))
    return bool(np.allclose(a[1] * factor, b[1], rtol=1e-3, atol=0.0))


def _end(points: Points) -> float:
    return float(smooth(points[1])[-1] if is_noisy(points[1]) else points[1][-1])


def suffix(fit: Fit) -> str:
    """The step's label, where it says more than that this is the fit."""
    return "" if fit.label == "fit" else f" ({fit.label})"
