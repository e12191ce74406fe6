"""The eval step end to end on tiny models: every row is there, and each number is the one it claims to be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from dante.cache import CacheWriter, Record
from dante.errors import DanteError
from dante.evaluate import score_stage, stage
from dante.evaluate.items import select
from dante.evaluate.measure import measure
from dante.evaluate.subject import Subject
from dante.evaluate.suites.greedy import _generation, choose, greedy, repetition
from dante.evaluate.suites.heldout.ngram import Ngrams, Trigram, Unigram, collect
from dante.evaluate.suites.heldout.suite import HIDDEN, Heldout
from dante.run.stages import STAGES
from dante.run.step import Step
from dante.text.repetition import RepetitionLimit
from tests.test_evaluate_fidelity import reference_bits, tiny

WORDS = ["così", "ab", "Zwölf", "Boxkämpfer", "jagen", "Viktor", "Perché"]


def record(index: int, split: str) -> Record:
    rng = np.random.default_rng(index)
    return Record(
        id=f"{split}-{index}",
        prompt=f"Say {index}",
        teacher_text=" ".join(rng.choice(WORDS, size=int(rng.integers(3, 12)))),
        output_entropy=0.4,
        finish_reason="stop",
        domain=["chat", "code", "maths"][index % 3],
        language="it" if index % 4 == 0 else "en",
        split=split,  # type: ignore[arg-type]
    )


LOOP = RepetitionLimit(min_tokens=3, max_tokens=40, count=5)
TRAIN = [record(index, "train") for index in range(20)]
HELDOUT = [record(100 + index, "heldout") for index in range(8)]


SHOWN = 3  # answers that are kept token by token
LOOPS = {"_target_": "dante.text.repetition.RepetitionLimit", "min_tokens": 3, "max_tokens": 40, "count": 5}
MEASURE = {
    "seed": 0,
    "precision": "fp32",
    "heldout": None,
    "validation": False,
    "retention": True,
    "generations": 4,
    "choices": 4,
    "chat": {},
}


def settings_of(stage: str, validation: bool, retention: bool, generations: int, choices: int, **rest: Any) -> Any:
    """Typed settings of a step in the four suites."""
    suites = "dante.evaluate.suites."
    nodes = {
        "heldout": {"_target_": suites + "heldout.suite.Heldout", "bins": 5, "validation": validation, "shown": SHOWN},
        "retention": {"_target_": suites + "retention.Retention", "wanted": retention},
        "generation": {
            "_target_": suites + "generation.Generation", "prompts": generations, "max_new_tokens": 6, "loop": LOOPS,
        },
        "continuation": {
            "_target_": suites + "continuation.suite.Continuation", "choices": choices, "characters": 40,
        },
    }  # fmt: skip
    return STAGES[stage].typed({"suites": nodes, **rest})


def evaluated(
    root: Path,
    models: dict[str, tuple[int, int]],
    everywhere: dict[str, Any] | None = None,
    writer: str = "big",
    asked: int = 0,
    **changes: Any,
) -> Step:
    """The three steps of an evaluation over tiny models `{folder: (vocabulary, seed)}`; returns the last.

    Settings of all three steps come from `everywhere`, those of the last alone from `changes`. `writer` wrote the
    answers; the teacher `big` answers `asked` prompts itself.
    """
    shared = MEASURE | (everywhere or {})
    for name, (vocab_size, seed) in models.items():
        model, renderer = tiny(vocab_size, seed)
        model.save_pretrained(root / name)
        renderer.tokenizer.save_pretrained(root / name)
    (root / "release" / "release.json").write_text(json.dumps({"seed": 7}))
    handle = {"name": "big", "model": "model", "local": True, "revision": None, "licence": "MIT", "sha256": None}
    (root / "teacher" / "teacher.json").write_text(json.dumps(handle | {"chat_template": True}))
    validation = [replace(record(50 + index, "train"), split="validation") for index in range(3)]
    CacheWriter(root / "cache").add(TRAIN + validation + HELDOUT).seal(teacher={"name": writer})
    inputs = {name: root / name for name in ("teacher", "cache", "init", "release")}
    score_stage.run(made("eval-teacher", inputs, "score", {"model": "teacher", **shared, "generations": asked}, root))
    inputs |= {"eval-teacher": root / "eval-teacher"}
    score_stage.run(made("eval-init", inputs, "score", {"model": "init", **shared}, root))
    inputs |= {"eval-init": root / "eval-init"}
    step = made("eval", inputs, "eval", {**shared, "bootstrap": 200, "confidence": 0.9, **changes}, root)
    stage.run(step)
    return step


def made(label: str, inputs: dict[str, Path], stage: str, settings: dict[str, Any], root: Path) -> Step:
    resources = {"trainer": {"threads": 1}}
    return Step(label, stage, settings_of(stage, **settings), resources, inputs, root / label, "f", 0)


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Step:
    """A finished eval step; teacher and student have different tokenizers."""
    models = {"teacher/model": (300, 0), "init/model": (270, 1), "release": (270, 2)}
    return evaluated(tmp_path_factory.mktemp("eval"), models)


@pytest.fixture(scope="module")
def related(tmp_path_factory: pytest.TempPathFactory) -> Step:
    """The same with one tokenizer, and with the validation records scored."""
    models = {"teacher/model": (270, 0), "init/model": (270, 1), "release": (270, 2)}
    return evaluated(tmp_path_factory.mktemp("related"), models, validation=True)


def result(step: Step) -> dict[str, Any]:
    return json.loads((step.out / "eval.json").read_text())


def lines(step: Step, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (step.out / name).read_text().splitlines()]


def per_item(step: Step, model: str, metric: str, suite: str = "heldout") -> dict[str, tuple[float, float]]:
    """Item → a model's numerator and denominator of a metric."""
    return {item["id"]: tuple(item["models"][model][metric]) for item in lines(step, f"{suite}/items.jsonl")}


