"""The picture of a cache: six small figures in the look of the reports, side by side in one PNG."""

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from PIL import Image

from dante.cache.records.statistics import labels, numbers
from dante.look.theme import LIGHT, Theme, panel, png
from dante.teachers.uncertainty import confidence_weight

MAX_BARS = 8
_GAP_PX = 28


def overview(columns: pa.Table, theme: Theme = LIGHT) -> bytes:
    """Entropy, w(H), length, domains, entropy per domain, finish reasons: one PNG, equal for equal columns."""
    drawn = [
        _entropy(columns, theme),
        _weight(columns, theme),
        _length(columns, theme),
        _bars(columns, theme, "domain", "Domains"),
        _entropy_by_domain(columns, theme),
        _bars(columns, theme, "finish_reason", "Why answers ended"),
    ]
    return _tiled([png(axes) for axes in drawn], theme)


def _entropy(columns: pa.Table, theme: Theme) -> Axes:
    lower, upper = numbers(columns, "output_entropy"), numbers(columns, "output_entropy_upper")
    everything = np.concatenate([lower, upper])
    end = float(np.quantile(everything, 0.995)) or 1.0
    beyond = " (the largest 0.5 % lie beyond)" if everything.max() > end else ""
    axes = panel(theme, "Entropy of the answers", f"H, nats per token{beyond}", "records")
    bins = np.linspace(0.0, end, 41).tolist()
    axes.hist(lower, bins=bins, color=theme.models["student"], label="lower bound (used)")
    if len(upper):
        style: dict[str, Any] = {"histtype": "step", "color": theme.cycle[1], "linewidth": 1.4}
        axes.hist(upper, bins=bins, label="upper bound", **style)
    _median(axes, theme, lower, f"median {np.median(lower):.2f}")
    _legend(axes, theme)
    return axes


def _weight(columns: pa.Table, theme: Theme) -> Axes:
    weight = confidence_weight(numbers(columns, "output_entropy"))
    axes = panel(theme, "Weight w(H) that CWCE gives", "w", "records")
    axes.hist(weight, bins=np.linspace(0.3, 0.95, 40).tolist(), color=theme.models["teacher"])
    axes.set_xlim(0.28, 0.96)
    _median(axes, theme, weight, f"median {np.median(weight):.2f}")
    return axes


def _length(columns: pa.Table, theme: Theme) -> Axes:
    tokens = numbers(columns, "tokens")
    values, unit = (tokens, "teacher's tokens") if len(tokens) else (numbers(columns, "answer_bytes"), "UTF-8 bytes")
    values = np.maximum(values, 1)
    axes = panel(theme, "Length of the answers", f"{unit} (logarithmic)", "records")
    edges = np.geomspace(values.min(), max(values.max(), values.min() + 1), 36).tolist()
    axes.hist(values, bins=edges, color=theme.models["init"])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.tick_params(which="minor", length=0)
    _median(axes, theme, values, f"median {np.median(values):,.0f}")
    return axes


def _bars(columns: pa.Table, theme: Theme, name: str, title: str) -> Axes:
    counted = _largest(labels(columns, name))
    axes = panel(theme, title, "records")
    places = -np.arange(len(counted))
    values = [count for _, count in counted]
    axes.barh(places, values, height=0.62, color=theme.cycle[0])
    for place, value in zip(places, values, strict=True):
        text = f" {value:,} · {value / len(columns):.0%}"
        axes.text(value, int(place), text, va="center", color=theme.ink, fontsize=8.5)
    _names(axes, theme, places, [label for label, _ in counted])
    axes.set_xlim(0, max(values) * 1.32)
    axes.set_ylim(0.3 - max(len(counted), 4), 0.7)
    return axes


def _entropy_by_domain(columns: pa.Table, theme: Theme) -> Axes:
    given, entropy = np.array(labels(columns, "domain")), numbers(columns, "output_entropy")
    counted = _largest(given.tolist())
    axes = panel(theme, "Entropy by domain", "H, nats per token: middle half, 10 to 90 %, median")
    places = -np.arange(len(counted))
    named_domains = {label for label, _ in counted}
    for place, (label, _) in zip(places, counted, strict=True):
        values = entropy[given == label] if label != "others" else entropy[~np.isin(given, list(named_domains))]
        low, first, middle, third, high = np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9])
        axes.plot([low, high], [place, place], color=theme.cycle[4], linewidth=1.6, solid_capstyle="round")
        axes.plot([first, third], [place, place], color=theme.cycle[4], linewidth=8, solid_capstyle="butt")
        axes.plot([middle], [place], "o", color=theme.paper, markersize=4.5)
    _names(axes, theme, places, [label for label, _ in counted])
    axes.set_xlim(left=0)
    axes.set_ylim(0.3 - max(len(counted), 4), 0.7)
    return axes


def _largest(values: Sequence[str]) -> list[tuple[str, int]]:
    """Names by falling count, the rest of a long list summed up as `others`."""
    counted = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    if len(counted) <= MAX_BARS:
        return counted
    return [*counted[: MAX_BARS - 1], ("others", sum(count for _, count in counted[MAX_BARS - 1 :]))]


def _names(axes: Axes, theme: Theme, places: np.ndarray, names: list[str]) -> None:
    axes.set_yticks(places, [name if len(name) <= 18 else name[:17] + "…" for name in names])
    axes.tick_params(axis="y", labelcolor=theme.ink)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=theme.grid, linewidth=0.8)


def _median(axes: Axes, theme: Theme, values: np.ndarray, text: str) -> None:
    middle = float(np.median(values))
    axes.set_ylim(top=axes.get_ylim()[1] * 1.12)  # room for the text above the bars
    axes.axvline(middle, color=theme.ink, linewidth=1.1, linestyle=(0, (4, 3)))
    right = axes.transData.transform((middle, 0))[0] < axes.bbox.x0 + 0.5 * axes.bbox.width
    text = f"  {text}" if right else f"{text}  "
    at: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "left" if right else "right", "va": "top"}
    axes.text(middle, 0.99, text, color=theme.ink, fontsize=8.5, **at)


def _legend(axes: Axes, theme: Theme) -> None:
    axes.legend(loc="center right", fontsize=8, frameon=False, labelcolor=theme.ink)


def _tiled(images: list[bytes], theme: Theme, across: int = 2) -> bytes:
    tiles = [Image.open(io.BytesIO(image)).convert("RGB") for image in images]
    width, height = tiles[0].size
    down = -(-len(tiles) // across)
    size = (across * width + (across + 1) * _GAP_PX, down * height + (down + 1) * _GAP_PX)
    sheet = Image.new("RGB", size, theme.paper)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, across)
        sheet.paste(tile, (_GAP_PX + column * (width + _GAP_PX), _GAP_PX + row * (height + _GAP_PX)))
    buffer = io.BytesIO()
    sheet.quantize(256).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
