"""One look for all figures, in a light and a dark edition; a colour always means the same model."""

import base64
import io
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# A phone shows a figure 360 px wide: small figures with normal type stay readable, large ones shrink to dust.
SIZE_IN = (4.4, 2.8)
DPI = 200
# As many bold characters fit beside each other in a figure of this width.
TITLE_CHARACTERS = 46


@dataclass(frozen=True)
class Theme:
    """Colours of one edition.

    Attributes:
        name: `light` or `dark`.
        paper: background. ink: text. muted: secondary text. grid: rules.
        models: colour per model name.
        cycle: colours of series that are not models (losses, metrics), none of them a model's.
        verdicts: colour per verdict on an arm; told apart without red and green, too.
    """

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    models: dict[str, str]
    cycle: tuple[str, ...]
    verdicts: dict[str, str]


LIGHT = Theme(
    name="light", paper="#ffffff", ink="#1d2733", muted="#66717e", grid="#e7eaee",
    models={"teacher": "#16825d", "init": "#c9701a", "matched": "#8a4fb8", "student": "#1769c2",
            "trigram": "#5f6873", "unigram": "#8b939d"},
    cycle=("#5b4bb7", "#b0357f", "#7a6a00", "#b5402e", "#37758f"),
    verdicts={"better": "#1769c2", "worse": "#a8430f", "different": "#1d2733", "undecided": "#66717e"},
)  # fmt: skip
DARK = Theme(
    name="dark", paper="#171c24", ink="#e8edf3", muted="#98a3b0", grid="#2b323d",
    models={"teacher": "#4fce9a", "init": "#f2a65a", "matched": "#c79bf2", "student": "#62adff",
            "trigram": "#a3adb9", "unigram": "#7b8592"},
    cycle=("#a99bff", "#f08ac4", "#d8c64a", "#ff8a7a", "#7cc4dd"),
    verdicts={"better": "#62adff", "worse": "#f5a36b", "different": "#e8edf3", "undecided": "#98a3b0"},
)  # fmt: skip


def panel(theme: Theme, title: str, x: str = "", y: str = "", size_in: tuple[float, float] = SIZE_IN) -> Axes:
    """Axes of a new figure with title and axis names (with units) in the theme's look."""
    axes = panels(theme, title, x, 1, size_in)[0]
    axes.set_ylabel(y, color=theme.muted, fontsize=9)
    return axes


def panels(theme: Theme, title: str, x: str, rows: int, size_in: tuple[float, float]) -> list[Axes]:
    """As many axes below each other with one x axis, in a new figure of the theme's look."""
    stack = grid(theme, title, rows, 1, size_in)
    stack[-1].set_xlabel(x, color=theme.muted, fontsize=9)
    return stack


def grid(theme: Theme, title: str, rows: int, columns: int, size_in: tuple[float, float]) -> list[Axes]:
    """Axes in rows and columns that share both axes, row by row, in a new figure of the theme's look."""
    figure = Figure(figsize=size_in, dpi=DPI, facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = list(figure.subplots(rows, columns, sharex=True, sharey=columns > 1, squeeze=False).flat)
    # Flush with the figure's edge, not the axes': titles of figures below each other then line up.
    lines = "\n".join(textwrap.wrap(title, TITLE_CHARACTERS, break_on_hyphens=False))
    figure.suptitle(lines, x=0.012, ha="left", color=theme.ink, fontsize=11, fontweight="bold")
    for axes in all_axes:
        axes.set_facecolor(theme.paper)
        axes.tick_params(colors=theme.muted, labelsize=8.5, length=0)
        axes.grid(axis="y", color=theme.grid, linewidth=0.8)
        axes.set_axisbelow(True)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(theme.grid)
    return all_axes


def title_of(axes: Axes) -> str:
    """The title that `panel` gave the figure."""
    return _figure(axes).get_suptitle().replace("\n", " ")


@dataclass(frozen=True)
class Editions:
    """A figure drawn for a light and a dark page, as PNG."""

    title: str
    light: bytes
    dark: bytes

    def published(self, path: Path, caption: str) -> dict[str, str]:
        """Write the light one to a file; return what a page shows: file, title, caption, both editions' addresses."""
        path.write_bytes(self.light)
        return {
            "file": path.name,
            "title": self.title,
            "caption": caption,
            "light": data_uri(self.light),
            "dark": data_uri(self.dark),
        }


def editions(draw: Callable[[Theme], Axes | None]) -> Editions | None:
    """Both editions of a figure, or None where there is nothing to draw.

    They differ in colours alone, and finding where everything goes takes twice as long as drawing it: once is enough.
    """
    light, dark = draw(LIGHT), draw(DARK)
    if light is None or dark is None:
        return None
    image = png(light)
    _lay_out_as(_figure(dark), _figure(light))
    return Editions(title_of(light), image, png(dark))


def _lay_out_as(figure: Figure, other: Figure) -> None:
    """Put axes and title where a figure of the same content has them."""
    figure.set_layout_engine("none")
    for axes, model in zip(figure.axes, other.axes, strict=True):
        axes.set_position(model.get_position())
    for text, model_text in zip(figure.texts, other.texts, strict=True):
        text.set_position(model_text.get_position())


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure


def png(axes: Axes) -> bytes:
    """The figure as PNG, without metadata: equal data gives equal bytes."""
    figure = _figure(axes)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    # A figure has few colours: a palette of them takes a third of the bytes and looks the same.
    palette = drawn.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def data_uri(image: bytes) -> str:
    """A PNG that needs no file beside the page."""
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")