def bits_rows(step: Step) -> list[dict[str, Any]]:
    """Bits per byte of the held-out answers, all slices."""
    return [r for r in result(step)["rows"] if r["metric"] == "bits_per_byte" and r["task"].startswith("heldout")]


@pytest.mark.parametrize(("model", "size"), [("teacher", (300, 0)), ("init", (270, 1)), ("student", (270, 2))])
def test_each_model_is_scored_with_its_own_weights_and_tokenizer(step: Step, model: str, size: tuple[int, int]) -> None:
    network, renderer = tiny(*size)
    expected = [reference_bits(network, renderer, str(r.prompt), r.teacher_text) for r in HELDOUT]
    (row,) = [r for r in bits_rows(step) if (r["model"], r["task"]) == (model, "heldout")]
    assert row["value"] == pytest.approx(sum(b for b, _ in expected) / sum(n for _, n in expected), rel=1e-5)
    assert (row["metric"], row["n"], row["seed"], row["harness"]) == ("bits_per_byte", 8, 7, "dante")


def test_counting_models_are_asked_for_the_students_tokens(step: Step) -> None:
    for item in lines(step, "heldout/items.jsonl"):
        assert {"unigram", "trigram"} <= item["models"].keys()
        assert item["models"]["teacher"]["top1_accuracy"][1] != item["models"]["student"]["top1_accuracy"][1]  # tokens
    value = {r["model"]: r["value"] for r in bits_rows(step) if r["task"] == "heldout"}
    # The text is random words: counting beats random networks, and a trigram spells them better than a unigram.
    assert value["trigram"] < value["unigram"] < value["student"]


