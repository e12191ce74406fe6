"""Equal compute: what is charged agrees with a count by hand, and unlike fits with one budget end at one total."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from dante.cache import Record, read_records
from dante.cache.records.conversation import messages_of
from dante.cost import compute, shown
from dante.cost.compute import Compute, Work, most_steps
from dante.cost.estimate import estimate
from dante.cost.memory import Shape
from dante.data.curriculum import Competence, Curriculum, Shuffled, SortedOnceRepeat
from dante.data.datamodule import DistillData
from dante.errors import DanteError
from dante.fit.bill import Bill, Candidates, check_spent, paid_for, size_of_writer
from dante.fit.drawn import drawn_before, write_drawn
from dante.fit.settings import Settings
from dante.losses.ce import CE
from dante.report.one_run import cost, recipe
from dante.report.read import Fit, Run
from dante.run import pipeline
from dante.run.config.check import check
from dante.run.config.schema import ComputeBudget, TeacherParameters
from dante.run.step import Step
from dante.teachers.size import Size, size_of, teacher_size
from dante.teachers.teacher import Teacher
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer
from tests import fit_settings
from tests.killing import Run as Started
from tests.killing import steps_done
from tests.test_config import CONF, composed
from tests.test_data import renderer as chatml
from tests.test_data import write_cache

renderer = chatml  # a fixture
TEACHER = 2e3
SHAPE = Shape(
    parameters=1_000, embedding_entries=300, vocabulary=30, tied=True, hidden=10, attention=10, intermediate=10,
    layers=1, key_value=10,
)  # fmt: skip


def records() -> list[Record]:
    """Answers of several lengths; the teacher's tokens differ from any other count, and one answer was begun for it."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(24):
        text, given = "the answer is " * int(rng.integers(2, 5)), 4 if index == 3 else 0
        found.append(Record(
            id=f"r{index}", prompt=f"what is {index}?", teacher_text=text, output_entropy=float(rng.gamma(4, 0.15)),
            token_logprobs=[-0.5] * (3 + index), token_ends=[*range(given + 1, given + 3 + index), len(text)],
            prefix_bytes=given or None,
        ))  # fmt: skip
    return found


def opened(cache: Path, renderer: ChatRenderer, curriculum: Curriculum, **batch: Any) -> DistillData:
    data = DistillData(
        cache, renderer, cache.parent / "tokens", curriculum=curriculum, steps=None,
        batch=batch or {"unit": "records", "size": 3}, max_tokens=96, accumulate=None, overlong="error", seed=3,
    )  # fmt: skip
    data.prepare_data()
    data.open()
    return data


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write_cache(tmp_path / "cache", records())
    return tmp_path / "cache"


def bill(data: DistillData, **change: Any) -> Bill:
    facts = {"shape": SHAPE, "teacher": Size(TEACHER, True), "scored": False, "same_tokens": True}
    return Bill(data=data, **{**facts, **change})


def test_candidates_that_were_not_kept_are_charged_and_the_student_s_reading_of_them(
    cache: Path, renderer: ChatRenderer
) -> None:
    data = opened(cache, renderer, Shuffled())
    plan = data.plan_of(7)
    alone = bill(data).of(plan)
    facts = {"candidates": 40, "prompts": 10, "candidate_tokens": 900, "kept_tokens": 300}
    chosen = bill(data, candidates=Candidates.of(facts)).of(plan)  # four answers to a prompt, three times the tokens
    written = alone.generation.tokens
    assert alone.generation.flops is not None
    read = alone.generation.flops / (2 * TEACHER) - written  # prompts
    assert chosen.training == alone.training
    assert chosen.generation.tokens == pytest.approx(3 * written, abs=1)
    assert chosen.generation.flops == pytest.approx(2 * TEACHER * (4 * read + 3 * written))
    assert chosen.scoring.flops == pytest.approx(2 * SHAPE.parameters * (4 * read + 3 * written))
    assert {"generation", "scoring"} <= set(chosen.estimated)
    assert Candidates.of(None) is None


