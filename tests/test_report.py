"""The report: everything it is given, nothing it is not, and nothing that a model wrote gets to act."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dante.errors import DanteError
from dante.pipeline import Step
from dante.report import stage
from dante.report.__main__ import main
from dante.report.compare import compare
from dante.report.figures import confidence_weights, is_noisy, measurements, smooth
from dante.report.read import Fit, Run
from dante.report.theme import LIGHT, title_of

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>\n```\n## not a heading {{ 7*7 }}"
SETTINGS = {
    "seed": 1,
    "fit": {"steps": 120, "lr": 4e-4, "batch": {"unit": "records", "size": 8}},
    "losses": {
        "cwce": {"_target_": "x", "floor": 0.3, "slope": 1.5, "midpoint": 1.5},
        "tea": {"reduction": "relative"},
    },
}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(line) + "\n" for line in content) if path.suffix == ".jsonl" else json.dumps(content)
    path.write_text(lines)


def metrics(rng: np.random.Generator, steps: int) -> list[dict[str, Any]]:
    rows = []
    for step in range(steps):
        t = step / steps
        ce = 2.1 + 6.0 * np.exp(-9 * t) + rng.normal(0, 0.12)
        drift = 0.9 * t**0.6
        rows.append({
            "step": step, "epoch": step / 60, "loss": ce + 0.01 * drift, "loss/cwce": ce, "loss/tea": drift**2 * 0.02,
            "weight/cwce": 0.7 + 0.3 * max(0, t - 0.1) / 0.9, "weight/tea": 1 - 0.9 * t,
            "lr": 4e-4 * min(1, t / 0.1 + 0.01) * (0.5 + 0.5 * np.cos(np.pi * t)),
            "grad_norm/cwce": 1.2 + 4 * np.exp(-6 * t) + abs(rng.normal(0, 0.3)), "tea/drift_norm": drift,
            "tea/gradient_ratio": 0.1 * drift, "supervised_tokens": int(900 + rng.integers(-90, 90)),
            "tokens_per_s": 255 + rng.normal(0, 6), "mfu": 0.42 + rng.normal(0, 0.01), "peak_mem_gib": 3.1,
        })  # fmt: skip
    return rows


def evaluation(rng: np.random.Generator, n: int, shift: float = 0.0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    level = {"teacher": 0.62, "init": 1.95, "student": 1.08 + shift, "unigram": 2.71, "trigram": 1.83}
    items, rows, pairs = [], [], []
    domains = ["chat", "code", "maths", "writing"]
    for index in range(n):
        size, hard = int(rng.integers(150, 900)), rng.normal(1, 0.2)
        items.append({
            "id": f"r{index:03d}", "domain": domains[index % 4], "language": "it" if index % 7 == 0 else "en",
            "text_sha256": f"{index:016x}", "bytes": size,
            "bits": {m: size * v * hard * (1 + rng.normal(0, 0.05)) for m, v in level.items()},
            "tokens": dict.fromkeys(level, size // 4),
        })  # fmt: skip
    tasks = {"heldout": items} | {
        f"heldout/{field}={value}": [i for i in items if i[field] == value]
        for field, values in (("domain", domains), ("language", ["en", "it"]))
        for value in values
    }
    for task, chosen in tasks.items():
        total = sum(i["bytes"] for i in chosen)
        for model in level:
            rows.append({"model": model, "task": task, "metric": "bits_per_byte", "stderr": 0.021, "n": len(chosen),
                         "value": sum(i["bits"][model] for i in chosen) / total, "n_shot": 0, "harness": "dante",
                         "harness_version": "0", "decoding": "teacher-forced", "seed": 1})  # fmt: skip
        for other in ("init", "teacher", "trigram", "unigram"):
            gap = sum(i["bits"]["student"] - i["bits"][other] for i in chosen) / total
            pairs.append({"a": "student", "b": other, "task": task, "metric": "bits_per_byte", "difference": gap,
                          "low": gap - 0.04, "high": gap + 0.04, "stderr": 0.02, "n": len(chosen), "resamples": 1000,
                          "confidence": 0.95})  # fmt: skip
    for model, share in (("init", 0.2), ("student", 0.8)):
        rows.append({"model": model, "task": "generation", "metric": "stop_share", "value": share, "stderr": 0.18,
                     "n": 5, "n_shot": 0, "harness": "dante", "harness_version": "0", "seed": 1,
                     "decoding": "greedy, max_new_tokens=160"})  # fmt: skip
    sizes = {"records": n, "bytes": sum(i["bytes"] for i in items)}
    return {"rows": rows, "pairs": pairs, "precision": "bf16", "heldout": sizes, "notes": []}, items


def generations() -> list[dict[str, Any]]:
    code = "Here is a function:\n\n```python\ndef mean(values):\n    return sum(values) / len(values)\n```\n"
    loop = "The mean is the mean of the mean of " * 12
    prompts = [("code", "Write a Python function that returns the mean of a list."), ("chat", HOSTILE)]
    return [
        {"id": f"g{index}", "domain": domain, "language": "en", "prompt": prompt,
         "answers": {"teacher": {"text": code, "tokens": None, "stopped": True},
                     "init": {"text": loop, "tokens": 160, "stopped": False},
                     "student": {"text": HOSTILE if index else code[:80], "tokens": 41, "stopped": True}}}
        for index, (domain, prompt) in enumerate(prompts)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Step:
    """A finished report of a run whose files look like real ones."""
    root, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    labels = ["teacher", "cache", "init", "fit", "release", "eval"]
    result, items = evaluation(rng, 60)
    write(root / "teacher/teacher.json", {"name": "SmolLM2-135M-Instruct", "licence": "Apache-2.0"})
    counts = {"records": 300, "train": 240, "heldout": 60}
    write(
        root / "cache/manifest.json",
        {
            "counts": counts,
            "decoding": {"temperature": 0.0},
            "licences": {"prompts": "CC0"},
            "shards": [{"file": "records-00000.jsonl"}],
        },  # fmt: skip,
    )
    write(root / "cache/records-00000.jsonl", [{"output_entropy": float(h)} for h in rng.gamma(4, 0.15, size=300)])
    write(root / "init/init.json", {"name": "smollm2-14of30", "licence": "Apache-2.0", "parameters": 78_120_000})
    write(root / "fit/metrics.jsonl", metrics(rng, 120))
    summary = {"steps": 120, "supervised_tokens": 108_000, "tokens": 131_000, "wall_s": 402.0, "device_hours": 0.1117,
               "devices": 1, "device_name": "CPU", "tokens_per_s": 255.3, "peak_mem_gib": 3.1}  # fmt: skip
    write(root / "fit/summary.json", summary)
    write(root / "eval/eval.json", result)
    write(root / "eval/items.jsonl", items)
    write(root / "eval/generations.jsonl", generations())
    write(root / "release/config.json", {})
    (root / "release/README.md").write_text(
        "---\nlicense: apache-2.0\nmodel-index:\n- name: x\n  results: []\n---\n\n# x\n\n"
        "## Results\n\nNot yet.\n\n## Recipe\n"
    )
    for label in labels:
        write(root / label / "step.json", {
            "label": label, "stage": label, "fingerprint": f"{abs(hash(label)):012x}"[:12], "wall_s": 40.0,
            "settings": SETTINGS if label == "fit" else {}, "files": {"a": {"bytes": 1_234_567}},
            "environment": {"git": "abc", "python": "3.11.2", "hardware": {"cpu": "2 cores", "memory": "24 GiB"}},
        })  # fmt: skip
    made = Step(
        label="report",
        stage="report",
        settings={
            "experiment": {
                "name": "dante_mosaic",
                "title": "DANTE on SmolLM2",
                "hypothesis": "Confidence weights, an anchor and an entropy curriculum beat plain fine-tuning.",
                "source": "DANTE-Mosaic-3.5B card",
            },
            "run": {"name": "dante_mosaic-pocket-s1", "dir": "runs/x"},
            "report": {"generations": 5},
        },
        resources={},
        inputs={label: root / label for label in labels},
        out=root / "report.partial",
        fingerprint="f",
        seed=0,
    )
    stage.run(made)
    return made


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
    assert all(address.startswith(("#", "../", "data:image/png;base64,")) for address in page.addresses)
    assert not re.search(r"url\(|@import", text)


def test_what_a_model_wrote_is_shown_and_does_not_act(step: Step) -> None:
    text = (step.out / "index.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7*7 }}" in text
    assert "<script" not in text
    markdown = (step.out / "report.md").read_text()
    fence = markdown[: markdown.index(HOSTILE)].rsplit("\n", 2)[-2]
    assert fence == "````text"  # longer than the fence inside the text, so the heading in it stays text


def test_every_part_of_the_run_is_there(step: Step) -> None:
    text = (step.out / "index.html").read_text()
    for expected in ("DANTE on SmolLM2", "beat plain fine-tuning", "smollm2-14of30", "108,000", "6 min 42 s",
                     "The student needs", "95% interval", "not how much another training seed", "cut at the limit",
                     "domain: code", "../fit/metrics.jsonl"):  # fmt: skip
        assert expected in text, expected
    pictures = {path.stem for path in step.out.glob("*.png")}
    assert {"loss", "loss-cwce", "loss-tea", "schedules", "lr", "grad_norm-cwce", "tea-drift_norm", "bits_per_byte",
            "by_slice", "per_item", "entropies", "confidence_weights"} <= pictures  # fmt: skip
    assert all(f"({stem}.png)" in (step.out / "report.md").read_text() for stem in pictures)


def test_published_card_holds_the_results(step: Step) -> None:
    card = (step.out / "model_card.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    (metric,) = front["model-index"][0]["results"][0]["metrics"]
    rows = json.loads((step.inputs["eval"] / "eval.json").read_text())["rows"]
    (student,) = [r for r in rows if r["model"] == "student" and r["task"] == "heldout"]
    assert metric["value"] == student["value"]
    assert "Not yet" not in card
    assert "## Recipe" in card


def test_a_run_without_evaluation_still_has_a_report(step: Step, tmp_path: Path) -> None:
    inputs = {label: step.inputs[label] for label in ("fit", "init")}
    alone = Step(**{**vars(step), "inputs": inputs, "out": tmp_path / "report.partial"})
    stage.run(alone)
    text = (alone.out / "index.html").read_text()
    assert "has not been evaluated" in text
    assert (alone.out / "loss.png").is_file()
    assert not (alone.out / "bits_per_byte.png").exists()


def test_report_imports_no_stage_and_no_model_code() -> None:
    probe = (
        "import sys, dante.report.stage, dante.report.__main__; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers', 'lightning') or "
        "(m.startswith('dante.') and m.split('.')[1] in ('teachers', 'students', 'cache', 'fit', 'losses', 'release', "
        "'module', 'data')) or (m.endswith('.stage') and m != 'dante.report.stage')])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_measurements_are_discovered_from_keys() -> None:
    found = measurements([{"step": 1, "loss": 2.0, "loss/new": 1.0, "weight/new": 1.0, "new/gap": 0.5, "lr": 1e-3}])
    assert list(found) == ["new/gap", "lr"]


def test_confidence_weights_follow_the_published_values() -> None:
    node = SETTINGS["losses"]["cwce"]
    run = Run(fits=[Fit("fit", [], {}, {"losses": {"any_name": node}})], entropies=[0.0, 5.0])
    axes = confidence_weights(run, LIGHT)
    assert axes is not None
    assert "0.30 to 0.93" in title_of(axes)


def test_smoothing_keeps_a_line_and_leaves_schedules_alone() -> None:
    line = np.linspace(5.0, 1.0, 101)
    assert smooth(line)[20:80] == pytest.approx(line[20:80])
    warm_up_then_cosine = np.concatenate([np.linspace(0, 1, 12), 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, 108))])
    assert not is_noisy(warm_up_then_cosine)
    assert is_noisy(line + np.random.default_rng(0).normal(0, 0.1, size=101))


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    for name, shift in (("a", 0.0), ("b", 0.1)):
        write(tmp_path / name / "eval/items.jsonl", evaluation(np.random.default_rng(1), 40, shift)[1])
    return [tmp_path / "a", tmp_path / "b"]


def test_compare_joins_by_record(runs: list[Path], tmp_path: Path) -> None:
    lines = (runs[1] / "eval/items.jsonl").read_text().splitlines(keepends=True)
    (runs[1] / "eval/items.jsonl").write_text("".join(reversed(lines)))
    first, second = compare(runs)
    assert first["difference"] is None
    assert second["difference"].difference == pytest.approx(second["bits_per_byte"] - first["bits_per_byte"])
    assert 0.05 < second["difference"].low < second["difference"].high < 0.15  # rows joined by place would spread wide
    assert main(["compare", str(runs[0]), str(runs[1]), "--out", str(tmp_path / "x" / "table.md")]) == 0
    assert "| b |" in (tmp_path / "x" / "table.md").read_text()


@pytest.mark.parametrize("change", ["text", "missing", "absent"])
def test_compare_refuses_other_answers(runs: list[Path], change: str) -> None:
    path = runs[1] / "eval/items.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if change == "text":
        path.write_text("".join([lines[0].replace("0000000000000000", "1111111111111111"), *lines[1:]]))
    elif change == "missing":
        path.write_text("".join(lines[1:]))
    else:
        path.unlink()
    with pytest.raises(DanteError):
        compare(runs)
    assert main(["compare", *map(str, runs)]) == 2