def test_counting_models_have_counted_the_train_answers_and_no_others(step: Step) -> None:
    """Neither the held-out answers, which they are asked for, nor those of the validation split."""
    _, renderer = tiny(270, 2)
    vocab, end = len(renderer.tokenizer), renderer.end_of_turn_id

    def counted(records: list[Record]) -> list[Ngrams]:
        """Each record's answer and end-of-turn token after the tokens of the prompt, from text alone."""
        found = []
        for one in records:
            before = renderer.prompt_ids(one.prompt)
            answer = [*renderer.tokenizer(one.teacher_text, add_special_tokens=False)["input_ids"], end]
            found.append(collect([(before + answer, [False] * len(before) + [True] * len(answer))], vocab))
        return found

    def together(parts: list[Ngrams]) -> Ngrams:
        return Ngrams(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    for name, model in {"unigram": Unigram, "trigram": Trigram}.items():
        fitted = model(together(counted(TRAIN)), vocab)
        for one, asked in zip(HELDOUT, counted(HELDOUT), strict=True):
            bits, _ = per_item(step, name, "bits_per_byte")[one.id]
            assert bits == pytest.approx(-fitted.log_p(asked).sum() / np.log(2)), (name, one.id)


def test_rows_pairs_and_items_agree(step: Step) -> None:
    items, found = lines(step, "heldout/items.jsonl"), result(step)
    by_id = {record.id: record for record in HELDOUT}
    assert {item["id"] for item in items} == by_id.keys()
    for row in bits_rows(step):
        _, _, condition = row["task"].partition("/")
        field, _, value = condition.partition("=")
        chosen = [item for item in items if not field or getattr(by_id[item["id"]], field) == value]
        parts = [item["models"][row["model"]]["bits_per_byte"] for item in chosen]
        total = sum(bits for bits, _ in parts) / sum(size for _, size in parts)
        assert row["value"] == pytest.approx(total)
        assert row["n"] == len(chosen)
    values = {(r["model"], r["task"], r["metric"]): r["value"] for r in found["rows"]}
    for pair in found["pairs"]:
        key = pair["task"], pair["metric"]
        gap = values[pair["a"], *key] - values[pair["b"], *key]
        assert pair["difference"] == pytest.approx(gap)
        assert pair["low"] <= pair["difference"] <= pair["high"]
    everything = {(p["a"], p["b"]) for p in found["pairs"] if p["task"] == "heldout"}
    assert {("student", "init"), ("student", "teacher"), ("student", "trigram"), ("student", "unigram")} <= everything


def test_answers_stand_side_by_side(step: Step) -> None:
    rows = lines(step, "generations.jsonl")
    assert len(rows) == 4
    assert {row["domain"] for row in rows} == {"chat", "code", "maths"}
    network, renderer = tiny(270, 2)
    for row in rows:
        assert set(row["answers"]) == {"teacher", "init", "student"}
        alone = one_by_one(network, renderer.prompt_ids(row["prompt"]), 6, renderer.end_of_turn_id)
        student = row["answers"]["student"]
        assert student["tokens"] == len(alone)
        assert student["stopped"] == (alone[-1] == renderer.end_of_turn_id)
    shares = {r["model"]: r for r in result(step)["rows"] if r["metric"] == "stop_share"}
    assert shares["student"]["n"] == 4
    assert shares["student"]["value"] == np.mean([row["answers"]["student"]["stopped"] for row in rows])


def test_a_teacher_that_did_not_write_the_cache_answers_itself(tmp_path: Path) -> None:
    models = {"teacher/model": (300, 0), "init/model": (270, 1), "release": (270, 2)}
    cheap = {"choices": 0, "retention": False, "heldout": 8}
    step = evaluated(tmp_path, models, cheap, writer="another", asked=3)
    rows = lines(step, "generations.jsonl")
    texts = {record.id: record.teacher_text for record in HELDOUT}
    assert [row["answers"]["cache"]["text"] for row in rows] == [texts[row["id"]] for row in rows]
    everybody = {"cache", "init", "student"}
    assert [set(row["answers"]) for row in rows] == [everybody | {"teacher"}] * 3 + [everybody]
    assert all(row["answers"]["teacher"]["tokens"] for row in rows[:3])
    (pair,) = [p for p in result(step)["pairs"] if (p["task"], p["metric"]) == ("generation", "stop_share")]
    assert (pair["a"], pair["b"], pair["n"]) == ("student", "teacher", 3)


@torch.no_grad()
def one_by_one(model: LlamaForCausalLM, ids: list[int], limit: int, end: int) -> list[int]:
    """Greedy decoding without a batch, padding or a cache."""
    new: list[int] = []
    while len(new) < limit and end not in new:
        new.append(int(model(input_ids=torch.tensor([ids + new]), use_cache=False).logits[0, -1].argmax()))
    return new


def test_the_length_of_answers_is_told_in_units_of_the_teachers(step: Step) -> None:
    rows = lines(step, "generations.jsonl")
    answers = {
        name: sum(len(row["answers"][name]["text"].encode()) for row in rows) for name in ("teacher", "init", "student")
    }
    teacher = answers.pop("teacher")
    found = {r["model"]: r["value"] for r in result(step)["rows"] if r["metric"] == "length_ratio"}
    assert found == {name: pytest.approx(written / teacher) for name, written in answers.items()}


def test_precision_and_number_of_records_are_those_of_the_settings(step: Step, tmp_path: Path) -> None:
    models = {"teacher/model": (300, 0), "init/model": (270, 1), "release": (270, 2)}
    fewer = {"precision": "bf16", "heldout": 5, "retention": False, "choices": 0, "generations": 0}
    rounded = evaluated(tmp_path, models, fewer)
    assert load_file(rounded.inputs["eval-teacher"] / "heldout" / HIDDEN)["hidden"].dtype == torch.bfloat16
    for model in ("teacher", "init", "student", "trigram"):
        exact, items = per_item(step, model, "bits_per_byte"), per_item(rounded, model, "bits_per_byte")
        assert len(items) == 5
        for identity, (bits, _) in items.items():
            counted = model == "trigram"  # counting has no precision
            assert (bits == exact[identity][0]) is counted
            assert bits == pytest.approx(exact[identity][0], rel=0.05)


def test_variables_of_the_chat_template_reach_what_is_scored(tmp_path: Path) -> None:
    model, renderer = tiny(270, 1)
    words = renderer.tokenizer
    words.chat_template = "{{ greeting | default('') }}" + str(words.chat_template)
    for part in (model, words):
        part.save_pretrained(tmp_path / "model")
    CacheWriter(tmp_path / "cache").add(TRAIN + HELDOUT).seal()
    hashes = []
    for index, chat in enumerate(({}, {"greeting": "ab "}, {"greeting": "ab "})):
        subject = Subject("init", tmp_path / "model", 0, tmp_path / "cache", "fp32", 2, 0, chat, tmp_path)
        measure(subject, [Heldout(5, False, 3)], tmp_path / str(index), 1)
        said = json.loads((tmp_path / str(index) / "heldout" / "suite.json").read_text())
        hashes.append(said["details"]["tokens_sha256"])
    assert hashes[0] != hashes[1] == hashes[2]


def test_a_batch_of_prompts_is_answered_like_each_prompt_alone() -> None:
    model, renderer = tiny(270, 4)
    prompts = ["a", "Zwölf Boxkämpfer jagen", "Perché?"]
    expected = [one_by_one(model, renderer.prompt_ids(p), 12, renderer.end_of_turn_id) for p in prompts]
    answers = greedy(model, renderer, prompts, 12, LOOP)
    for answer, ids in zip(answers, expected, strict=True):
        kept = [i for i in ids if i != renderer.end_of_turn_id]
        assert answer.text == renderer.tokenizer.decode(kept)
        assert answer.tokens == len(ids)


def test_a_turn_that_ends_is_cut_there_and_counted() -> None:
    model, renderer = tiny(270, 0)
    end = renderer.end_of_turn_id
    ids = [renderer.prompt_ids("a")]
    torch.nn.init.zeros_(model.lm_head.weight)
    model.lm_head.weight.data[end] = model.model(input_ids=torch.tensor(ids)).last_hidden_state[0, -1].detach()
    (answer,) = greedy(model, renderer, ["a"], 5, LOOP)
    assert (answer.text, answer.tokens, answer.stopped, answer.looped) == ("", 1, True, False)


def test_an_answer_that_loops_is_ended_and_said_to_loop() -> None:
    """The model says one token for ever: five times three of them are a loop, whatever the limit."""
    model, renderer = tiny(270, 0)
    torch.nn.init.zeros_(model.lm_head.weight)
    letter = renderer.tokenizer("a")["input_ids"][0]
    model.lm_head.weight.data[letter] = 1.0
    model.model.norm.weight.data.fill_(0.0)
    model.model.norm.weight.data[0] = 1.0
    states = model.model(input_ids=torch.tensor([renderer.prompt_ids("a")])).last_hidden_state
    model.lm_head.weight.data *= torch.sign(states[0, -1, 0]).item()
    short, other = greedy(model, renderer, ["a", "a longer prompt"], 200, LOOP)
    for answer in (short, other):
        if set(answer.text) == {"a"}:
            assert (answer.text, answer.tokens, answer.stopped, answer.looped) == ("a" * 15, 15, False, True)
    assert short.looped


def test_padding_behind_a_loop_is_no_end_of_turn() -> None:
    """A row that was ended for looping is padded with the end-of-turn token while the others go on."""
    _, renderer = tiny(270, 0)
    end = renderer.end_of_turn_id
    padded = _generation([5] * 15 + [end, end], renderer, LOOP)
    assert (padded.tokens, padded.stopped, padded.looped) == (15, False, True)
    ended = _generation([5] * 14 + [end, end], renderer, LOOP)
    assert (ended.tokens, ended.stopped, ended.looped) == (15, True, False)


def test_repetition_is_the_share_of_four_grams_seen_before() -> None:
    assert repetition([1, 2, 3]) == 0
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([1, 2, 3, 4] * 2) == pytest.approx(1 / 5)
    assert repetition([7] * 103) == pytest.approx(99 / 100)


def test_prompts_are_the_same_for_every_run_and_spread_over_domains() -> None:
    chosen = choose(HELDOUT, 3)
    assert [r.id for r in chosen] == [r.id for r in choose(list(reversed(HELDOUT)), 3)]
    assert {r.domain for r in chosen} == {"chat", "code", "maths"}


def test_fewer_heldout_records_are_a_prefix_that_does_not_depend_on_order() -> None:
    few = select(HELDOUT, 3)
    assert few == select(list(reversed(HELDOUT)), 8)[:3]


def changed(step: Step, out: Path, **inputs: Path) -> Step:
    return Step(**{**vars(step), "inputs": step.inputs | inputs, "out": out})


def test_a_teacher_that_is_not_here_leaves_a_note_instead_of_a_row(step: Step, tmp_path: Path) -> None:
    handle = json.loads((step.inputs["teacher"] / "teacher.json").read_text())
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "teacher.json").write_text(json.dumps(handle | {"local": False, "model": "org/huge"}))
    inputs = {**step.inputs, "teacher": tmp_path / "teacher"}
    score_stage.run(made("eval-teacher", inputs, "score", {"model": "teacher", **MEASURE}, tmp_path))
    inputs["eval-teacher"] = tmp_path / "eval-teacher"
    remote = Step(**{**vars(step), "inputs": inputs, "out": tmp_path / "eval"})
    stage.run(remote)
    assert "teacher" not in {row["model"] for row in result(remote)["rows"]}
    assert "big" in result(remote)["notes"][0]


