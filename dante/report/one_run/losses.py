"""What a loss whose name does not tell it does, in one sentence from its settings."""

from collections.abc import Callable
from dataclasses import dataclass

from dante.report.read import Json
from dante.report.words import is_number, number


@dataclass(frozen=True)
class Signal:
    """How a signal reads: after "a token's signal", and on an axis."""

    phrase: str
    axis: str


_SIGNALS = {
    "predictive": Signal("entropy of its prediction over log V", "predictive entropy H / log V"),
    "energy": Signal("entropy of its hidden state's energy over log d", "entropy of h² / ‖h‖², over log d"),
    "gram": Signal("entropy of its answer's hidden states", "von Neumann entropy of an answer's hidden states"),
}
# A guard, like a signal, that is not here is shown by its name.
GUARDS = {
    "label_is_argmax": "only where the label is the most likely token",
    "only_label_rises": "only where no token but the label gains",
    "label_probability": "in proportion to the label's probability",
    "label_in_top5": "only where the label is among the five most likely tokens",
    "none": "whether right or wrong",
}


def signal_of(name: str) -> Signal:
    """How a signal reads; one that nobody described by its name."""
    return _SIGNALS.get(name, Signal(name, name))


def sentence(name: str, settings: Json) -> str:
    """What the loss does; empty for one that nobody described."""
    describe = DESCRIBED.get(settings.get("_target_", ""))
    return describe(name, settings) if describe else ""


def _dual_penalty(name: str, node: Json) -> str:
    signal, guard = str(node.get("signal")), str(node.get("guard"))
    multiplier = node.get("multiplier") or {}
    fixed = is_number(multiplier.get("level"))
    text = (
        f"{name} penalises what a token's signal ({signal_of(signal).phrase}) exceeds a threshold τ by, "
        f"{GUARDS.get(guard, f'guard {guard}')}"
    )
    text += "" if fixed else ", as hard as it takes to keep the mean excess below a bound ε"
    facts = [_threshold(node), "" if fixed else _bound(node), _multiplier(multiplier)]
    if is_number(node.get("augmentation")) and node["augmentation"]:
        facts.append(f"augmented with c = {number(node['augmentation'])}")
    told = ", ".join(fact for fact in facts if fact)
    return f"{text}: {told}." if told else f"{text}."


def _threshold(node: Json) -> str:
    measured = ""
    if is_number(node.get("measure_from")) and is_number(node.get("measure_until")):
        measured = f" between {node['measure_from']:.0%} and {node['measure_until']:.0%} of the run"
    if is_number(node.get("threshold")):
        return f"τ = {number(node['threshold'])}"
    if is_number(node.get("difficult")):
        return f"τ lets {node['difficult']:.0%} of the tokens{measured} exceed it"
    return ""


def _bound(node: Json) -> str:
    schedule = node.get("bound") or {}
    shares = [schedule[key] for key in ("value", "start", "end") if is_number(schedule.get(key))]
    if not shares:
        return ""
    base = number(node["initial_bound"]) if is_number(node.get("initial_bound")) else "the measured excess"
    held = f" from {schedule['hold']:.0%} of the run on" if is_number(schedule.get("hold")) else ""
    return (
        f"ε goes from {number(shares[0])} to {number(shares[-1])} times {base}{held}"
        if len(shares) > 1
        else (f"ε is {number(shares[0])} times {base}")
    )


def _multiplier(node: Json) -> str:
    if is_number(node.get("level")):
        return f"the multiplier is fixed at {number(node['level'])}"
    names = {"k_i": "K_I", "k_p": "K_P", "nu": "ν", "maximum": "at most"}
    facts = [f"{said} {number(node[key])}" for key, said in names.items() if is_number(node.get(key))]
    kind = str(node.get("_target_", "")).rsplit(".", 1)[-1].replace("NuPI", "νPI")
    return f"the multiplier follows {kind} ({', '.join(facts)})" if facts else ""


def _entropy_penalty(name: str, node: Json) -> str:
    how = "right or wrong, without threshold, guard or bound"
    return f"{name} penalises the mean entropy of all predictions over log V, {how}."


# Class → what it does under a name with settings.
DESCRIBED: dict[str, Callable[[str, Json], str]] = {
    "dante.losses.dual_penalty.DualPenalty": _dual_penalty,
    "dante.losses.entropy_penalty.EntropyPenalty": _entropy_penalty,
}
