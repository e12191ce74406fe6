"""Figures of a recipe that chooses among candidates: their sentences, what is kept, what a student cannot end."""

from functools import partial

from dante.report.figures.candidates import exposure, kept, positions
from dante.report.figures.drawing import Drawing
from dante.report.read import Run

POSITIONS = (
    "Types after training; bands: 95% interval of a share over answers. Area: sum over positions of right − wrong in "
    "percentage points, its 95% interval over prompts. Which sentences stand where follows from lengths, too."
)
DENSITY = (
    "Of each answer the geometric mean of its tokens' probabilities under the teacher at temperature 1. Shift: largest "
    "distance between the distributions of what is kept and of all candidates (Kolmogorov and Smirnov)."
)
EXPOSURE = (
    "Bins hold equally many answers; bars: 95% interval (Wilson). Lengths in the student's tokens. A student may run "
    "long because it loops, because it is lost, or because it explains more: the share tells none of these."
)


def drawings(run: Run) -> dict[str, Drawing]:
    """File stem → figure."""
    figures: dict[str, Drawing] = {}
    for temperature in (run.sentences.get("after") or {}).get("positions", {}):
        stem = f"types_by_position-{temperature}"
        figures[stem] = Drawing("sentences", partial(positions.by_position, run, temperature), POSITIONS)
    for temperature in run.sentences.get("temperatures", {}):
        figures[f"kept-{temperature}"] = Drawing("sentences", partial(kept.densities, run, temperature), DENSITY)
    figures["exposure"] = Drawing("sentences", partial(exposure.by_length, run), EXPOSURE)
    return figures