@pytest.mark.parametrize("curriculum", [Shuffled(), SortedOnceRepeat(), Competence(0.2, 0.8, 2)])
@pytest.mark.parametrize("batch", [{"unit": "records", "size": 5}, {"unit": "packs", "size": 2}])
def test_the_bill_is_what_a_count_by_hand_gives(
    curriculum: Curriculum, batch: dict[str, Any], cache: Path, renderer: ChatRenderer
) -> None:
    data = opened(cache, renderer, curriculum, **batch)
    plan, by_hand = data.plan_of(7), {record.id: record for record in records()}
    ids = data.table.data.column("id").to_pylist()
    tokens = supervised = 0
    drawn: set[str] = set()
    for step in range(plan.steps):
        for pack in plan.step_packs(step):
            for row in pack:
                record = by_hand[ids[data.rows[row]]]
                rendered = renderer.render(record.prompt, record.teacher_text)
                tokens, supervised = tokens + len(rendered.input_ids), supervised + sum(rendered.supervised)
                drawn.add(record.id)
    prompts = 0.0
    for name in drawn:
        asked = renderer.tokenizer.apply_chat_template(
            messages_of(by_hand[name].prompt), add_generation_prompt=True, tokenize=False
        )
        prompts += len(renderer.tokenizer.encode(str(asked), add_special_tokens=False))
        if name == "r3":  # what was begun went through the teacher as part of its input
            rendered = renderer.render(by_hand[name].prompt, by_hand[name].teacher_text)
            prompts += sum(rendered.supervised) * 4 / len(by_hand[name].teacher_text)
    answers = sum(3 + int(name[1:]) for name in drawn)
    found = bill(data).of(plan)
    assert found.training == Work(tokens, 6.0 * ((1_000 - 300) * tokens + 300 * supervised))
    assert found.generation == Work(answers, 2 * TEACHER * (round(prompts) + answers))
    assert found.scoring == Work(0, 0.0)
    assert found.total.tokens == tokens + answers
    assert found.estimated == (("generation",) if "r3" in drawn else ())
    scored = bill(data, scored=True).of(plan)
    assert scored.scoring == scored.generation == found.generation
    assert scored.total == found.training + found.generation + found.generation


def test_a_teacher_beside_the_student_is_charged_for_every_draw(cache: Path, renderer: ChatRenderer) -> None:
    """Twice as many epochs cost it twice as much, where answers and kept scores cost nothing more."""
    once = bill(opened(cache, renderer, Shuffled()), beside=(Size(70.0, True), Size(5.0, True)))
    plan, longer = once.data.plan_of(3), once.data.plan_of(6)
    for of in (plan, longer):
        tokens, supervised = int(of.tokens.sum()), int(of.supervised_tokens.sum())
        assert once.of(of).scoring == Work(2 * supervised, 2 * (70.0 + 5.0) * tokens)
    assert once.of(plan).estimated == replace(once, beside=()).of(plan).estimated
    assert replace(once, beside=(None,)).of(plan).scoring.flops is None
    assert "scoring" in replace(once, beside=(Size(70.0, False),)).of(plan).estimated
    raw = replace(once, written=False).of(plan)
    assert raw.generation == Work(0, 0.0)
    assert raw.scoring == once.of(plan).scoring


def test_raw_texts_are_budgeted_without_a_teacher_that_wrote_them(cache: Path, renderer: ChatRenderer) -> None:
    """Nobody wrote them: no size is missing; of a teacher beside the student it would be."""
    raw = bill(opened(cache, renderer, Shuffled()), teacher=None, written=False, beside=(Size(70.0, True),))
    price = raw.of(raw.data.plan_of(2)).spent("flops")
    assert price is not None
    assert paid_for(ComputeBudget(unit="flops", amount=price), raw) == 2
    with pytest.raises(DanteError, match="runs beside the student is unknown.*teacher.parameters=NUMBER"):
        paid_for(ComputeBudget(unit="flops", amount=price), replace(raw, beside=(None,)))
    with pytest.raises(DanteError, match="wrote the answers is unknown.*cache.teacher_parameters=NUMBER"):
        paid_for(ComputeBudget(unit="flops", amount=price), replace(raw, written=True))


