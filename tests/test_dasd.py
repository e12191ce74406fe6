"""DASD's rounds as steps of a recipe: candidates at two temperatures, one answer to each prompt, a fit, and again."""

import json
from pathlib import Path

import pytest

from dante.cache import read_records
from dante.cache.records.record import prompt_hash
from dante.errors import DanteError
from dante.run import pipeline
from tests.test_config import composed

ROUNDS = (
    "+experiment=sft", "recipe=dasd", "scale=smoke", "logger=none", "prompts.count=24", "fit.steps=6",
    "cache.source.decoding.temperature=[0.6,1.0]", "cache.source.decoding.samples=3",
)  # fmt: skip
TRAINED = "only=[teacher,cache,init,likelihood-low,select-low,fit-low,likelihood-high,select-high,fit-high]"


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to the second round's fit."""
    return pipeline.run(composed(*ROUNDS, TRAINED, f"run.dir={tmp_path_factory.mktemp('runs') / 'dasd'}"))


def metrics(fit: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (fit / "metrics.jsonl").read_text().splitlines()]


def test_every_round_has_one_answer_to_each_prompt_at_its_temperature(rounds: Path) -> None:
    candidates = read_records(rounds / "cache", "train")
    prompts = {prompt_hash(record.prompt) for record in candidates}
    for label, temperature in (("select-low", 0.6), ("select-high", 1.0)):
        kept = read_records(rounds / label, "train")
        assert {record.temperature for record in kept} == {temperature}
        assert sorted(prompt_hash(record.prompt) for record in kept) == sorted(prompts)
        facts = json.loads((rounds / label / "manifest.json").read_text())["selection"]
        assert facts["candidates"] == sum(record.temperature == temperature for record in candidates)
        assert facts["prompts"] == len(kept)
        held = {split: read_records(rounds / label, split) for split in ("heldout", "validation")}
        assert {record.sample_index for records in held.values() for record in records} == {0}


def test_the_second_round_goes_on_from_the_first_one_with_a_schedule_of_its_own(rounds: Path) -> None:
    first, second = metrics(rounds / "fit-low"), metrics(rounds / "fit-high")
    assert [row["lr"] for row in first] == [row["lr"] for row in second]
    assert first[0]["step"] == second[0]["step"] == 1
    low, high = (
        json.loads((rounds / f"likelihood-{name}" / "likelihood.json").read_text()) for name in ("low", "high")
    )
    assert low["records"] + high["records"] == len(read_records(rounds / "cache", "train"))
    weights = [(rounds / label / "student.safetensors").read_bytes() for label in ("fit-low", "fit-high")]
    assert weights[0] != weights[1]


def test_another_selector_shares_what_does_not_depend_on_it(rounds: Path) -> None:
    cfg = composed(*ROUNDS, "selection/selector=longest", f"run.dir={rounds.parent / 'longest'}")
    done = {step.label for step in pipeline.plan_steps(cfg) if step.complete}
    assert done == {"teacher", "cache", "init", "likelihood-low"}


def test_candidates_of_another_temperature_are_refused(tmp_path: Path) -> None:
    greedy = [word for word in ROUNDS if "decoding" not in word]
    with pytest.raises(DanteError, match=r"no answers that were sampled at temperature 0.6.*Allowed: 0\."):
        pipeline.run(composed(*greedy, "only=[teacher,cache,init,likelihood-low]", f"run.dir={tmp_path / 'run'}"))
