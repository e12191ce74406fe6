"""Stage `report`: a self-contained page, the same in Markdown, the figures, and the model card with results.

Reads files only (see `dante.report.read`); no network, no script, every text escaped.
"""

import re
import shutil
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from dante import console
from dante.look.page import environment
from dante.look.theme import editions
from dante.report.figures import SECTIONS, all_figures
from dante.report.one_run import sentences, tokens
from dante.report.one_run.card import card_with_results
from dante.report.one_run.content import content, file_links
from dante.report.read import Run, read_run
from dante.report.settings import Settings
from dante.run.step import Step


def run(step: Step[Settings]) -> None:
    """Writes `index.html`, `report.md` and `*.png` into `step.out`.

    Where there is a release, also `model_card.md`; where the evaluation kept answers token by token, `tokens.html`;
    where candidates were looked at, `sentences.html`.

    Settings: `experiment` (name, title, hypothesis, source), `run.name`, `report` (`generations`: most side-by-side
    answers to show; `scale`, `seed`: of the command that repeats the run; `published`: a card's own cost, or None).
    """
    shutil.rmtree(step.out, ignore_errors=True)
    step.out.mkdir(parents=True)
    read = read_run(step.inputs)
    links = file_links(read, step.inputs, step.out, step.settings.run.name)
    facts = content(read, step.settings, links) | {"figures": _figures(step, read)}
    page = templates(autoescape=True).get_template("index.html.jinja")
    (step.out / "index.html").write_text(page.render(facts), encoding="utf-8")
    shown = tokens.page(read)
    if shown is not None:
        title = f"Where teacher and student part: {step.settings.experiment.title}"
        colours = templates(autoescape=True).get_template("tokens.html.jinja")
        rendered = colours.render(shown, title=title, name=step.settings.run.name)
        (step.out / "tokens.html").write_text(rendered, encoding="utf-8")
    _sentences(step, read)
    text = templates(autoescape=False).get_template("report.md.jinja")
    (step.out / "report.md").write_text(text.render(facts), encoding="utf-8")
    card = card_with_results(read)
    if card:
        (step.out / "model_card.md").write_text(card, encoding="utf-8")


def _sentences(step: Step[Settings], read: Run) -> None:
    """The page of candidates sentence by sentence, where the run kept some."""
    shown = sentences.page(read)
    if shown is None:
        return
    page = templates(autoescape=True).get_template("sentences.html.jinja")
    title = f"Whose sentence is it: {step.settings.experiment.title}"
    rendered = page.render(shown, title=title, name=step.settings.run.name)
    (step.out / "sentences.html").write_text(rendered, encoding="utf-8")


def _figures(step: Step[Settings], read: Run) -> dict[str, list[dict[str, Any]]]:
    """Draws what the run has data for, in light and dark: file, title, caption and addresses by section."""
    figures: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    with console.screen().status("drawing figures"):
        for stem, drawing in all_figures(read).items():
            drawn = editions(drawing.draw)
            if drawn is not None:
                figures[drawing.section].append(drawn.published(step.out / f"{stem}.png", drawing.caption))
    return figures


def fenced(text: str) -> str:
    """Model text as a Markdown code block whose fence is longer than any run of backticks inside it."""
    longest = max((len(run) for run in "".join(c if c == "`" else " " for c in text).split()), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def breakable(text: str) -> Markup:
    """A name that may be broken after its marks."""
    return Markup(re.sub(r"([-_./])", r"\1<wbr>", str(escape(text))))


def templates(autoescape: bool) -> Environment:
    """Where pages and Markdown are laid out."""
    jinja_environment = environment("dante.report", autoescape=autoescape)
    jinja_environment.filters |= {"fenced": fenced, "breakable": breakable}
    return jinja_environment
