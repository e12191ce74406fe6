"""One look for all figures, in a light and a dark edition; a colour always means the same model."""

import base64
import io
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# A phone shows a figure 360 px wide: small figures with normal type stay readable, large ones shrink to dust.
SIZE_IN = (5.4, 3.3)
DPI = 170


@dataclass(frozen=True)
class Theme:
    """Colours of one edition.

    Attributes:
        name: `light` or `dark`.
        paper: background. ink: text. muted: secondary text. grid: rules.
        models: colour per model name.
        cycle: colours of series that are not models (losses, metrics); told apart by colour-blind readers.
    """

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    models: dict[str, str]
    cycle: tuple[str, ...]


LIGHT = Theme(
    name="light", paper="#ffffff", ink="#1d2733", muted="#66717e", grid="#e7eaee",
    models={"teacher": "#16825d", "init": "#c9701a", "student": "#1769c2", "trigram": "#7d8691", "unigram": "#a9b0b9"},
    cycle=("#1769c2", "#c9701a", "#16825d", "#a23b8f", "#7a6a00", "#c0392b", "#4b5fa8"),
)  # fmt: skip
DARK = Theme(
    name="dark", paper="#171c24", ink="#e8edf3", muted="#98a3b0", grid="#2b323d",
    models={"teacher": "#4fce9a", "init": "#f2a65a", "student": "#62adff", "trigram": "#8b95a1", "unigram": "#5f6975"},
    cycle=("#62adff", "#f2a65a", "#4fce9a", "#e08bd0", "#d8c64a", "#ff8a7a", "#9fb0f0"),
)  # fmt: skip


def panel(theme: Theme, title: str, x: str = "", y: str = "", size_in: tuple[float, float] = SIZE_IN) -> Axes:
    """Axes of a new figure with title and axis names (with units) in the theme's look."""
    figure = Figure(figsize=size_in, dpi=DPI, facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.paper)
    # Flush with the figure's edge, not the axes': titles of figures below each other then line up.
    figure.suptitle(title, x=0.012, ha="left", color=theme.ink, fontsize=11, fontweight="bold")
    axes.set_xlabel(x, color=theme.muted, fontsize=9)
    axes.set_ylabel(y, color=theme.muted, fontsize=9)
    axes.tick_params(colors=theme.muted, labelsize=8.5, length=0)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.grid)
    return axes


def title_of(axes: Axes) -> str:
    """The title that `panel` gave the figure."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure.get_suptitle()


def png(axes: Axes) -> bytes:
    """The figure as PNG, without metadata: equal data gives equal bytes."""
    buffer = io.BytesIO()
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def data_uri(image: bytes) -> str:
    """A PNG that needs no file beside the page."""
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")