def test_what_is_not_recorded_is_estimated_and_said_to_be(cache: Path, renderer: ChatRenderer, tmp_path: Path) -> None:
    exact = bill(opened(cache, renderer, Shuffled()), same_tokens=True)
    plan = exact.data.plan_of(1)
    assert exact.of(plan).estimated == ()
    assert replace(exact, same_tokens=False).of(plan).estimated == ("generation",)
    assert replace(exact, teacher=Size(1.0, counted=False), scored=True).of(plan).estimated == ("generation", "scoring")
    unknown = replace(exact, teacher=None).of(plan)
    assert (unknown.generation.flops, unknown.spent("flops")) == (None, None)
    assert unknown.spent("tokens") == exact.of(plan).spent("tokens")
    five_fields = [replace(record, token_ends=None, token_logprobs=None, prefix_bytes=None) for record in records()]
    write_cache(tmp_path / "given", five_fields)
    given = bill(opened(tmp_path / "given", renderer, Shuffled()))
    found, drawn = given.of(given.data.plan_of(1)), given.data.plan_of(1)
    assert found.generation.tokens == drawn.supervised_tokens.sum()  # in the student's tokens, for want of others
    assert found.estimated == ("generation",)


def test_a_drawn_answer_is_charged_once(cache: Path, renderer: ChatRenderer) -> None:
    data = opened(cache, renderer, Shuffled(), unit="records", size=24)
    once, thrice = (bill(data).of(data.plan_of(steps)) for steps in (1, 3))
    assert thrice.generation == once.generation
    assert thrice.training.tokens == 3 * once.training.tokens


@pytest.mark.parametrize("seed", range(40))
def test_most_steps_is_what_trying_all_of_them_finds(seed: int) -> None:
    rng = random.Random(seed)
    prices = [0.0]
    for _ in range(rng.choice([3, 60, 700])):
        prices.append(prices[-1] + rng.choice([1.0, rng.random(), 50 * rng.random()]))
    amount = rng.uniform(0.1, prices[-1] * 0.999)
    asked = []

    def price(steps: int) -> float:
        asked.append(steps)
        return prices[steps] if steps < len(prices) else math.inf if seed % 2 else prices[-1] + 1e6 + steps

    found = most_steps(price, amount)
    assert found == max(n for n, cost in enumerate(prices) if cost <= amount)
    assert len(asked) <= 4 * math.log2(found + 2) + 4


@pytest.mark.parametrize("unit", ["tokens", "flops"])
@pytest.mark.parametrize("batch", [{"unit": "records", "size": 2}, {"unit": "tokens", "size": 200}])
def test_a_budget_pays_for_this_plan_and_not_for_one_step_more(
    unit: str, batch: dict[str, Any], cache: Path, renderer: ChatRenderer
) -> None:
    data = opened(cache, renderer, SortedOnceRepeat(), **batch)
    one = bill(data)
    for times in (1.0, 4.4, 37.7):
        amount = times * one.of(data.plan_of(1)).spent(unit)  # type: ignore[arg-type, operator]
        steps = paid_for(ComputeBudget(unit=unit, amount=amount), one)
        assert one.of(data.plan_of(steps)).spent(unit) <= amount < one.of(data.plan_of(steps + 1)).spent(unit)  # type: ignore[arg-type, operator]


def test_a_budget_that_cannot_be_is_refused(cache: Path, renderer: ChatRenderer) -> None:
    data = opened(cache, renderer, Shuffled())
    first = bill(data).of(data.plan_of(1))
    said = rf"that costs {first.total.tokens}, of it {first.generation.tokens} for .*budget\.compute\.amount"
    with pytest.raises(DanteError, match=said):
        paid_for(ComputeBudget(unit="tokens", amount=first.total.tokens - 1), bill(data))
    assert paid_for(ComputeBudget(unit="tokens", amount=first.total.tokens), bill(data)) == 1
    with pytest.raises(DanteError, match=r"size of the teacher .* unknown.*cache\.teacher_parameters=NUMBER"):
        paid_for(ComputeBudget(unit="flops", amount=1e9), bill(data, teacher=None))
    assert paid_for(ComputeBudget(unit="tokens", amount=1e4), bill(data, teacher=None)) > 1
    with pytest.raises(DanteError, match="choose the other unit"):
        paid_for(ComputeBudget(unit="tokens", amount=1e15), bill(data))


