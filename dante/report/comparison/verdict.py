"""What a comparison says, in plain sentences: of every arm, of the design, and of how it was judged."""

from collections.abc import Sequence

from dante.look.numbers import probability
from dante.report.comparison.factors import FactorEffect
from dante.report.comparison.judge import (
    BETTER,
    CONFIDENCE,
    LEVEL,
    ONE_SEED,
    POWER,
    RESAMPLES,
    UNDECIDED,
    WORSE,
    Cell,
    Result,
)
from dante.report.comparison.tables import Group
from dante.report.comparison.words import digits, signed, span, unit
from dante.report.words import Metric
from dante.statistics.crossed import Effect

ONE_SEED_SENTENCE = (
    "An arm with one seed is not judged: its interval speaks of other texts, and nothing here says how another "
    "training seed would turn out. Over texts alone, two runs of one and the same arm were told apart in 70% of "
    "comparisons."
)


def corrected_for(result: Result | None) -> str:
    """What the p-values of a table's arms are corrected for."""
    tests = sum(cell.p_corrected is not None for cell in result.others) if result else 0
    return f"p-values are corrected for {tests} comparisons (Holm)." if tests > 1 else ""


def headline(results: Sequence[Result]) -> str:
    """How many arms of a table are better, worse, undecided on its primary metric."""
    primary = next((result for result in results if result.primary), None)
    if primary is None:
        return "Held-out bits per byte were not measured, so there is no verdict; see the other metrics."
    if not primary.others:
        return f"{primary.baseline.arm} stands alone: there is nothing to compare it with."
    order = (BETTER, WORSE, UNDECIDED, ONE_SEED, "")
    counts = {name: [cell.arm for cell in primary.others if cell.verdict == name] for name in order}
    base = primary.baseline.arm
    words = {BETTER: f"better than {base}", WORSE: f"worse than {base}", UNDECIDED: f"undecided against {base}",
             ONE_SEED: f"undecided against {base} with one seed", "": "not judged"}  # fmt: skip
    parts = [f"{_listed(names)} {words[name]}" for name, names in counts.items() if names]
    # The baseline is named once.
    parts = [parts[0], *(part.replace(f" than {base}", "").replace(f" against {base}", "") for part in parts[1:])]
    return f"On held-out bits per byte, {_joined(parts)}."


def sentence(result: Result, cell: Cell) -> str:
    """One arm against the baseline: what, by how much, how sure. The arm's name is not in it: it stands before."""
    how, effect, places = result.how, cell.effect, digits(result)
    if effect is None:
        return f"not compared: {cell.why_not.removeprefix('not comparable: ')}"
    difference = f"{signed(how, effect.difference, places)} {unit(how)}".strip()
    if cell.verdict == ONE_SEED and effect.low is not None and effect.high is not None:
        reach = span(how, effect.low, effect.high, places)
        return f"one seed, {difference} ({CONFIDENCE:.0%} interval over items alone {reach})"
    if effect.low is None or effect.high is None or cell.p_corrected is None:
        why = effect.notes[-1] if effect.notes else "nothing to judge it by"
        return f"not judged, {difference}: {why}"
    return _judged(cell.verdict, effect, cell.p_corrected, how, places)


def _judged(verdict: str, effect: Effect, p_corrected: float, how: Metric, places: int, where: str = "") -> str:
    """`better by 0.034 bits per byte (95% interval …, p = 0.006)`; `where` follows the amount."""
    assert effect.low is not None
    assert effect.high is not None
    p = f"p = {probability(p_corrected)}".replace("= <", "< ")
    judged = f"{CONFIDENCE:.0%} interval {span(how, effect.low, effect.high, places)}, {p}"
    difference = f"{signed(how, effect.difference, places)} {unit(how)}".strip()
    if verdict in (BETTER, WORSE):
        gap = f"{signed(how, abs(effect.difference), places)[1:]} {unit(how)}".strip()
        return f"{verdict} by {gap}{where} ({judged})"
    return f"{verdict}, {difference}{where} ({judged})"


