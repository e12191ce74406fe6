"""Where a student cannot end its own answers [C: DASD, Figure 7]: the share cut off, by the teacher's length."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from scipy.stats import binomtest

from dante.look.theme import SIZE_IN, Theme, panel
from dante.report.read import Json, Run

MOST_BINS = 6
LEAST_IN_BIN = 8


def by_length(run: Run, theme: Theme) -> Axes | None:
    """Share of the student's answers that reached their limit, by how long the teacher's answer is."""
    bins = binned(run.samples)
    if not bins:
        return None
    whole = sum(one["cut_off"] for one in bins) / sum(one["answers"] for one in bins)
    axes = panel(theme, f"{whole:.0%} of the student's answers ran beyond their limit", "the teacher's answer (tokens)",
                 "cut off", (SIZE_IN[0], 3.0))  # fmt: skip
    places = np.arange(len(bins))
    shares = np.array([one["share"] for one in bins])
    reach = np.array([[one["share"] - one["low"], one["high"] - one["share"]] for one in bins]).T
    colour = theme.models["student"]
    axes.errorbar(places, shares, yerr=np.maximum(reach, 0), color=colour, linewidth=1.8, elinewidth=1.2,
                  marker="o", markersize=5)  # fmt: skip
    axes.axhline(whole, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axes.set_xticks(places, [f"{one['shortest']}–{one['longest']}\nn={one['answers']}" for one in bins])
    axes.tick_params(axis="x", labelsize=8)
    return axes


def binned(samples: Sequence[Json]) -> list[Json]:
    """Bins of equally many answers by the teacher's length, with Wilson's intervals; none where there are too few."""
    ordered = sorted(samples, key=lambda sample: sample["teacher_tokens"])
    count = min(MOST_BINS, len(ordered) // LEAST_IN_BIN)
    bins = []
    for rows in np.array_split(np.arange(len(ordered)), count) if count else []:
        part = [ordered[int(row)] for row in rows]
        cut_off = sum(sample["finish_reason"] == "length" for sample in part)
        interval = binomtest(cut_off, len(part)).proportion_ci(method="wilson")
        bins.append(
            {
                "shortest": part[0]["teacher_tokens"],
                "longest": part[-1]["teacher_tokens"],
                "answers": len(part),
                "cut_off": cut_off,
                "share": cut_off / len(part),
                "low": float(interval.low),
                "high": float(interval.high),
            }
        )
    return bins