def test_a_total_that_misses_its_budget_is_told(
    cache: Path, renderer: ChatRenderer, capsys: pytest.CaptureFixture[str]
) -> None:
    data = opened(cache, renderer, Shuffled())
    spent = bill(data).of(data.plan_of(20))
    for total, told in ((spent.total.tokens, False), (spent.total.tokens * 1.5, True), (spent.total.tokens / 2, True)):
        check_spent(spent, ComputeBudget(unit="tokens", amount=total), 20)
        assert ("smaller steps" in " ".join(capsys.readouterr().out.split())) is told
    check_spent(spent, None, 20)
    assert not compute.misses(99, 100)  # within the tolerance
    assert compute.misses(90, 100)


# --- whole fits at smoke scale -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that share a teacher, a cache and, where they can, an initialisation."""
    return tmp_path_factory.mktemp("runs")


def smoke(runs: Path, name: str, *overrides: str, only: str = "[teacher,cache,init,fit]") -> dict[str, Any]:
    fixed = ["scale=smoke", "logger=none", f"only={only}", f"run.dir={runs}/{name}", "fit.log_every_steps=1000"]
    experiment = [] if any(word.startswith("+experiment=") for word in overrides) else ["+experiment=sft"]
    return composed(*experiment, *fixed, *overrides)


def fitted(runs: Path, name: str, *overrides: str) -> dict[str, Any]:
    cfg = smoke(runs, name, *overrides)
    pipeline.run(cfg)
    found: dict[str, Any] = json.loads((runs / name / "fit" / "summary.json").read_text())
    return found


UNLIKE = {
    "as it is": [],
    "deeper": ["student.init.layers=[0,1,2,3]"],
    "larger steps": ["fit.batch.size=9"],
    "packs": ["fit.batch.unit=packs", "fit.batch.size=2", "fit.max_tokens=200"],
    "tokens": ["fit.batch.unit=tokens", "fit.batch.size=600"],
    "sorted, other losses": ["+experiment=dante_mosaic", "fit.batch.size=2"],
}
AMOUNT = {"tokens": 9_000, "flops": 5e9}


@pytest.mark.parametrize("unit", ["tokens", "flops"])
def test_unlike_fits_with_one_budget_end_at_one_total(unit: str, runs: Path) -> None:
    """Different depth, batches, packs, curricula and losses; the largest step of any bounds how far they are apart."""
    spent, steps, largest = {}, {}, 0.0
    for name, overrides in UNLIKE.items():
        budget = [f"budget={unit}", f"budget.compute.amount={AMOUNT[unit]}"]
        found = fitted(runs, f"{unit}-{name.replace(' ', '_').replace(',', '')}", *overrides, *budget)
        block = found["compute"]
        assert (block["unit"], block["amount"]) == (unit, AMOUNT[unit])
        assert block["training"] == {"tokens": found["tokens"], "flops": found["flops"]}
        for kind in ("tokens", "flops"):
            parts = (block[part][kind] for part in ("training", "generation", "scoring"))
            assert block["total"][kind] == pytest.approx(sum(parts))
        step = 1.5 * block["total"][unit] / found["steps"]  # records differ in length
        assert 0 <= AMOUNT[unit] - block["total"][unit] <= step, name
        spent[name], steps[name], largest = block["total"][unit], found["steps"], max(largest, step)
    assert max(spent.values()) - min(spent.values()) <= largest
    one_more = fitted(runs, f"{unit}-one_more", f"fit.steps={steps['as it is'] + 1}")["compute"]
    assert one_more["total"][unit] > AMOUNT[unit]
    assert len(set(steps.values())) >= 4  # they did not come out equal because they are
    if unit == "flops":
        assert steps["deeper"] < steps["as it is"]