def test_models_of_one_vocabulary_are_compared_token_by_token(related: Step, step: Step) -> None:
    metrics = {(r["model"], r["metric"]) for r in result(related)["rows"] if r["task"] == "heldout"}
    compared = {(m, k) for m in ("init", "student") for k in ("kl_nats", "teacher_agreement")}
    assert compared <= metrics
    assert not compared & {(r["model"], r["metric"]) for r in result(step)["rows"]}
    assert "different vocabularies" in result(step)["notes"][0]
    (teacher, renderer), (student, _) = tiny(270, 0), tiny(270, 2)
    record = HELDOUT[0]
    item = renderer.render(record.prompt, record.teacher_text)
    with torch.no_grad():
        log_p, log_q = (
            m(input_ids=torch.tensor([item.input_ids])).logits[0].double().log_softmax(-1) for m in (teacher, student)
        )
    places = [i - 1 for i, target in enumerate(item.supervised) if target]
    kl = float((log_p.exp() * (log_p - log_q)).sum(-1)[places].sum())
    assert per_item(related, "student", "kl_nats")[record.id][0] == pytest.approx(kl, rel=1e-4)
    agreed = int((log_p.argmax(-1) == log_q.argmax(-1))[places].sum())
    assert per_item(related, "student", "teacher_agreement")[record.id] == (agreed, len(places))


