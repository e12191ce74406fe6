"""DASD's rounds as steps of a recipe: candidates at two temperatures, one answer to each prompt, a mixed round."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dante.cache import read_records
from dante.cache.mixed.samples import load_samples
from dante.cache.records.record import Record, prompt_hash
from dante.data.table import rows_of, tokenised_train_records
from dante.errors import DanteError
from dante.run import pipeline
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer
from tests.test_config import composed

ROUNDS = (
    "+experiment=dasd_thinking", "scale=smoke", "logger=none", "suite=[heldout,generation]", "eval.bootstrap=100",
    "mixed.off_policy=0.5",
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
        assert sample.limit == math.ceil(1.5 * length)  # tokens: in characters it would be another number
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
    assert sum(facts["finish_reasons"].values()) == facts["continued"]
    for split in ("heldout", "validation"):
        assert read_records(run / "mixed", split) == read_records(run / "select-high", split)


def test_the_students_words_are_targets_unless_they_are_masked(run: Path, tmp_path: Path) -> None:
    """Unmasked is the default [C]; masked, no token of the prefix is a target and every later one is."""
    assert composed(*ROUNDS)["fit"]["mask_prefix"] is False
    assert json.loads((run / "fit-mixed" / "step.json").read_text())["settings"]["fit"]["mask_prefix"] is False
    renderer = ChatRenderer(load_tokenizer(run / "release-high"))
    records = {record.id: record for record in read_records(run / "mixed", "train")}
    tables = {
        masked: tokenised_train_records(run / "mixed", renderer, tmp_path, "error", masked) for masked in (False, True)
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


def test_what_a_students_answers_cost_is_on_the_bill(run: Path) -> None:
    summary, facts = (
        json.loads((run / place).read_text()) for place in ("fit-mixed/summary.json", "samples/samples.json")
    )
    generation = summary["compute"]["generation"]
    continued = sum(len(r.token_ends or ()) for r in read_records(run / "mixed", "train") if r.prefix_bytes)
    assert generation["tokens"] == facts["tokens"] + continued  # the teacher's own were paid for by the round before


def test_the_report_says_what_became_of_the_candidates(run: Path) -> None:
    found = json.loads((run / "sentences" / "sentences.json").read_text())
    assert found["temperatures"].keys() == {"0.6", "1"}
    for one in found["temperatures"].values():
        kept = one["selectors"]
        assert kept["all"]["shift"] == 0.0
        assert kept["max_teacher_sentences"]["teacher_sentences"] >= kept["random"]["teacher_sentences"]
        assert kept["longest"]["tokens"] >= kept["random"]["tokens"]
        assert all(math.isclose(sum(shares.values()), 1.0) for shares in one["shares"].values())
    assert math.isclose(sum(found["after"]["shares"].values()), 1.0)
    page, examples = (run / "report" / "index.html").read_text(), (run / "report" / "sentences.html").read_text()
    facts = manifest(run / "mixed")["mixed"]
    assert f"filters kept {facts['kept']:,}" in page
    assert "tokens per second" in page
    assert "of the compute of all rounds" in page
    assert 'href="sentences.html"' in page
    kept = lines(run / "sentences" / "examples.jsonl")
    assert {line["temperature"] for line in kept} == {0.6, 1.0}
    for line in kept:
        assert line["id"] in examples
    assert (run / "report" / "exposure.png").is_file() == (len(load_samples(run / "samples")[0]) >= 8)