def test_generation_is_charged_by_the_records_that_are_drawn(runs: Path) -> None:
    """From the files alone: the records of a plan that draws all, and the weights of teacher and student."""
    found = fitted(runs, "all", "budget=tokens", "budget.compute.amount=12000")
    block = found["compute"]
    train = read_records(runs / "all" / "cache", "train")
    assert found["data"]["distinct_records"] == len(train) < found["data"]["records"]
    assert block["generation"]["tokens"] == sum(len(record.token_ends or ()) for record in train)
    tokenizer = load_tokenizer(runs / "all" / "teacher" / "model")
    prompts = [
        tokenizer.apply_chat_template(messages_of(record.prompt), add_generation_prompt=True, return_dict=False)
        for record in train
    ]
    weights = load_file(runs / "all" / "teacher" / "model" / "model.safetensors")
    parameters = sum(tensor.numel() for tensor in weights.values())
    through = block["generation"]["tokens"] + sum(map(len, prompts))
    assert block["generation"]["flops"] == 2 * parameters * through
    student = load_file(runs / "all" / "fit" / "student.safetensors")
    body = sum(tensor.numel() for name, tensor in student.items() if "embed" not in name)
    head = student["model.embed_tokens.weight"].numel()
    assert block["training"]["flops"] == 6 * (body * found["tokens"] + head * found["supervised_tokens"])
    assert block["estimated"] == []


def test_without_a_budget_the_block_is_written_and_steps_are_as_set(runs: Path) -> None:
    found = fitted(runs, "plain", "fit.steps=3")
    assert found["steps"] == 3
    assert (found["compute"]["unit"], found["compute"]["amount"]) == (None, None)
    assert found["compute"]["total"]["tokens"] > found["compute"]["training"]["tokens"] == found["tokens"]


