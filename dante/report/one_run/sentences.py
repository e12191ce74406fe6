"""What is said of a run that chose among several answers: types of sentences, what selectors keep, the mixed round."""

from typing import Any

from dante.look.numbers import number
from dante.report.read import Json, Run

# Types as a reader meets them, with what they mean.
MEANINGS = {
    "teacher": "the teacher finds it likelier than the untrained student",
    "student": "the untrained student finds it likelier",
    "common": "both find it about as likely",
    "shared": "all three find it about as likely",
    "boosted": "training moved it, and neither of the first two stands out",
    "none": "a model ends no token in it",
}
# (paper, ink) per type: told apart by lightness, too, and each type is named in the title of its sentence.
LIGHT = {
    "teacher": ("#bfe3d3", "#14181f"), "student": ("#f6d2a8", "#14181f"), "common": ("#eceff2", "#1d2733"),
    "shared": ("#eceff2", "#1d2733"), "boosted": ("#bcd3f2", "#14181f"), "none": ("transparent", "inherit"),
}  # fmt: skip
DARK = {
    "teacher": ("#1f5b45", "#ffffff"), "student": ("#6e4315", "#ffffff"), "common": ("#252c36", "#e8edf3"),
    "shared": ("#252c36", "#e8edf3"), "boosted": ("#244a7c", "#ffffff"), "none": ("transparent", "inherit"),
}  # fmt: skip
WORDS = {"all": "all candidates", "max_teacher_sentences": "most teacher sentences"}


def page(run: Run) -> Json | None:
    """What the page of examples shows, as plain values; None where the run kept none."""
    if not run.sentence_examples:
        return None
    return {
        "beta": number(run.sentences["beta"]),
        "alpha": number(run.sentences["alpha"]),
        "answers": [_answer(line) for line in run.sentence_examples],
        "of": run.sentences["after"]["answers"],
        "light": LIGHT,
        "dark": DARK,
        "meanings": MEANINGS,
    }


def tables(run: Run) -> list[Json]:
    """Per temperature what selectors keep: rows of text."""
    return [
        {
            "temperature": temperature,
            "answers": f"{one['answers']:,} answers to {one['prompts']:,} prompts"
            + (f", {one['right']:.0%} of them right" if one["right"] is not None else ""),
            "grid": [(f"{beta:g}", shares) for beta, shares in _grid(one)],
            "rows": [_selector(name, facts) for name, facts in one["selectors"].items()],
        }
        for temperature, one in run.sentences.get("temperatures", {}).items()
    ]


def sentences(run: Run) -> list[str]:
    """What was found, in sentences."""
    return [*_temperatures(run), *_after(run), *_scoring(run), *_mixed(run)]


def _grid(one: Json) -> list[tuple[float, dict[str, str]]]:
    """Shares of types under every β, the smallest first."""
    shares = sorted((float(beta), by_type) for beta, by_type in one["shares"].items())
    return [(beta, {name: f"{share:.0%}" for name, share in by_type.items()}) for beta, by_type in shares]


def _selector(name: str, facts: Json) -> Json:
    return {
        "name": WORDS.get(name, name.replace("_", " ")),
        "answers": f"{facts['answers']:,}",
        "tokens": f"{facts['tokens']:.0f}",
        "teacher_sentences": f"{facts['teacher_sentences']:.2f}",
        "share": f"{facts['teacher_sentences'] / facts['sentences']:.0%}" if facts["sentences"] else "–",
        "right": "–" if facts["right"] is None else f"{facts['right']:.1%}",
        "probability": f"{facts['probability']:.3f}",
        "shift": f"{facts['shift']:.3f}",
    }


def _temperatures(run: Run) -> list[str]:
    said = []
    for temperature, one in run.sentences.get("temperatures", {}).items():
        beta = f"{one['beta']:g}"
        shares = one["shares"][beta]
        listed = ", ".join(f"{share:.0%} {name}" for name, share in shares.items())
        said.append(
            f"T={temperature}: a token of the teacher's answers has a probability of {one['probability']:.3f} under it "
            f"(geometric mean of an answer, mean over answers), their entropy is {one['entropy']:.2f} nats per token; "
            f"sentences before training at β = {beta}: {listed} (β found by itself: {one['automatic_beta']:.3f})."
        )
    return said


def _after(run: Run) -> list[str]:
    after = run.sentences.get("after")
    if not after:
        return []
    listed = ", ".join(f"{share:.0%} {name}" for name, share in after["shares"].items())
    nats = after["nats"]
    return [
        f"After training, {after['answers']:,} candidates read once more, at α = {run.sentences['alpha']:g}: {listed}; "
        f"the student's cross-entropy on them went from {nats['before']:.3f} to {nats['after']:.3f} nats per token."
    ]


def _scoring(run: Run) -> list[str]:
    """How fast candidates were read, and what share of the run's compute that was."""
    if not run.likelihood:
        return []
    timed = run.likelihood["speed"]
    speed = timed["tokens"] / timed["seconds"] if timed.get("seconds") else None
    text = f"The untrained student read {run.likelihood['tokens']:,} tokens of {run.likelihood['records']:,} candidates"
    text += f" at {speed:,.0f} tokens per second" if speed else ""
    parts = [fit.summary.get("compute") or {} for fit in run.fits]
    spent = {name: sum((part.get(name) or {}).get("flops") or 0.0 for part in parts) for name in ("scoring", "total")}
    if spent["total"]:
        share = spent["scoring"] / spent["total"]
        text += f"; reading what answers were chosen from is {share:.1%} of the compute of all rounds"
    return [text + "."]


def _mixed(run: Run) -> list[str]:
    facts = run.mixed
    if not facts:
        return []
    sampled = facts["sampled"]
    dropped = ", ".join(f"{one['name']} {one['dropped']:,}" for one in facts["filters"] if one["dropped"])
    dropped = f" (dropped: {dropped})" if dropped else ""
    return [
        f"Mixed round: of {sampled['samples']:,} answers of the student {sampled['cut_off']:,} reached their limit; "
        f"the teacher went on with {facts['continued']:,}, filters kept {facts['kept']:,}{dropped}, and "
        f"{facts['off_policy']:,} of the teacher's own stand beside them."
    ]


def _answer(line: Json) -> dict[str, Any]:
    prompt = line["prompt"]
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    verdict = {True: "right", False: "wrong", None: ""}[line["correct"]]
    return {
        "id": line["id"],
        "tags": [
            tag for tag in (f"T={line['temperature']:g}" if line["temperature"] is not None else "", verdict) if tag
        ],
        "turns": turns,
        "sentences": [
            {
                "text": one["text"].rstrip(),
                "space": one["text"][len(one["text"].rstrip()) :],  # behind the numbers, not between
                "before": one["before"],
                "after": one["after"],
                "title": f"before: {one['before']}, after: {one['after']}; teacher {_shown(one['teacher'])}, student "
                f"{_shown(one['student'])}, trained {_shown(one['distilled'])}",
                "numbers": f"{_shown(one['teacher'])} {_shown(one['student'])} {_shown(one['distilled'])}",
            }
            for one in line["sentences"]
        ],
    }


def _shown(probability: float | None) -> str:
    return "–" if probability is None else f"{probability:.2f}"
