"""Where student and teacher part, in a report: the page in colour, the figures by bins, KL over training."""

import html
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from dante.look.theme import LIGHT, title_of
from dante.report import stage
from dante.report.figures import all_figures, fidelity
from dante.report.figures.training import kl, measurements
from dante.report.one_run import tokens
from dante.report.read import Fit, Run, read_run
from dante.run.step import Step
from tests.report_run import HOSTILE, part, write_run
from tests.test_report import Page
from tests.test_report_parts import panels_of


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Step:
    """A finished report of a run whose evaluation kept answers token by token."""
    root = tmp_path_factory.mktemp("runs")
    made = write_run(root)
    part(root)
    stage.run(made)
    return made


@pytest.fixture(scope="module")
def run(step: Step) -> Run:
    return read_run(step.inputs)


def test_the_page_needs_no_network_and_runs_no_script(step: Step) -> None:
    text = (step.out / "tokens.html").read_text()
    page = Page(text)
    assert page.tags.isdisjoint({"script", "img", "h4"})
    assert not page.handlers
    assert set(page.addresses) == {"index.html"}
    assert not re.search(r"url\(|@import", text)
    assert "default-src 'none'" in text


def test_what_models_wrote_is_shown_and_does_not_act(step: Step) -> None:
    text = (step.out / "tokens.html").read_text()
    assert "<script" not in text
    assert "{{ 7*7 }}" in text
    # Prompt, domain of both answers; tokens and what either would have said, in every title.
    assert text.count(html.escape("<script>alert(1)</script>")) > 12
    titles = re.findall(r'title="([^"]*)"', text)
    assert len(titles) == 2 * 8
    assert all("onerror=alert(1)" in title for title in titles)
    # What turns the direction of text is written out, and everything else of an answer stands there as it was.
    assert "\u202e" not in text
    spans = re.findall(r'<span class="k\d" title="[^"]*">(.*?)</span>', text, re.S)
    shown = [html.unescape(re.sub(r"</?i>", "", span)) for span in spans]
    assert shown[:3] == ["\\u{202e}abc", HOSTILE.replace("\n", "↵\n"), "<|im_end|>"]
    assert shown[6:11] == ["Ciao", "·↵\n", "\\xc3", "è", "<|im_end|>"]


def test_answers_where_student_and_teacher_part_most_come_first(run: Run) -> None:
    page = tokens.page(run)
    assert page is not None
    assert [answer["id"] for answer in page["answers"]] == ["r001", "r000"]
    sides = page["answers"][1]["models"]
    assert [side["model"] for side in sides] == ["student", "init"]
    assert sides[0]["mean"] == pytest.approx(0.1 * (0 + 1 + 2 + 3 + 4) / 5)
    assert [piece.step for piece in sides[0]["pieces"]] == [0, 1, 1, 2, 2]
    assert [piece.step for piece in sides[1]["pieces"]] == [0, 4, 5, 6, 6]
    assert sides[1]["agreement"] == pytest.approx(1 / 5)
    assert "teacher: “Ciao” 50.0%" in sides[0]["pieces"][0].title
    assert "0.002%" in sides[0]["pieces"][0].title
    assert sides[0]["pieces"][3].title.startswith("“\\xa8”: KL 0.300 nats; the teacher's entropy 0.70 nats")


def test_nothing_that_is_written_is_invisible() -> None:
    def shown(text: str) -> str:
        return "".join(f"[{piece}]" if mark else piece for piece, mark in tokens.visible(text))

    assert shown(" the end.\n") == " the end.[↵\n]"
    assert shown("  \t") == "[··⇥\t]"
    assert shown("a\u200db\u202e\x1b\u2028\xa0") == "a[\\u{200d}]b[\\u{202e}\\u{1b}\\u{2028}\\u{a0}]"


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("shades", "card"), [(tokens.LIGHT, "#ffffff"), (tokens.DARK, "#171c24")])
def test_colours_are_told_apart_by_lightness_alone_and_text_is_readable(
    shades: tuple[tuple[str, str], ...], card: str
) -> None:
    assert len(shades) == len(tokens.STEPS_NATS)
    lights = [luminance(paper) for paper in (card, *(paper for paper, _ in shades))]
    steps = [(max(pair) + 0.05) / (min(pair) + 0.05) for pair in pairwise(lights)]
    assert min(steps) > 1.15
    assert lights in (sorted(lights), sorted(lights, reverse=True))
    for paper, ink in shades:
        darker, lighter = sorted((luminance(paper), luminance(ink)))
        assert (lighter + 0.05) / (darker + 0.05) > 4.5, (paper, ink)


