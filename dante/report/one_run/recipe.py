"""What was run and why, in plain sentences taken from the settings that the steps stored."""

import re
import shlex

from dante.report.read import Fit, Json, Run
from dante.report.words import compact, plain


def sentences(run: Run) -> list[str]:
    """Who learns from whom, how each training step does it, and what losses do whose names do not tell."""
    texts = []
    if "name" in run.init:
        texts.append(_who(run))
    texts += [_how(fit, several=len(run.fits) > 1) for fit in run.fits]
    loss_sentences = [
        str(loss_summary.get("sentence", ""))
        for fit in run.fits
        for loss_summary in (fit.summary.get("losses") or {}).values()
    ]
    return texts + [text for text in dict.fromkeys(loss_sentences) if text]


def command(run: Run, name: str, experiment: str, scale: str, seed: int) -> str:
    """The experiment's command, with what its settings say spelt out; parts chosen beside them are in `config.yaml`."""
    words = ["python", "train.py", f"+experiment={experiment}"]
    words += [f"scale={scale}", f"seed={seed}"]
    if len(run.fits) == 1:
        settings = run.fits[0].settings
        fidelity, fit = settings.get("fidelity", {}), settings.get("fit", {})
        words += [f"fidelity={fidelity['name']}"] if "name" in fidelity else []
        words += _length(fit) + ([f"fit.lr={fit['lr']:g}"] if "lr" in fit else [])
    if name != f"{experiment}-{scale}-s{seed}":
        words.append(f"run.name={name}")
    return shlex.join(words)


def exact(folder: str, name: str) -> str:
    """The command that repeats a run from its stored configuration, every key of it, beside the old run.

    Args:
        folder: the run's directory.
        name: of the run.
    """
    words = ["python", "train.py", f"--config-dir={folder}", "--config-name=config"]
    return shlex.join([*words, "hydra.run.dir=.", "hydra.output_subdir=null", f"run.dir=runs/again/{name}"])


def _length(fit: Json) -> list[str]:
    """What says how long a fit is: a number of steps, or a compute budget."""
    budget = fit.get("compute")
    if budget:
        return [f"budget={budget['unit']}", f"budget.compute.amount={budget['amount']}"]
    return [f"fit.steps={fit['steps']}"] if "steps" in fit else []


def anchors(run: Run) -> list[tuple[str, Json]]:
    """Losses that measure how far weights moved: name and the last line that its fit logged."""
    last = [fit.metrics[-1] for fit in run.fits if fit.metrics]
    return [(key.split("/")[0], line) for line in last for key in line if key.endswith("/drift_frobenius")]


def curriculum(fit: Fit) -> str:
    """`sorted once repeat`: the curriculum's class name in words, with its arguments."""
    return _part(fit.settings.get("fit", {}).get("curriculum") or {})


def _part(node: Json) -> str:
    """A part with its arguments, which may be parts: `part (whole sorted once repeat, start 0, end 0.5)`."""
    words = {k: _part(v) if isinstance(v, dict) else plain(v) for k, v in node.items() if k != "_target_"}
    arguments = ", ".join(f"{key} {value}" for key, value in words.items())
    return words_of(node.get("_target_", "")) + (f" ({arguments})" if arguments else "")


def words_of(target: str) -> str:
    """`dante.data.curriculum.SortedOnceRepeat` → `sorted once repeat`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", target.rsplit(".", 1)[-1]).lower()


def _who(run: Run) -> str:
    size = f" ({compact(run.init['parameters'])} parameters)" if "parameters" in run.init else ""
    layers = run.init.get("layers")
    kept = f", {len(layers)} layers kept" if layers else ""
    start = "from random weights" if run.init.get("weights") == "random" else "from pretrained weights"
    counts = run.cache.get("counts", {})
    answers = f"{counts['train']:,} answers" if "train" in counts else "answers"
    teacher = run.teacher.get("name", "the teacher")
    writer = (run.cache.get("teacher") or {}).get("name", teacher)
    whose = writer if writer == teacher else f"{writer}, with {teacher} as its teacher"
    return f"{run.init['name']}{size} learns from {answers} of {whose}; it starts {start}{kept}."


def _how(fit: Fit, *, several: bool) -> str:
    nodes = fit.settings.get("losses", {})
    parts = " + ".join(f"{name}{_weight(node)}" for name, node in nodes.items())
    what = f"Step {fit.label} minimises" if several else "It minimises"
    text = f"{what} {parts or 'its losses'}"
    if order := curriculum(fit):
        text += f"; curriculum: {order}"
    fidelity = fit.settings.get("fidelity", {})
    if "name" in fidelity:
        text += f"; fidelity: {fidelity['name']}"
    return f"{text}. {_budget(fit)}"


def _weight(node: Json) -> str:
    """A loss's schedule: `(weight 0.7 → 1, hold then ramp)`, with whether it is calibrated."""
    schedule = node.get("weight") or {}
    numbers = [f"{schedule[key]:g}" for key in ("value", "start", "end") if isinstance(schedule.get(key), int | float)]
    facts = [f"weight {' → '.join(numbers)}"] if numbers else []
    facts += [words_of(schedule["_target_"])] if len(numbers) > 1 and "_target_" in schedule else []
    facts += ["calibrated"] if node.get("calibrate") is True else []
    return f" ({', '.join(facts)})" if facts else ""


def _budget(fit: Fit) -> str:
    settings, summary, data = fit.settings.get("fit", {}), fit.summary, fit.summary.get("data", {})
    batch = settings.get("batch", {})
    text = f"{summary.get('steps', settings.get('steps', '?'))} steps"
    if batch:
        text += f" of {batch['size']} {batch['unit']}"
    if "supervised_tokens" in summary:
        text += f", {compact(summary['supervised_tokens'])} supervised tokens"
    if data.get("train_records") and "records" in data:
        text += f", {data['records'] / data['train_records']:.2f} passes over the train answers"
    return text + "."