def test_entropy_is_a_row_an_item_a_pair_and_a_distribution_of_every_model(step: Step) -> None:
    found = result(step)
    entropy = {model: said["entropy"] for model, said in found["details"]["heldout"].items()}
    values = {r["model"]: r["value"] for r in found["rows"] if (r["task"], r["metric"]) == ("heldout", "entropy_nats")}
    hits = {r["model"]: r["value"] for r in found["rows"] if (r["task"], r["metric"]) == ("heldout", "top1_accuracy")}
    assert values.keys() == entropy.keys() == {"teacher", "init", "student"}
    for model, value in values.items():
        parts = per_item(step, model, "entropy_nats").values()
        tokens = sum(count for _, count in parts)
        assert value == pytest.approx(sum(nats for nats, _ in parts) / tokens)
        spread = entropy[model]
        right, wrong = np.array(spread["right"]), np.array(spread["wrong"])
        assert right.sum() == pytest.approx(hits[model] * tokens)
        assert (right + wrong).sum() == tokens
        # The mean lies between what the bins' lower and upper edges give, in units of log V.
        edges, share = np.array(spread["edges"]), (right + wrong) / tokens
        assert share @ edges[:-1] <= value / np.log({"teacher": 300}.get(model, 270)) <= share @ edges[1:]
    assert ("student", "init", "entropy_nats") in {(p["a"], p["b"], p["metric"]) for p in found["pairs"]}


