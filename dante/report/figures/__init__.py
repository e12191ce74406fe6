"""The report's figures: each takes what was read and a theme, and returns axes, or None where there is nothing."""

import re
from functools import partial

from dante.report.figures import candidates, capability, constraint, cost, data, fidelity, matching, result, training
from dante.report.figures.drawing import Drawing
from dante.report.one_run.constraint import Constraint, of_fit
from dante.report.read import Fit, Run

SECTIONS = ("result", "slices", "retention", "parting", "sentences", "constraint", "training", "teacher", "cost",
            "machine")  # fmt: skip


def all_figures(run: Run) -> dict[str, Drawing]:
    """File stem → figure, in the order of the report."""
    figures = {
        "bits_per_byte": Drawing("result", partial(result.bits_per_byte, run), BITS_PER_BYTE),
        "perplexity_ladder": Drawing("result", partial(result.perplexity_ladder, run), LADDER),
        "capability": Drawing("cost", partial(capability.capability, run), CAPABILITY),
        "reliability": Drawing("result", partial(result.reliability, run), RELIABILITY),
        "by_slice": Drawing("slices", partial(result.by_slice, run)),
        "per_item": Drawing("slices", partial(result.per_item, run)),
        "retention": Drawing("retention", partial(result.retention, run)),
        "agreement_by_position": Drawing("parting", partial(fidelity.by_position, run), AGREEMENT),
        "agreement_by_entropy": Drawing("parting", partial(fidelity.by_entropy, run), AGREEMENT_ENTROPY),
    }
    figures |= candidates.drawings(run)
    figures["entropies"] = Drawing("teacher", partial(data.entropies, run))
    figures["confidence_weights"] = Drawing("teacher", partial(data.confidence_weights, run))
    for fit in run.fits:
        figures |= _of_fit(run, fit)
    if any(of_fit(fit) for fit in run.fits):
        figures["heldout_entropy"] = Drawing("constraint", partial(constraint.heldout, run), HELDOUT_ENTROPY)
    figures["time"] = Drawing("cost", partial(cost.time_per_step, run))
    return figures


BITS_PER_BYTE = "Whiskers: 95% interval over answers."
CAPABILITY = (
    "Points: held-out answers; the initialisation trained for 0 FLOPs here. Faint curve: cross-entropy of the train "
    "answers of each step, in the same unit; under a curriculum its level depends on which answers came when. The "
    "initialisation's and the teacher's own training are not counted, nor are generation and evaluation."
)
LADDER = "Of all supervised tokens, the end of the turn included; what training changed between two dots is one stage."
LOSS = (
    "Under a curriculum the answers of one step are easier or harder than those of another: a rise need not mean that "
    "the student got worse."
)
TRACE = (
    "The multiplier moves once per optimizer step, after the violation that it answers to. Curves that need the "
    "threshold τ begin where it is frozen."
)
DIFFICULT = (
    "Bars: share of all tokens of the window. Right: the most likely token is the label. Faint: below τ, not "
    "penalised. The bin that τ falls in is divided in proportion."
)
HELDOUT_ENTROPY = (
    "How many tokens of the held-out answers have a higher entropy than this. Dashed: those of them that are wrong "
    "(the most likely token is not the teacher's); between dashed and solid stand tokens that are unsure and right."
)
AGREEMENT = (
    "Whiskers: 95% interval over answers. Positions count the tokens of an answer from 1; late bins hold long answers "
    "alone, so along the axis the answers change, too."
)
AGREEMENT_ENTROPY = (
    "Whiskers: 95% interval over answers. Entropy of the teacher's next-token distribution at temperature 1: where it "
    "is high, several tokens are nearly as likely, and another most likely one need not be an error."
)
KL = (
    "As each loss logs it of the tokens of its step: its level depends on which tokens came, and it is not the KL of "
    "the held-out answers."
)
MATCHING = (
    "NMSE: squared error of a unit's output over the square of the block's, on the teacher's own states. A low error "
    "is no low perplexity yet: errors of layers add up when they run together."
)
RELIABILITY = "Bins of equal width; a dot's area is its bin's share of the tokens."


def _of_fit(run: Run, fit: Fit) -> dict[str, Drawing]:
    stem = "" if len(run.fits) == 1 else f"{_slug(fit.label)}-"
    figures = {
        "loss": Drawing("training", partial(training.loss, fit), LOSS),
        "components": Drawing("training", partial(training.components, fit)),
        "kl": Drawing("training", partial(training.kl, fit), KL),
        "matching": Drawing("training", partial(matching.by_layer, fit), MATCHING),
        "matching_steps": Drawing("training", partial(matching.over_steps, fit)),
        "schedules": Drawing("training", partial(training.schedules, fit)),
        "optimizer": Drawing("training", partial(training.optimizer, fit)),
    }
    weighted = data.weighted_loss(run)
    shown = f"{weighted[0]}/mean_weight" if weighted else ""
    constraints = of_fit(fit)
    for fit_constraint in constraints:
        figures |= _of_constraint(fit_constraint)
    shown_keys = {
        shown,
        *(f"{fit_constraint.name}/{metric}" for fit_constraint in constraints for metric in constraint.SHOWN),
    }
    for group, keys in training.measurements(fit.metrics).items():
        if not shown_keys.issuperset(keys):
            figures[f"measured-{_slug(group)}"] = Drawing("training", partial(training.measured, fit, group))
    if weighted:
        figures["weight"] = Drawing("training", partial(data.weight_over_steps, fit, *weighted))
    figures["machine"] = Drawing("machine", partial(training.machine, fit))
    return {stem + name: drawing for name, drawing in figures.items()}


def _of_constraint(fit_constraint: Constraint) -> dict[str, Drawing]:
    name = _slug(fit_constraint.name)
    return {
        f"constraint-{name}": Drawing("constraint", partial(constraint.trace, fit_constraint), TRACE),
        f"difficult-{name}": Drawing("constraint", partial(constraint.difficult, fit_constraint), DIFFICULT),
    }


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-") or "x"
