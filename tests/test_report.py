"""The report: everything it is given, nothing it is not, and nothing that a model wrote gets to act."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import yaml

from dante.report import stage
from dante.run.step import Step
from tests.report_run import HOSTILE, NAME, evaluation, write, write_run


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Step:
    """A finished report, renamed as the pipeline renames it."""
    made = write_run(tmp_path_factory.mktemp("runs"))
    stage.run(made)
    made.out.rename(made.out.with_suffix(""))
    return Step(**{**vars(made), "out": made.out.with_suffix("")})


def again(step: Step, out: Path, **changes: Any) -> tuple[Step, str]:
    """A report of other inputs or settings, and its page."""
    other = Step(**{**vars(step), "out": out / ".steps" / "report.partial", **changes})
    stage.run(other)
    return other, (other.out / "index.html").read_text()


class Page(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "action", "data")]
        self.handlers += [key for key, _ in attrs if key.startswith("on")]


def test_page_needs_no_network_and_runs_no_script(step: Step) -> None:
    text = (step.out / "index.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert not page.handlers
    assert page.addresses
    assert all(address.startswith(("#", "../../", "data:image/png;base64,")) for address in page.addresses)
    assert not re.search(r"url\(|@import", text)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert len(text) < 3_000_000


def test_what_a_model_wrote_is_shown_and_does_not_act(step: Step) -> None:
    text = (step.out / "index.html").read_text()
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # prompt, answer, domain, note
    assert "{{ 7*7 }}" in text
    assert "<script" not in text
    markdown = (step.out / "report.md").read_text()
    fence = markdown[: markdown.index(HOSTILE)].rsplit("\n", 2)[-2]
    assert fence == "````text"  # longer than the fence inside the text, so the heading in it stays text
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", markdown)
    assert "<script" not in outside
    assert "\n## not a heading" not in outside


@pytest.mark.parametrize("place", [f"{NAME}/report", ".steps/report-f"])
def test_links_lead_to_files_from_the_run_and_from_the_store(step: Step, place: str) -> None:
    runs = step.out.parents[1]
    links = [a for a in Page((step.out / "index.html").read_text()).addresses if a.startswith("../")]
    assert len(links) > 15
    for link in links:
        # A browser removes dots from the address it was given; it does not look where a link in it leads.
        parts = [*Path(place).parts]
        for part in Path(unquote(link)).parts:
            parts = parts[:-1] if part == ".." else [*parts, part]
        assert runs.joinpath(*parts).is_file(), link


def test_every_part_of_the_run_is_there(step: Step) -> None:
    text, markdown = ((step.out / name).read_text() for name in ("index.html", "report.md"))
    for expected in (
        "DANTE on SmolLM2", "beat plain fine-tuning", "smollm2-14of30", "108,000", "6 min 42 s", "The student needs",
        "95% interval", "not how much another training seed", "cut at the limit",
        "tea (weight 1 → 0.1, linear, calibrated)", "sorted once repeat", "never heard of",
        "lm-eval 0", "python -m lm_eval", "60 answers", "1 update skipped",
        "python train.py +experiment=dante_mosaic scale=pocket seed=1 fidelity=sound fit.steps=120 fit.lr=0.0004",
    ):  # fmt: skip
        assert expected in text, expected
        assert expected in markdown, expected
    pictures = {path.stem for path in step.out.glob("*.png")}
    assert pictures == {
        "bits_per_byte", "capability", "reliability", "per_item", "by_slice", "retention", "loss", "components",
        "schedules", "optimizer", "measured-tea", "weight", "entropies", "confidence_weights", "time", "machine",
    }  # fmt: skip
    assert all(f"({stem}.png)" in markdown for stem in pictures)


def test_published_card_holds_the_results(step: Step) -> None:
    card = (step.out / "model_card.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    (metric,) = front["model-index"][0]["results"][0]["metrics"]
    rows = json.loads((step.inputs["eval"] / "eval.json").read_text())["rows"]
    (student,) = [r for r in rows if (r["model"], r["task"], r["metric"]) == ("student", "heldout", "bits_per_byte")]
    assert metric["value"] == student["value"]
    assert "Not yet" not in card
    assert "## Recipe" in card


def test_a_run_without_evaluation_still_has_a_report(step: Step, tmp_path: Path) -> None:
    inputs = {label: step.inputs[label] for label in ("fit", "init")}
    alone, text = again(step, tmp_path, inputs=inputs)
    assert "has not been evaluated" in text
    assert 'id="answers"' not in text
    assert (alone.out / "loss.png").is_file()
    assert not (alone.out / "bits_per_byte.png").exists()


def test_parts_that_an_evaluation_lacks_are_left_out(step: Step, tmp_path: Path) -> None:
    result, items = evaluation(np.random.default_rng(0), 30)
    result["rows"] = [r for r in result["rows"] if r["model"] != "teacher"]
    result["pairs"] = [p for p in result["pairs"] if p["b"] != "teacher"]
    write(tmp_path / "eval/eval.json", result)
    write(tmp_path / "eval/heldout/items.jsonl", items)
    inputs = {"fit": step.inputs["fit"], "init": step.inputs["init"], "eval": tmp_path / "eval"}
    made, text = again(step, tmp_path, inputs=inputs)
    assert "The student needs" in text
    assert "gap to the teacher" not in text
    assert not {"answers", "retention"} & set(re.findall(r'section id="(\w+)"', text))
    assert not {"reliability", "retention"} & {path.stem for path in made.out.glob("*.png")}


def test_report_imports_no_stage_and_no_model_code() -> None:
    probe = (
        "import sys, dante.report.stage, dante.report.__main__; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers', 'lightning') or "
        "(m.startswith('dante.') and m.split('.')[1] in ('teachers', 'students', 'cache', 'fit', 'losses', 'release', "
        "'module', 'data')) or (m.endswith('.stage') and m != 'dante.report.stage')])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