def test_retention_is_measured_of_every_model_and_by_slice(step: Step) -> None:
    found = {(r["model"], r["task"]) for r in result(step)["rows"] if r["task"].startswith("retention")}
    for task in ("retention", "retention/language", "retention/code", "retention/language=it", "retention/code=c"):
        assert {("teacher", task), ("init", task), ("student", task)} <= found
    texts = per_item(step, "student", "bits_per_byte", "retention").values()
    total = sum(bits for bits, _ in texts) / sum(size for _, size in texts)
    (row,) = [r for r in result(step)["rows"] if (r["model"], r["task"]) == ("student", "retention")]
    assert row["value"] == pytest.approx(total)
    assert {"retention", "retention/code=rust"} <= {p["task"] for p in result(step)["pairs"]}


def test_validation_records_are_scored_apart(related: Step, step: Step) -> None:
    scored = lines(related, "student/heldout/validation.jsonl")
    assert {line["id"] for line in scored} == {f"train-{index}" for index in range(50, 53)}
    assert not (step.out / "student" / "heldout" / "validation.jsonl").exists()


def test_a_cache_without_heldout_records_is_refused(step: Step, tmp_path: Path) -> None:
    CacheWriter(tmp_path / "cache").add([record(1, "train")]).seal()
    with pytest.raises(DanteError, match="heldout"):
        stage.run(changed(step, tmp_path / "eval.partial", cache=tmp_path / "cache"))


def test_unknown_precision_is_refused(step: Step, tmp_path: Path) -> None:
    settings = step.settings.model_copy(update={"precision": "fp8"})
    odd = Step(**{**vars(step), "settings": settings, "out": tmp_path / "e"})
    with pytest.raises(DanteError, match="fp8"):
        stage.run(odd)


def test_repeated_runs_write_the_same(step: Step, tmp_path: Path) -> None:
    again = changed(step, tmp_path / "eval.partial")
    stage.run(again)
    for name in (
        "heldout/items.jsonl",
        "retention/items.jsonl",
        "generations.jsonl",
        "student/continuation/choices.jsonl",
    ):
        assert (again.out / name).read_bytes() == (step.out / name).read_bytes()
    # The command names the model's folder as it lies beside the step.
    assert {**result(again), "commands": None} == {**result(step), "commands": None}