def test_everything_that_speaks_of_steps_has_the_number_that_was_found(runs: Path) -> None:
    """Warm-up, the cosine's end, schedules and the last checkpoint are shares of the steps."""
    words = ["+experiment=dante_mosaic", "budget=tokens", "budget.compute.amount=6000"]
    cfg = smoke(runs, "shares", *words, "fit.log_every_steps=1", "fit.keep_checkpoints=all")
    pipeline.run(cfg)
    steps = json.loads((runs / "shares" / "fit" / "summary.json").read_text())["steps"]
    same = smoke(runs, "fixed", words[0], f"fit.steps={steps}", "fit.log_every_steps=1", "fit.keep_checkpoints=all")
    pipeline.run(same)
    kept = ("step", "loss", "lr", "weight/cwce", "weight/tea", "supervised_tokens")
    lines = [
        [{k: json.loads(line)[k] for k in kept} for line in (runs / name / "fit" / "metrics.jsonl").open()]
        for name in ("shares", "fixed")
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == steps > 8
    names = [sorted(p.name for p in (runs / name / "fit" / "checkpoints").iterdir()) for name in ("shares", "fixed")]
    assert names[0] == names[1]


@pytest.mark.parametrize("unit", ["tokens", "flops"])
def test_the_plan_says_about_what_is_measured(unit: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = [f"budget={unit}", f"budget.compute.amount={AMOUNT[unit]}"]
    before = smoke(runs, f"nowhere/{unit}", *budget)  # nothing is made there: the cache is as conf/cache expects
    planned = estimate(before, pipeline.plan_steps(before))
    found = fitted(runs, f"{unit}-as_it_is", *budget)
    assert planned.steps == pytest.approx(found["steps"], rel=0.1)
    assert planned.compute.estimated == ("training", "generation")
    for kind in ("tokens", "flops"):
        for part in ("training", "generation", "total"):
            expected = getattr(getattr(planned.compute, part), kind)
            assert expected == pytest.approx(found["compute"][part][kind], rel=0.15), (part, kind)
    shown.plan(before, pipeline.plan_steps(before), planned)
    said = " ".join(capsys.readouterr().out.split())
    assert f"budget {shown.budget_words(ComputeBudget(**before['fit']['compute']))}, teacher included" in said
    assert f"steps ≈ {planned.steps:,} ×" in said
    assert "FLOPs, estimate" in said
    assert "+ generation" in said


def test_a_given_cache_that_names_no_teacher_needs_the_size_for_flops_and_nothing_for_tokens(runs: Path) -> None:
    fitted(runs, "source", "fit.steps=1")
    given = runs / "given.jsonl"
    lines = []
    for record in read_records(runs / "source" / "cache", "train"):
        fields = ("prompt", "teacher_text", "output_entropy", "self_consistency", "difficulty_score")
        lines.append(json.dumps({name: getattr(record, name) for name in fields}) + "\n")
    given.write_text("".join(lines))
    words = ["cache=given", f"cache.source.path={given}", "cache.source.heldout=4", "cache.source.validation=4"]
    budget = ["budget=flops", "budget.compute.amount=5e9"]
    with pytest.raises(DanteError, match=r"cache\.teacher_parameters=NUMBER"):
        fitted(runs, "given", *words, *budget)
    told = fitted(runs, "given-size", *words, *budget, "cache.teacher_parameters=200000")["compute"]
    assert told["total"]["flops"] <= 5e9
    assert told["estimated"] == ["generation"]
    tokens = fitted(runs, "given-tokens", *words, "budget=tokens", "budget.compute.amount=6000")["compute"]
    assert tokens["generation"]["flops"] is tokens["total"]["flops"] is None
    assert 0 < tokens["total"]["tokens"] <= 6000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["budget=flops", "budget.compute.amount=1e9", "fit.steps=5"], r"fit\.steps=5 and a compute budget of 1e\+09"),
        (["budget=study", "budget.compute={unit:tokens,amount:9}"], "leave fit.steps out and choose budget=tokens"),
        (["budget.steps=null"], "neither a number of steps nor a compute budget"),
        (["budget=tokens"], r"budget\.compute\.amount has no value"),
        (["budget=tokens", "budget.compute.amount=0"], "greater than 0"),
        (["budget=tokens", "budget.compute.amount=9", "budget.compute.unit=bytes"], "'tokens', 'flops' or 'epochs'"),
    ],
)
def test_a_contradictory_budget_is_one_message(words: list[str], message: str) -> None:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["+experiment=sft", *words])
    with pytest.raises(DanteError, match=message):
        check(cfg)


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_to_the_same_step(tmp_path: Path) -> None:
    words = ("+experiment=dante_mosaic", "scale=smoke", "budget=tokens", "budget.compute.amount=60000")
    whole, run = Started(tmp_path / "whole" / "run", words), Started(tmp_path / "runs" / "run", words)
    whole.finish()
    assert run.kill_when(lambda: steps_done(run) > 20, 0.0, "fit.checkpoint_every_steps=7")
    said = run.finish("fit.checkpoint_every_steps=7")
    assert "continues after step" in said
    summaries = [json.loads((r.directory / "fit" / "summary.json").read_text()) for r in (whole, run)]
    assert summaries[0]["compute"] == summaries[1]["compute"]
    assert summaries[0]["steps"] == summaries[1]["steps"] > 100
    assert run.result()["metrics"] == whole.result()["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["own", "torchrun"])
def test_two_ranks_find_the_same_number(launcher: str, tmp_path: Path) -> None:
    words = ("+experiment=sft", "scale=smoke", "only=[teacher,cache,init,fit]", "budget=flops",
             "budget.compute.amount=5e9")  # fmt: skip
    one = Started(tmp_path / "one" / "run", words)
    two = Started(tmp_path / "two" / "run", (*words, "trainer.devices=2", "trainer.strategy=ddp"))
    one.finish()
    if launcher == "torchrun":
        prefix = ["torchrun", "--nproc-per-node=2", "--master-port=29517", "--no-python"]
        two.end_of(two.start(prefix=prefix))
    else:
        two.finish()
    summaries = [json.loads((r.directory / "fit" / "summary.json").read_text()) for r in (one, two)]
    assert summaries[0]["compute"] == summaries[1]["compute"]
    assert [s["devices"] for s in summaries] == [1, 2]


# --- sizes and words -------------------------------------------------------------------------------------------------


def _saved(folder: Path, model_type: str, **values: Any) -> Any:
    shape = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**shape, **values}))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_a_dense_teacher_is_counted(tied: bool, tmp_path: Path) -> None:
    model = _saved(tmp_path, "llama", tie_word_embeddings=tied)
    assert size_of(tmp_path) == Size(float(sum(p.numel() for p in model.parameters())), counted=True)