def of_factor(one: FactorEffect, how: Metric, places: int) -> str:
    """One level of a factor against another, over all pairs of arms that differ in nothing else."""
    effect = one.effect
    pairs = f" over {one.pairs} pairs of arms" if one.pairs > 1 else " in one pair of arms"
    if effect.low is None or effect.high is None or one.p_corrected is None:
        return f"not judged, {signed(how, effect.difference, places)} {unit(how)}".strip() + pairs
    return _judged(one.verdict, effect, one.p_corrected, how, places, pairs)


def design(group: Group, primary: Result | None) -> str:
    """What the table's design could have found at all."""
    if primary is None or not primary.others:
        return ""
    detectable_effects = [cell.detectable for cell in primary.others if cell.detectable]
    alone = any(cell.verdict == ONE_SEED for cell in primary.others)
    if not detectable_effects:
        return ONE_SEED_SENTENCE if alone else ""
    seeds = {len(cell.effect.seeds_a) for cell in primary.others if cell.effect and cell.detectable}
    places = digits(primary)
    low, high = (signed(primary.how, bound, places)[1:] for bound in (min(detectable_effects), max(detectable_effects)))
    reach = f"{low} bits per byte" if low == high else f"{low} to {high} bits per byte, depending on the arm"
    many = _number(min(seeds)) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    text = (
        f"With {many} seeds per arm and {primary.baseline.items} answers, the smallest "
        f"true difference found with {POWER:.0%} power is {reach}"
        f"{', after correction' if len(detectable_effects) > 1 else ''}. A smaller one is found less often."
    )
    if max(seeds) < 5:
        text += f" Few seeds are what limits it: an arm's {many} seeds leave {max(seeds) - 1} degrees of freedom."
    return f"{text} {ONE_SEED_SENTENCE}" if alone else text


def method(results: Sequence[Result]) -> list[str]:
    """How it was judged, for a reader who wants to check it."""
    others = sum(c.p_corrected is not None for r in results if not r.primary for c in r.others)
    arms = sum(c.p_corrected is not None for r in results if r.primary for c in r.others)
    paragraphs = [
        "Runs are paired: the same seed draws the same records, and the same item is as hard for both. Differences are "
        "taken within seed and item, then averaged.",
        f"An interval ({CONFIDENCE:.0%}) covers another set of seeds and another choice of items: both are random "
        "samples (crossed random effects, Satterthwaite's degrees of freedom). A difference also has to hold over the "
        "seeds alone (t test on the runs' values); the wider interval and the larger p-value are given. A metric "
        "without items has its seeds alone; an arm with one seed has its items alone, and is not judged.",
        f"Intervals are {CONFIDENCE:.0%} each, uncorrected; a mark goes by the corrected p-value (below {LEVEL:g}). So "
        "an interval may exclude zero and its arm still be undecided.",
        "Held-out bits per byte are the primary metric"
        + (f", corrected by Holm's method for the {arms} comparisons of this table: " if arms > 1 else ": ")
        + f"the chance of even one false mark stays below {LEVEL:.0%}.",
    ]
    if others:
        paragraphs.append(
            f"All other metrics are exploratory, corrected together by Benjamini and Hochberg's method ({others} "
            f"comparisons): of what is marked there, {LEVEL:.0%} may be chance."
        )
    paragraphs.append(
        f"A percentile bootstrap over seeds and items ({RESAMPLES:,} resamples) stands in the CSV and JSON files. It "
        "does not judge: with three seeds it told runs of one and the same arm apart in 19% of comparisons, where the "
        "intervals here did in 5.5%; promised are 5% (experiments/statistics_calibration)."
    )
    return paragraphs


def why_tables(groups: Sequence[Group]) -> str:
    """Why there are several tables; empty where there is one."""
    if len(groups) < 2:
        return ""
    apart = _joined(list(groups[0].differs))
    return (
        f"There are {_number(len(groups))} tables, because these runs do not share their {apart}. Numbers from "
        "different tables are not ranked together: a difference between them may come from anything that differs."
    )


def _listed(names: Sequence[str]) -> str:
    verb = "is" if len(names) == 1 else "are"
    if len(names) > 3:
        return f"{_number(len(names))} arms {verb}"
    return f"{_joined(list(names))} {verb}"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _number(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    return words[count] if count < len(words) else str(count)
