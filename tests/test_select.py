"""Stage `select`: a constructed case with known probabilities, from log-probabilities to the cache that is kept."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dante.cache import CacheWriter, Record, read_records
from dante.cache.records.manifest import verify
from dante.errors import DanteError
from dante.run.step import Step
from dante.select import stage
from dante.select.likelihood.files import Likelihood, LikelihoodFiles, text_of
from dante.select.settings import SelectSettings

SELECTORS = "dante.select.selectors."
#: Per sentence: teacher's and student's probability of each of its tokens, and how many there are.
CANDIDATES = {
    "a0": [(0.9, 0.5), (0.5, 0.5)],  # teacher, common
    "a1": [(0.9, 0.5), (0.8, 0.5), (0.2, 0.6)],  # teacher, teacher, student
    "a2": [(0.9, 0.5)],  # teacher: the largest share
    "b0": [(0.3, 0.3), (0.3, 0.25)],  # common, common
    "b1": [(0.5, 0.35)],  # teacher
}


def answer(name: str, pairs: list[tuple[float, float]]) -> tuple[Record, Likelihood]:
    """Sentences `Aé.` of three tokens for the teacher (A, é, `. `) and two for the student (`Aé`, `. `)."""
    text = " ".join("Aé." for _ in pairs)
    teacher_ends, student_ends, teacher, student = [], [], [], []
    for index, (ours, theirs) in enumerate(pairs):
        start, last = 5 * index, index == len(pairs) - 1
        stop = start + (4 if last else 5)
        teacher_ends += [start + 1, start + 3, stop]
        student_ends += [start + 3, stop]
        # geometric means are what is given, whatever the single tokens are
        teacher += [math.log(ours) - 0.1, math.log(ours) + 0.05, math.log(ours) + 0.05]
        student += [-math.log(theirs) + 0.2, -math.log(theirs) - 0.2]
    record = Record(
        name, f"Ask {name[0]}?", text, 0.5, sample_index=int(name[1:]), split="train",
        token_logprobs=[min(0.0, value) for value in teacher], token_ends=teacher_ends,
    )  # fmt: skip
    ranks, ends = np.ones(len(student), dtype=np.int32), np.array(student_ends, dtype=np.int32)
    return record, Likelihood(name, text_of(record), np.array(student, dtype=np.float32), ranks, ends)


def made(root: Path) -> dict[str, Path]:
    pairs = [answer(name, sentences) for name, sentences in CANDIDATES.items()]
    held = [
        Record(f"h{index}", "Held?", f"Held answer {index}.", 0.5, sample_index=index, split="heldout")
        for index in (1, 0)
    ]
    records = [record for record, _ in pairs]
    CacheWriter(root / "cache").add([*records, *held]).seal(teacher={"name": "big"}, decoding={"temperature": 0.6})
    files = LikelihoodFiles(root / "likelihood")
    (root / "likelihood").mkdir()
    files.add(0, [likelihood for _, likelihood in pairs])
    files.seal({"batches": 1})
    return {"cache": root / "cache", "likelihood": root / "likelihood"}


def selected(root: Path, selector: str, beta: Any = 0.1, **parameters: Any) -> Path:
    out = root / f"select-{selector}"
    settings = SelectSettings(
        temperature=None, selector={"_target_": SELECTORS + selector, **parameters}, beta=beta, seed=0
    )
    inputs = {name: root / name for name in ("cache", "likelihood")}
    stage.run(Step("select", "select", settings, {}, inputs, out, "f", 0))
    return out


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("max_teacher_sentences.MaxTeacherSentences", ["a1", "b1"]),
        ("min_count.MinCount", ["a0", "b0"]),
        ("ratio.Ratio", ["a2", "b1"]),
        ("longest.Longest", ["a1", "b0"]),
        ("grape.Grape", ["a1", "b1"]),
    ],
)
def test_known_probabilities_give_the_right_answer(tmp_path: Path, selector: str, expected: list[str]) -> None:
    made(tmp_path)
    out = selected(tmp_path, selector)
    assert [record.id for record in read_records(out, "train")] == expected
    verify(out)


def test_what_is_said_of_the_candidates(tmp_path: Path) -> None:
    made(tmp_path)
    out = selected(tmp_path, "max_teacher_sentences.MaxTeacherSentences")
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["teacher"], manifest["decoding"]) == ({"name": "big"}, {"temperature": 0.6})
    facts = manifest["selection"]
    assert (facts["selector"], facts["seed"], facts["beta"]) == ("MaxTeacherSentences", 0, 0.1)
    assert (facts["prompts"], facts["candidates"], facts["teacher_sentences"]) == (2, 5, 3)
    assert (facts["candidate_tokens"], facts["kept_tokens"]) == (27, 12)
    # nine sentences: five teacher's, one student's, three common
    assert facts["shares"]["0.1"] == pytest.approx({"teacher": 5 / 9, "student": 1 / 9, "common": 3 / 9})
    assert facts["shares"]["0.2"] == pytest.approx({"teacher": 4 / 9, "student": 1 / 9, "common": 4 / 9})
    lines = [json.loads(line) for line in (out / stage.SENTENCES).read_text().splitlines()]
    assert [line["kept"] for line in lines] == [False, True, False, False, True]
    assert lines[1]["teacher"] == pytest.approx([0.9, 0.8, 0.2], abs=1e-5)
    assert lines[1]["student"] == pytest.approx([0.5, 0.5, 0.6], abs=1e-5)
    assert lines[1]["types"] == [0, 0, 1]
    assert lines[1]["spans"] == [[0, 4], [4, 8], [8, 11]]


def test_held_out_prompts_keep_the_first_sample_whatever_is_selected(tmp_path: Path) -> None:
    made(tmp_path)
    for selector in ("longest.Longest", "random.Random"):
        assert [record.id for record in read_records(selected(tmp_path, selector), "heldout")] == ["h0"]


def test_beta_from_the_answers(tmp_path: Path) -> None:
    made(tmp_path)
    out = selected(tmp_path, "random.Random", beta="auto")
    beta = json.loads((out / "manifest.json").read_text())["selection"]["beta"]
    assert 0.15 <= beta <= 0.3  # between the differences up to 0.15 and those from 0.3


def test_a_cache_without_log_probabilities_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    record = Record("a0", "Ask a?", "Aé.", 0.5, split="train")
    CacheWriter(tmp_path / "cache").add([record]).seal()
    files = LikelihoodFiles(tmp_path / "likelihood")
    nothing = np.zeros(1, dtype=np.float32), np.ones(1, dtype=np.int32), np.array([4], dtype=np.int32)
    files.add(0, [Likelihood("a0", text_of(record), *nothing)])
    with pytest.raises(DanteError, match="no log-probabilities of the teacher"):
        selected(tmp_path, "random.Random")
