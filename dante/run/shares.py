"""How long each fit of a recipe is: its share of the run's one budget, so that recipes compare at equal compute.

`budget` gives the run a number of steps or an amount of compute. A recipe's only fit has all of it. Where there are
several, each names its `share`, unless it brings a length of its own (`changes.fit.steps` or `.compute`).
"""

import math
from typing import Any

from dante.errors import DanteError
from dante.run.recipe import Steps, merged
from dante.run.stages import STAGES


def shared_out(steps: Steps) -> Steps:
    """The steps in which every fit has its part of the budget as its own `fit.steps` or `fit.compute`.

    Raises:
        DanteError: several fits and no share, shares that are not the whole, a share that is less than one step.
    """
    sharing = [label for label, step in steps.items() if step["stage"] == "fit" and not _own_length(step)]
    for label, step in steps.items():
        if step.get("share") is not None and label not in sharing:
            raise DanteError(
                f"step {label!r} has a share of the budget and cannot use it",
                where=f"steps.{label}.share",
                allowed="a share for a step of stage `fit` without changes.fit.steps or changes.fit.compute",
                fix=f"steps.{label}.share=null",
            )
    if len(sharing) == 1 and steps[sharing[0]].get("share") is None:
        return steps
    shares = _checked({label: steps[label].get("share") for label in sharing})
    result, before = dict(steps), 0.0
    for label, share in shares.items():
        fit, fit_length = steps[label]["settings"]["fit"], {}
        if fit["steps"] is not None:  # rounded at the borders, so that the parts make the whole
            fit_length["steps"] = round(fit["steps"] * (before + share)) - round(fit["steps"] * before)
            if fit_length["steps"] < 1:
                raise DanteError(
                    f"step {label!r} gets less than one step",
                    where=f"steps.{label}.share",
                    allowed="a share of one step or more",
                    fix=f"raise steps.{label}.share, or the budget: fit.steps=N",
                )
        if fit["compute"] is not None:
            fit_length["compute"] = fit["compute"] | {"amount": fit["compute"]["amount"] * share}
        # As a change of its own, so that a stored configuration is not divided once more.
        changes = merged(steps[label].get("changes") or {}, {"fit": fit_length})
        settings = merged(steps[label]["settings"], {"fit": fit_length})
        result[label] = steps[label] | {"settings": settings, "changes": changes, "share": None}
        before += share
    return result


def read_ahead(steps: Steps) -> Steps:
    """The steps in which whoever reads a fit's batches before it has that fit's batches and seed.

    Raises:
        DanteError: no fit reads what such a step writes, or several do.
    """
    result = dict(steps)
    for label, step in steps.items():
        if not STAGES[step["stage"]].reads_ahead:
            continue
        readers = [
            name
            for name, other in steps.items()
            if other["stage"] == "fit" and label in (other.get("inputs") or {}).values()
        ]
        if len(readers) != 1:
            raise DanteError(
                f"step {label!r} keeps something for one fit, and what it writes is read by "
                f"{', '.join(readers) or 'none'}",
                where=f"steps.{label}",
                allowed="exactly one fit with this step as an input",
                fix=f"steps.{label}=null takes it away",
            )
        theirs, ours = steps[readers[0]]["settings"], step["settings"]
        batches = {key: theirs["fit"][key] for key in ours["fit"]}
        result[label] = step | {"settings": ours | {"fit": batches, "seed": theirs["seed"]}}
    return result


def _own_length(step: dict[str, Any]) -> bool:
    changed_keys = ((step.get("changes") or {}).get("fit") or {}).keys()
    return bool(changed_keys & {"steps", "compute"})


def _checked(shares: dict[str, float | None]) -> dict[str, float]:
    missing = [label for label, share in shares.items() if share is None]
    if missing or (shares and not math.isclose(sum(share or 0.0 for share in shares.values()), 1.0, rel_tol=1e-9)):
        even = " ".join(f"steps.{label}.share={1 / len(shares):.3g}" for label in shares)
        listing = ", ".join(f"{label} {'none' if share is None else share}" for label, share in shares.items())
        raise DanteError(
            f"the fits' shares of the budget do not make a whole: {listing}",
            where=f"steps.{(missing or list(shares))[0]}.share",
            allowed="shares above 0 whose sum is 1",
            fix=f"for example {even}" if len(shares) in (1, 2, 4, 5) else "give every fit its share",
        )
    return {label: share for label, share in shares.items() if share is not None}