@pytest.mark.parametrize(
    ("model_type", "experts"),
    [
        ("mixtral", {"num_local_experts": 8, "num_experts_per_tok": 2}),
        ("qwen2_moe", {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 8,
                       "shared_expert_intermediate_size": 24}),
    ],
)  # fmt: skip
def test_of_experts_those_count_that_a_token_goes_through(
    model_type: str, experts: dict[str, Any], tmp_path: Path
) -> None:
    """Against the model's own module tree: one expert's share is known by building it with fewer experts."""
    model = _saved(tmp_path, model_type, **experts)
    fewer = _saved(tmp_path / "fewer", model_type, **{**experts, next(iter(experts)): 4})
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, fewer)]
    routers = 2 * 16  # a router has a row of the width per expert and block, and all of them run
    expert = (counts[0] - counts[1]) / 4 - routers
    found = size_of(tmp_path)
    assert found is not None
    assert not found.counted
    assert found.parameters == counts[0] - 6 * expert


def test_who_knows_better_is_believed(tmp_path: Path) -> None:
    model = _saved(tmp_path / "model", "llama")
    Teacher("mine", "model", True, None, "MIT", None, True).write(tmp_path)
    count = float(sum(p.numel() for p in model.parameters()))
    assert teacher_size(7.0, tmp_path) == Size(count, counted=True)  # a stated number may be another teacher's
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "quantization_config": {"bits": 4}}))
    assert teacher_size(7.0, tmp_path) == Size(7.0, counted=False)
    assert teacher_size(None, tmp_path) is None
    Teacher("far", "org/far", False, None, "MIT", None, True).write(tmp_path)
    assert (teacher_size(None, tmp_path), teacher_size(7.0, None)) == (None, Size(7.0, counted=False))


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ({"name": "mine", "model": "mine", "sha256": "aa"}, True),
        ({"name": "renamed", "model": "other", "sha256": "aa"}, True),
        ({"name": "mine", "model": "mine", "sha256": "bb"}, False),
        ({"name": "mine", "model": "org/mine", "sha256": None}, True),
        ({"name": "other", "model": "org/other", "sha256": None}, False),
        (None, False),
    ],
)
def test_a_cache_of_another_teacher_is_not_charged_at_this_one_s_size(
    written: dict[str, Any] | None, known: bool, tmp_path: Path
) -> None:
    Teacher("mine", "model", True, None, "MIT", "aa", True).write(tmp_path)

    def size(cache: float | None) -> Size | None:
        stated = TeacherParameters(teacher=7.0, cache=cache)
        settings = Settings.model_construct(fit=fit_settings.fit(teacher_parameters=stated))
        step = Step("fit", "fit", settings, {}, {"teacher": tmp_path}, tmp_path / "out", "f", 0)
        return size_of_writer(step, written)

    assert size(None) == (Size(7.0, counted=False) if known else None)
    assert size(9.0) == Size(9.0, counted=False)


def test_a_loss_that_reads_scores_is_charged_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cfg = composed("+experiment=sft", "scale=smoke", f"run.dir={tmp_path}/run")
    plain = estimate(cfg, pipeline.plan_steps(cfg)).compute
    monkeypatch.setattr(CE, "needs", frozenset({"sparse"}))
    cfg = composed("+experiment=sft", "scale=smoke", f"run.dir={tmp_path}/run")
    scored = estimate(cfg, pipeline.plan_steps(cfg)).compute
    assert plain.scoring == Work(0, 0.0)
    assert scored.scoring == scored.generation == plain.generation
    assert scored.estimated == ("training", "generation", "scoring")


