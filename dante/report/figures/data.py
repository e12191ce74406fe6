"""The teacher's data: how sure the teacher was, and what a confidence weight makes of it."""

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes

from dante.look.theme import Theme, panel
from dante.report.figures.curves import draw, series
from dante.report.one_run.recipe import curriculum
from dante.report.read import Fit, Json, Run

LOGISTIC = {"floor", "slope", "midpoint"}


def entropies(run: Run, theme: Theme) -> Axes | None:
    """How sure the teacher was: distribution of output entropy over the cache."""
    if len(run.entropies) < 2:
        return None
    values = np.array(run.entropies)
    median = float(np.median(values))
    title = f"Half of the answers have an entropy below {median:.2f} nats per token"
    axes = panel(theme, title, "output entropy H of an answer (nats per token)", "answers")
    axes.hist(values, bins=_bins(values).tolist(), color=theme.models["teacher"], alpha=0.85, rwidth=0.94)
    axes.axvline(median, color=theme.ink, linewidth=1.2)
    axes.annotate(f"median {median:.2f}", (median, 1), (6, -10), xycoords=("data", "axes fraction"),
                  textcoords="offset points", color=theme.ink, fontsize=9)  # fmt: skip
    return axes


def confidence_weights(run: Run, theme: Theme) -> Axes | None:
    """Distribution over the cache of w(H) = floor + (1 - floor) / (1 + exp(slope (H - midpoint))).

    Drawn for whichever loss of the last fit is set up with these three numbers (DANTE-Mosaic-3.5B card [C]).
    """
    named_loss = weighted_loss(run)
    if named_loss is None or len(run.entropies) < 2:
        return None
    node = named_loss[1]
    w = weight(np.array(run.entropies), node)
    title = f"Confidence weight w(H): {w.min():.2f} to {w.max():.2f}"
    axes = panel(theme, title, "weight of an answer in the loss", "answers")
    # Bars as wide on every cache: one whose records all weigh the same must look like it.
    axes.hist(w, bins=np.linspace(node["floor"], 1.0, 36).tolist(), color=theme.cycle[1], alpha=0.85, rwidth=0.94)
    axes.set_xlim(node["floor"], 1.0)
    axes.axvline(w.mean(), color=theme.ink, linewidth=1.2)
    left = w.mean() > (1 + node["floor"]) / 2
    axes.annotate(f"mean {w.mean():.3f}", (w.mean(), 1), (-6 if left else 6, -10), xycoords=("data", "axes fraction"),
                  ha="right" if left else "left", textcoords="offset points", color=theme.ink, fontsize=9)  # fmt: skip
    return axes


def weight_over_steps(fit: Fit, name: str, node: Json, theme: Theme) -> Axes | None:
    """Mean weight of each step's tokens; the right axis says which entropy has that weight."""
    steps, values = series(fit.metrics, f"{name}/mean_weight")
    if len(values) < 2:
        return None
    first, last = values[: max(1, len(values) // 20)].mean(), values[-max(1, len(values) // 20) :].mean()
    moved = f"went from {first:.2f} to {last:.2f}" if abs(first - last) > 0.05 else f"stayed near {values.mean():.2f}"
    order = curriculum(fit).split(" (")[0]
    title = f"Mean weight over training {moved}" + (f" (curriculum: {order})" if order else "")
    axes = panel(theme, title, "optimizer step", f"mean weight ({name})")
    draw(axes, steps, values, theme.cycle[1])
    low, high = float(values.min()), float(values.max())
    margin = max(0.02, 0.08 * (high - low))
    axes.set_ylim(max(low - margin, node["floor"] + 1e-3), min(high + margin, 0.999))
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    ticks = _entropy_ticks(node, axes.get_ylim())
    right.set_yticks(list(ticks.values()), [f"{entropy:g}" for entropy in ticks])
    right.tick_params(colors=theme.muted, labelsize=8.5, length=0)
    right.set_ylabel("H with that weight (nats per token)", color=theme.muted, fontsize=9)
    for spine in right.spines.values():
        spine.set_visible(False)
    return axes


def weighted_loss(run: Run) -> tuple[str, Json] | None:
    """Name and settings of the last fit's loss with a logistic weight."""
    losses = run.fits[-1].settings.get("losses", {}) if run.fits else {}
    return next(((name, node) for name, node in losses.items() if node.keys() >= LOGISTIC), None)


def weight(entropy: Float64[np.ndarray, "records"], node: Json) -> Float64[np.ndarray, "records"]:
    """w(H) of a loss's settings; H in nats per token."""
    weights: np.ndarray = node["floor"] + (1 - node["floor"]) / (
        1 + np.exp(node["slope"] * (entropy - node["midpoint"]))
    )
    return weights


def _entropy_ticks(node: Json, limits: tuple[float, float]) -> dict[float, float]:
    """Round entropies whose weights lie inside the limits and apart from each other: entropy → weight."""
    ticks: dict[float, float] = {}
    for entropy in np.arange(0.0, 6.01, 0.5).tolist():
        w = float(weight(np.array([entropy]), node)[0])
        apart = all(abs(w - other) > 0.08 * (limits[1] - limits[0]) for other in ticks.values())
        if limits[0] <= w <= limits[1] and apart:
            ticks[entropy] = w
    return ticks


def _bins(values: Float64[np.ndarray, "values"]) -> Float64[np.ndarray, "edges"]:
    """Freedman-Diaconis where it gives a readable number of bars, between 8 and 40 otherwise."""
    edges = np.histogram_bin_edges(values, bins="fd")
    return np.histogram_bin_edges(values, bins=int(np.clip(len(edges) - 1, 8, 40)))