def test_the_report_leads_there(step: Step) -> None:
    page, markdown = ((step.out / name).read_text() for name in ("index.html", "report.md"))
    assert 'href="tokens.html"' in page
    assert "[Where they part](tokens.html): 2 of 60 held-out answers" in markdown
    for stem in ("agreement_by_position", "agreement_by_entropy"):
        assert f"({stem}.png)" in markdown
        assert (step.out / f"{stem}.png").is_file()


def test_without_a_teacher_of_the_vocabulary_a_note_stands_alone(tmp_path: Path) -> None:
    made = write_run(tmp_path)
    stage.run(made)
    assert not (made.out / "tokens.html").exists()
    page = (made.out / "index.html").read_text()
    assert 'id="parting"' not in page
    assert "tokens.html" not in page
    assert html.escape(HOSTILE.splitlines()[0]) in page  # the evaluation's note, which says why
    assert not any(path.stem.startswith("agreement") for path in made.out.glob("*.png"))


def drawn(axes: Axes) -> list[list[float]]:
    """The values of every curve."""
    return [np.asarray(line[0].get_ydata(), dtype=float).tolist() for line in (c.lines for c in axes.containers)]  # type: ignore[attr-defined]


def test_curves_are_the_bins_and_say_how_many_tokens_are_behind_them(run: Run) -> None:
    agreement, divergence, counts = panels_of(fidelity.by_position(run, LIGHT))
    assert drawn(agreement) == [pytest.approx([0.3, 0.2]), pytest.approx([0.7, 0.6])]
    assert drawn(divergence) == [pytest.approx([1.7, 1.8]), pytest.approx([1.3, 1.4])]
    assert [bar.get_height() for bar in counts.patches] == [240, 200]  # type: ignore[attr-defined]
    assert [label.get_text() for label in counts.get_xticklabels()] == ["1", "5", "9"]
    axes = fidelity.by_entropy(run, LIGHT)
    assert title_of(panels_of(axes)[0]).endswith("90% where it is surest, 50% where it is least sure")
    assert [label.get_text() for label in panels_of(axes)[2].get_xticklabels()] == ["0", "0.5", "2"]
    assert fidelity.by_position(Run(), LIGHT) is None


def logged(*keys: str) -> Fit:
    rows = [{"step": step} | {key: 2.0 / step + index for index, key in enumerate(keys)} for step in (1, 2, 4)]
    return Fit("fit", rows, {}, {})


def test_every_loss_that_logs_kl_is_a_curve_and_is_not_drawn_twice() -> None:
    fit = logged("chat_kl/kl_nats", "chat_kl/mass", "sparse/kl_nats", "loss")
    (axes,) = panels_of(kl(fit, LIGHT))
    curves = [np.asarray(line.get_ydata(), dtype=float).tolist() for line in axes.get_lines()]
    assert curves == [[2.0, 1.0, 0.5], [4.0, 3.0, 2.5]]
    assert [text.get_text() for text in axes.texts] == ["chat_kl 0.5", "sparse 2.5"]
    assert measurements(fit.metrics) == {"chat_kl": ["chat_kl/mass"]}
    single = kl(logged("chat_kl/kl_nats"), LIGHT)
    assert single is not None
    assert title_of(single) == "chat_kl: KL to the teacher went from 2.00 to 0.50"
    assert "kl" in all_figures(Run(fits=[fit]))


def test_a_run_that_logs_no_kl_has_no_such_figure(step: Step) -> None:
    assert kl(logged("loss", "ce_nats", "tea/drift_rms"), LIGHT) is None
    assert not (step.out / "kl.png").exists()