def test_the_report_shows_the_parts_and_the_budget() -> None:
    found = Compute(Work(1000, 6e6), Work(200, 4e6), estimated=("generation",))
    rows = dict(cost.compute_rows({"compute": found.as_dict({"unit": "flops", "amount": 1.25e7})}))
    assert rows == {
        "training": "6.00e6 FLOPs, 1,000 tokens",
        "the teacher's answers drawn, each once": "≈ 4.00e6 FLOPs, 200 tokens",
        "together": "≈ 1.00e7 FLOPs, 1,200 tokens",
        "budget": "1.25e7 FLOPs, 80.0% of it used",
    }
    unknown = Compute(Work(1000, 6e6), Work(200, None), Work(200, None)).as_dict(None)
    rows = dict(cost.compute_rows({"compute": unknown}))
    assert rows["read by the teacher once more (scoring)"] == "size of the teacher unknown, 200 tokens"
    assert rows["budget"] == "none: a number of steps or of epochs was set"
    assert cost.compute_rows({}) == []
    drawn = Run(
        fits=[Fit("fit", [], {"compute": found.as_dict(None)}, {})],
        cache={"counts": {"records": 5, "teacher_tokens": 300}},
        teacher_parameters=3,
    )
    assert cost.generation_flops(drawn) == pytest.approx(6e6)  # 300 of 200 tokens that cost 4e6, prompts included
    assert cost.generation_flops(replace(drawn, fits=[])) == 2 * 3 * 300
    assert "prompts and answers" in cost.generation_sentence(drawn)
    facts = dict(cost.facts(Run(fits=[Fit("fit", [], {"compute": unknown}, {})])))
    assert facts["Compute"] == list(rows.items())


def words_of(run: Run, ran: dict[str, Any]) -> list[str]:
    """What a report's command types behind `python train.py`."""
    named = ran["experiment"]["name"], ran["report"]["scale"], ran["report"]["seed"]
    return recipe.command(run, ran["run"]["name"], *named).split()[2:]


@pytest.mark.parametrize("words", [["budget=flops", "budget.compute.amount=2e14"], ["budget=study"],
                                   ["budget=tokens", "budget.compute.amount=40000"]])  # fmt: skip
def test_the_report_s_command_repeats_a_budget(words: list[str]) -> None:
    ran = composed("+experiment=sft", *words)
    run = Run(fits=[Fit("fit", [], {}, ran["steps"]["fit"]["settings"])])
    repeated = composed(*words_of(run, ran))
    assert repeated["steps"] == ran["steps"]


def test_an_answer_is_charged_to_the_first_fit_that_draws_it(cache: Path, renderer: ChatRenderer) -> None:
    data = opened(cache, renderer, Shuffled())
    plan = data.plan_of(2)
    alone, rows = bill(data).of(plan), bill(data).drawn(plan)
    paid = bill(data, paid=rows).of(plan)
    assert (paid.training, paid.generation) == (alone.training, Work(0, 0.0))
    half, rest = (bill(data, paid=part).of(plan).generation.tokens for part in np.array_split(rows, 2))
    assert half + rest == alone.generation.tokens
    assert min(half, rest) > 0


def test_fits_hand_on_what_they_have_drawn_by_cache(tmp_path: Path) -> None:
    """Three fits: the first two read one cache, the third another one, and a fourth the first cache again."""

    def fit(name: str, cache: str, start: str | None) -> Step:
        inputs = {"cache": tmp_path / cache} | ({"start": tmp_path / start} if start else {})
        (tmp_path / name).mkdir()
        return Step(name, "fit", Settings.model_construct(), {}, inputs, tmp_path / name, name, 0)

    for cache in ("a", "b"):
        (tmp_path / cache).mkdir()
        (tmp_path / cache / "step.json").write_text(json.dumps({"fingerprint": f"f{cache}", "files": {}}))
    before = {}
    fits = [("one", "a", None, [1, 5]), ("two", "a", "one", [5, 9]), ("three", "b", "two", [1])]
    for name, cache, start, drawn in [*fits, ("four", "a", "three", [2])]:
        step = fit(name, cache, start)
        before[name] = drawn_before(step).tolist()
        write_drawn(step, np.array(drawn, dtype=np.int64))
    assert before == {"one": [], "two": [1, 5], "three": [], "four": [1, 5, 9]}
