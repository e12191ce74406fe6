"""DASD's rounds as steps of a recipe: candidates at two temperatures, one answer to each prompt, a mixed round."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dante.cache import read_records
from dante.cache.mixed.samples import load_samples
from dante.cache.records.record import Record, prompt_hash
from dante.cost.estimate import estimate
from dante.data.table import Wanted, rows_of, tokenised_train_records
from dante.errors import DanteError
from dante.run import pipeline
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer
from tests.test_config import composed

ROUNDS = (
    "+experiment=dasd_thinking", "scale=smoke", "logger=none", "suite=[heldout,generation]", "eval.bootstrap=100",
    "mixed.off_policy=0.5", "selection.beta=auto", "prompts=checked", "prompts.count=30", "eval.generations=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole recipe."""
    return pipeline.run(composed(*ROUNDS, f"run.dir={tmp_path_factory.mktemp('runs') / 'dasd'}"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def test_every_round_has_one_answer_to_each_prompt_at_its_temperature(run: Path) -> None:
    candidates = read_records(run / "cache", "train")
    prompts = {prompt_hash(record.prompt) for record in candidates}
    for label, temperature in (("select-low", 0.6), ("select-high", 1.0)):
        kept = read_records(run / label, "train")
        assert {record.temperature for record in kept} == {temperature}
        assert sorted(prompt_hash(record.prompt) for record in kept) == sorted(prompts)
        facts = manifest(run / label)["selection"]
        assert facts["candidates"] == sum(record.temperature == temperature for record in candidates)
        assert facts["prompts"] == len(kept)
        held = {split: read_records(run / label, split) for split in ("heldout", "validation")}
        assert {record.sample_index for records in held.values() for record in records} == {0}


def test_the_second_round_goes_on_from_the_first_one_with_a_schedule_of_its_own(run: Path) -> None:
    first, second = lines(run / "fit-low" / "metrics.jsonl"), lines(run / "fit-high" / "metrics.jsonl")
    assert [row["lr"] for row in first] == [row["lr"] for row in second]
    assert first[0]["step"] == second[0]["step"] == 1
    scored = json.loads((run / "likelihood" / "likelihood.json").read_text())
    assert scored["records"] == len(read_records(run / "cache", "train"))
    weights = [(run / label / "student.safetensors").read_bytes() for label in ("fit-low", "fit-high", "fit-mixed")]
    assert len(set(weights)) == 3


def test_another_selector_shares_what_does_not_depend_on_it(run: Path) -> None:
    cfg = composed(*ROUNDS, "selection/selector=longest", f"run.dir={run.parent / 'longest'}")
    done = {step.label for step in pipeline.plan_steps(cfg) if step.complete}
    assert {"teacher", "cache", "init", "likelihood"} <= done
    assert done.isdisjoint({"select-low", "fit-low", "select-high", "fit-high", "samples", "mixed", "fit-mixed"})


def test_a_masked_prefix_shares_everything_before_the_last_fit(run: Path) -> None:
    cfg = composed(*ROUNDS, "mixed.mask_prefix=true", f"run.dir={run.parent / 'masked'}")
    state = {step.label: step.complete for step in pipeline.plan_steps(cfg)}
    assert state["mixed"]
    assert not state["fit-mixed"]


def test_candidates_of_another_temperature_are_refused(tmp_path: Path) -> None:
    words = (*ROUNDS, "cache.source.decoding.temperature=0.0", "only=[teacher,cache,init,likelihood,select-low]")
    with pytest.raises(DanteError, match=r"no answers that were sampled at temperature 0.6.*Allowed: 0\."):
        pipeline.run(composed(*words, f"run.dir={tmp_path / 'run'}"))


def own(run: Path) -> dict[str, Record]:
    return {record.id: record for record in read_records(run / "select-high", "train")}


def test_a_student_has_so_many_tokens_as_its_teachers_answer_allows(run: Path) -> None:
    samples, facts = load_samples(run / "samples")
    tokenizer = load_tokenizer(run / "release-high")
    teachers = own(run)
    assert {sample.record for sample in samples} == teachers.keys()
    for sample in samples:
        length = len(tokenizer(teachers[sample.record].teacher_text, add_special_tokens=False)["input_ids"])
        assert sample.limit == max(1, math.floor(1.5 * length))  # tokens: in characters it would be another number
        assert len(sample.token_ends) <= sample.limit
        assert sample.cut_off == (len(sample.token_ends) == sample.limit)
    assert facts["cut_off"] == sum(sample.cut_off for sample in samples) > 0
    assert facts["tokens"] == sum(len(sample.token_ends) for sample in samples)


def test_the_teacher_goes_on_where_the_student_was_cut(run: Path) -> None:
    begun = {teachers_prompt(run, sample.record): sample for sample in load_samples(run / "samples")[0]}
    mixed = [record for record in read_records(run / "mixed", "train") if record.prefix_bytes]
    assert mixed
    for record in mixed:
        sample = begun[prompt_hash(record.prompt)]
        prefix = record.teacher_text.encode()[: record.prefix_bytes].decode()
        assert sample.text.startswith(prefix)
        tokens = sum(end <= (record.prefix_bytes or 0) for end in sample.token_ends)
        assert sample.limit / 2 < tokens < sample.limit
        assert record.token_ends is not None
        assert record.token_ends[0] > (record.prefix_bytes or 0)
        assert len(record.teacher_text) > len(prefix)


def teachers_prompt(run: Path, identity: str) -> str:
    return prompt_hash(own(run)[identity].prompt)


def test_the_mixed_cache_counts_what_happened(run: Path) -> None:
    facts, records = manifest(run / "mixed")["mixed"], read_records(run / "mixed")
    train = [record for record in records if record.split == "train"]
    mixed = [record for record in train if record.prefix_bytes]
    dropped = sum(report["dropped"] for report in facts["filters"])
    assert facts["continued"] - dropped == facts["kept"] == len(mixed)
    assert facts["off_policy"] == len(train) - len(mixed) == min(round(0.5 * len(mixed)), len(own(run)))
    assert {record.id for record in train if not record.prefix_bytes} <= own(run).keys()
    assert (
        facts["continued"]
        == facts["cut_off"]
        == sum(sample.cut_off and len(sample.token_ends) > 1 for sample in load_samples(run / "samples")[0])
    )
    for split in ("heldout", "validation"):
        assert read_records(run / "mixed", split) == read_records(run / "select-high", split)


def test_the_students_words_are_targets_unless_they_are_masked(run: Path, tmp_path: Path) -> None:
    """Unmasked is the default [C]; masked, no token of the prefix is a target and every later one is."""
    assert composed(*ROUNDS)["fit"]["mask_prefix"] is False
    assert json.loads((run / "fit-mixed" / "step.json").read_text())["settings"]["fit"]["mask_prefix"] is False
    renderer = ChatRenderer(load_tokenizer(run / "release-high"))
    records = {record.id: record for record in read_records(run / "mixed", "train")}
    tables = {
        masked: tokenised_train_records(run / "mixed", renderer, tmp_path, "error", Wanted(mask_prefix=masked))
        for masked in (False, True)
    }
    whole, rest = (list(rows_of(table, range(len(table)))) for table in tables.values())
    for full, masked in zip(whole, rest, strict=True):
        record = records[full["id"]]
        assert full["input_ids"].tolist() == masked["input_ids"].tolist()
        assert full["prompt_tokens"] == masked["prompt_tokens"]
        if not record.prefix_bytes:
            assert full["supervised"].tolist() == masked["supervised"].tolist()
            continue
        targets = masked["input_ids"][masked["supervised"]][:-1]
        text = renderer.tokenizer.decode(targets).encode()
        ours = record.teacher_text.encode()[record.prefix_bytes :]
        assert text.strip().endswith(ours.strip())
        assert masked["supervised_tokens"] < full["supervised_tokens"]
        assert len(text.strip()) - len(ours.strip()) < 24  # of the token that holds bytes of both
    drawn = json.loads((run / "fit-mixed" / "summary.json").read_text())["data"]
    assert drawn["supervised_tokens"] >= sum(row["supervised_tokens"] for row in whole)  # one epoch, nothing left out


def test_the_last_round_is_one_epoch(run: Path) -> None:
    summary = json.loads((run / "fit-mixed" / "summary.json").read_text())
    records = len(read_records(run / "mixed", "train"))
    size = 4  # of pair/rounds/smoke
    assert summary["steps"] == math.ceil(records / size)


def test_a_masked_prefix_does_not_change_what_the_teacher_is_charged_for(run: Path) -> None:
    """Nor does a part of the teacher's own answers that the round before has drawn."""
    masked = pipeline.run(
        composed(*ROUNDS, "mixed.mask_prefix=true", f"run.dir={run.parent / 'masked'}", "only=[fit-mixed]")
    )
    bills = [json.loads((folder / "fit-mixed" / "summary.json").read_text())["compute"] for folder in (run, masked)]
    assert bills[0]["generation"] == bills[1]["generation"]
    assert bills[0]["training"]["flops"] > bills[1]["training"]["flops"]  # fewer targets


def test_the_plan_of_a_mixed_round_knows_how_long_an_epoch_is(tmp_path: Path) -> None:
    cfg = composed(*ROUNDS, f"run.dir={tmp_path / 'run'}")
    low, high, mixed = estimate(cfg, pipeline.plan_steps(cfg)).fits
    assert mixed.records is not None
    assert mixed.steps == math.ceil(mixed.records / 4)
    # The student's answers are on the bill, and its candidates are not: these are chosen from by the rounds before.
    assert low.compute.scoring.tokens > 0
    assert mixed.compute.scoring.tokens == 0
    assert mixed.compute.generation.tokens > 0


def test_a_server_is_no_student(run: Path) -> None:
    cfg = composed(*ROUNDS, "engine@mixed.student_engine=server", f"run.dir={run.parent / 'served'}")
    with pytest.raises(DanteError, match=r"answers with the model that it has loaded.*student_engine=transformers"):
        pipeline.run(cfg)


@pytest.mark.parametrize(
    ("cap", "said"), [(1e-9, "it was a single token.*raise mixed.cap"), (1000.0, "none of the student's")]
)
def test_answers_that_cannot_be_gone_on_with(run: Path, cap: float, said: str) -> None:
    labels = "only=[samples,mixed]"
    more = ["mixed.prompts=3"] if cap > 1 else []
    with pytest.raises(DanteError, match=said):
        pipeline.run(composed(*ROUNDS, f"mixed.cap={cap}", *more, labels, f"run.dir={run.parent / f'cap-{cap}'}"))


def test_two_ends_to_every_beginning(run: Path) -> None:
    words = ("mixed.decoding.temperature=[0.0,1.0]", "mixed.decoding.samples=2", "only=[mixed]")
    two = pipeline.run(composed(*ROUNDS, *words, f"run.dir={run.parent / 'two'}"))
    facts = manifest(two / "mixed")["mixed"]
    assert facts["continued"] == 3 * facts["cut_off"]  # one greedy, two sampled
    for record in read_records(two / "mixed", "train"):
        assert record.prefix_bytes is None or record.correct is not None


@pytest.mark.parametrize(
    "word",
    ["mixed.decoding.temperature=[1.0,1.0]", "selection.selector.tolerance=1.5", "mixed.student_engine.dtype=half"],
)
def test_a_part_that_cannot_be_is_refused_before_anything_runs(word: str) -> None:
    more = ["selection/selector=longest_matched"] if "tolerance" in word else []
    with pytest.raises(DanteError):
        composed(*ROUNDS, *more, word)


def test_what_a_students_answers_cost_is_on_the_bill(run: Path) -> None:
    summary, facts = (
        json.loads((run / place).read_text()) for place in ("fit-mixed/summary.json", "samples/samples.json")
    )
    generation = summary["compute"]["generation"]
    high = json.loads((run / "select-high" / "step.json").read_text())["fingerprint"]
    rows = set(np.load(run / "fit-high" / "drawn" / f"{high}.npy").tolist())
    paid = {record.id for row, record in enumerate(read_records(run / "select-high", "train")) if row in rows}
    mixed = read_records(run / "mixed", "train")
    due = sum(len(record.token_ends or ()) for record in mixed if record.id not in paid)
    assert 0 < sum(record.id in paid for record in mixed) < len(mixed)
    assert generation["tokens"] == facts["tokens"] + due  # what the round before drew is paid


def test_the_report_says_what_became_of_the_candidates(run: Path) -> None:
    found = json.loads((run / "sentences" / "sentences.json").read_text())
    assert found["temperatures"].keys() == {"0.6", "1"}
    for one in found["temperatures"].values():
        kept = one["selectors"]
        assert kept["max_teacher_sentences"]["teacher_sentences"] > kept["min_count"]["teacher_sentences"]
        assert kept["max_teacher_sentences"]["teacher_sentences"] >= kept["random"]["teacher_sentences"]
        assert kept["longest"]["tokens"] > kept["random"]["tokens"]
        assert one["checked"] == one["answers"]
        assert all(math.isclose(sum(shares.values()), 1.0) for shares in one["shares"].values())
    assert math.isclose(sum(found["after"]["shares"].values()), 1.0)
    page, examples = (run / "report" / "index.html").read_text(), (run / "report" / "sentences.html").read_text()
    facts = manifest(run / "mixed")["mixed"]
    assert f"filters kept {facts['kept']:,}" in page
    for temperature, one in found["temperatures"].items():  # β `auto` is each temperature's own
        shares = one["shares"][f"{one['beta']:g}"]
        assert f"sentences before training at β = {one['beta']:g}: {shares['teacher']:.0%} teacher" in page, temperature
    assert "Types before training by β:" in page
    assert "tokens per second" in page
    assert "of the compute of all rounds" in page
    assert 'href="sentences.html"' in page
    kept = lines(run / "sentences" / "examples.jsonl")
    assert {line["temperature"] for line in kept} == {0.6, 1.0}
    for line in kept:
        assert line["id"] in examples
    assert (run / "report" / "exposure.png").is_file() == (len(load_samples(run / "samples")[0]) >= 8)
