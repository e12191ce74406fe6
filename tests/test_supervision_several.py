"""Several teachers, by a field of the records or averaged: against each teacher run alone on each record alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from dante.cache import Record, read_records
from dante.data.batch import MicroBatch, assemble
from dante.data.curriculum import Shuffled
from dante.data.datamodule import DistillData
from dante.data.table import rows
from dante.errors import DanteError
from dante.losses.base import Loss
from dante.losses.distillation.divergences import ForwardKL
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.distillation.topk_tail import TopKTail
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SparseTargets, SupervisedTokens, TeacherLogits, TeacherSide
from dante.losses.vocabulary.head import Head
from dante.run import pipeline
from dante.supervision.asked import Asked, LiveTeacher
from dante.supervision.mixture import mixed
from dante.supervision.provided import live_teacher_for, resident_inputs, scoring_inputs, supervision_for
from dante.supervision.several import LiveAveraged, LiveByField, SparseAveraged, SparseByField
from dante.text.chat import ChatRenderer
from dante.text.raw import RawRenderer
from dante.text.rendering import Renderer
from dante.text.tokenizer import load_tokenizer
from dante.text.tokens.vocabularies import difference
from tests import reference_divergences as reference
from tests.bad_server import BadServer
from tests.scoring_server import Scores
from tests.test_config import ROOT, composed

K = 20
LARGE = "fit.batch.size=16"  # records of every domain in one step
TWO = ("+experiment=chat_kd", "recipe=two_teachers", "+steps.teacher-code.changes.make.seed=1", "scale=smoke")
LIVE, SPARSE = "supervision.teacher_logits", "supervision.sparse"


def run(run_dir: Path, *overrides: str) -> Path:
    return pipeline.run(composed(*TWO, "logger=none", "fit.steps=3", f"run.dir={run_dir}", *overrides))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The steps before a fit, with two smoke teachers of different seeds."""
    return run(tmp_path_factory.mktemp("runs") / "made", "only=[teacher,teacher-code,cache,init]")


@pytest.fixture(scope="module")
def renderer(made: Path) -> ChatRenderer:
    return ChatRenderer(load_tokenizer(made / "init" / "model"))


@pytest.fixture(scope="module")
def asked(made: Path, renderer: ChatRenderer) -> Asked:
    inputs = {name: made / name for name in ("teacher", "teacher-code", "cache", "init")}
    return Asked(inputs, renderer, {"accelerator": "cpu"}, "topk_tail")


@pytest.fixture(scope="module")
def records(made: Path) -> list[Record]:
    """Two of code, which are not neighbours, among others."""
    found = read_records(made / "cache", "train")
    code = [record for record in found if record.domain == "code"][:2]
    others = [record for record in found if record.domain != "code"][:3]
    return [others[0], code[0], others[1], others[2], code[1]]


@pytest.fixture(scope="module")
def row(records: list[Record], renderer: ChatRenderer) -> MicroBatch:
    return assemble([as_arrays(row) for row in rows(records, renderer)])


def as_arrays(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "input_ids": np.asarray(row["input_ids"]), "supervised": np.asarray(row["supervised"])}


@pytest.fixture(scope="module")
def alone(made: Path, records: list[Record], renderer: ChatRenderer) -> dict[str, list[Tensor]]:
    return said_alone(made, records, renderer)


def said_alone(made: Path, records: list[Record], renderer: Renderer) -> dict[str, list[Tensor]]:
    """Log-probabilities of each teacher for each record alone, at its supervised tokens, by transformers itself."""
    said: dict[str, list[Tensor]] = {}
    for name in ("teacher", "teacher-code"):
        model = AutoModelForCausalLM.from_pretrained(made / name / "model").eval()
        said[name] = []
        for record in records:
            rendered = renderer.render(record.prompt, record.teacher_text)
            with torch.no_grad():
                logits = model(torch.tensor([rendered.input_ids])).logits[0].double()
            said[name].append(logits.log_softmax(-1)[np.flatnonzero(rendered.supervised) - 1])
    return said


def chosen(records: list[Record], alone: dict[str, list[Tensor]]) -> Tensor:
    """What each record's own teacher says, token by token."""
    names = ["teacher-code" if record.domain == "code" else "teacher" for record in records]
    return torch.cat([alone[name][number] for number, name in enumerate(names)])


def live(choice: str, asked: Asked, *overrides: str) -> LiveTeacher:
    node = composed(*TWO, f"supervision/teacher_logits={choice}", "trainer.precision=fp32", *overrides)["supervision"]
    teacher = live_teacher_for(node, [distillation()], asked)
    assert teacher is not None
    teacher.place(torch.device("cpu"), None)
    return teacher


def distillation() -> Loss:
    return LogitDistillation(Constant(1.0), ForwardKL(), 1.0, name="kl")


def whole(logits: TeacherLogits, tokens: int, tile: int) -> Tensor:
    """Log-probabilities, written tile by tile."""
    out = torch.empty(tokens, logits.vocabulary)
    for start in range(0, tokens, tile):
        part = slice(start, min(start + tile, tokens))
        logits.write(part, out[part])
    return out.double().log_softmax(-1)


def test_both_smoke_teachers_share_a_tokenizer_and_no_weights(made: Path) -> None:
    one, other = (load_tokenizer(made / name / "model") for name in ("teacher", "teacher-code"))
    assert difference(one, other) is None
    hashes = {json.loads((made / name / "teacher.json").read_text())["sha256"] for name in ("teacher", "teacher-code")}
    assert len(hashes) == 2


# --- live ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [3, 1000])
def test_by_field_every_record_has_its_own_teacher(
    tile: int, asked: Asked, records: list[Record], row: MicroBatch, alone: dict[str, list[Tensor]]
) -> None:
    teacher = live("by_field", asked)
    said = whole(teacher.logits(row, row.record_ids), len(row.labels), tile)
    torch.testing.assert_close(said, chosen(records, alone), rtol=1e-4, atol=1e-4)


def test_a_document_s_first_token_belongs_to_its_teacher_too(
    asked: Asked, made: Path, records: list[Record], renderer: ChatRenderer
) -> None:
    """Plain text is supervised from its second token on, which the first one predicts."""
    raw = RawRenderer(renderer.tokenizer)
    row = assemble([as_arrays(one) for one in rows(records, raw)])
    assert 0 in row.positions
    said = whole(live("by_field", asked).logits(row, row.record_ids), len(row.labels), 50)
    torch.testing.assert_close(said, chosen(records, said_alone(made, records, raw)), rtol=1e-4, atol=1e-4)


def test_losses_by_field_are_those_of_each_record_with_its_own_teacher(
    asked: Asked, records: list[Record], row: MicroBatch, alone: dict[str, list[Tensor]]
) -> None:
    draw = torch.Generator().manual_seed(3)
    hidden = torch.randn(len(row.labels), 8, generator=draw).requires_grad_()
    weight = torch.randn(512, 8, generator=draw)
    side = TeacherSide(maybe_logits=live("by_field", asked).logits(row, row.record_ids))
    tokens = SupervisedTokens(row.labels, row.record, row.fields, len(row.labels), len(records), side)
    loss: Any = distillation()
    found = vocabulary_pass(hidden, Head(weight), [loss], {"kl": 1.0}, tokens, torch.float32, 16).values["kl"]
    student = (hidden @ weight.T).detach().double().numpy()
    expected = reference.forward_kl(chosen(records, alone).numpy(), student)
    for number in range(len(records)):
        mine = (row.record == number).numpy()
        assert found.numpy()[mine].mean() == pytest.approx(expected[mine].mean(), rel=1e-4)


def test_the_average_is_the_mixture_of_distributions(
    asked: Asked, row: MicroBatch, alone: dict[str, list[Tensor]]
) -> None:
    teacher = live("averaged", asked, f"{LIVE}.weights.code=3")
    said = whole(teacher.logits(row, row.record_ids), len(row.labels), 7)
    mixture = 0.25 * torch.cat(alone["teacher"]).exp() + 0.75 * torch.cat(alone["teacher-code"]).exp()
    torch.testing.assert_close(said.exp(), mixture, rtol=1e-4, atol=1e-6)


def test_every_teacher_runs_for_every_row_also_without_a_document_of_its_own(
    asked: Asked, records: list[Record], renderer: ChatRenderer, alone: dict[str, list[Tensor]]
) -> None:
    """Spread weights are gathered by all ranks together: one that left a teacher out would leave the others waiting."""
    teacher: Any = live("by_field", asked)
    ran: list[str] = []
    for name, one in teacher.teachers.items():
        one.network.register_forward_hook(lambda *_, name=name: ran.append(name))
    no_code = [number for number, record in enumerate(records) if record.domain != "code"]
    row = assemble([as_arrays(r) for r in rows([records[number] for number in no_code], renderer)])
    said = whole(teacher.logits(row, row.record_ids), len(row.labels), 1000)
    assert sorted(ran) == ["*", "code"]
    torch.testing.assert_close(said, torch.cat([alone["teacher"][n] for n in no_code]), rtol=1e-4, atol=1e-4)
    empty = assemble([])
    assert whole(teacher.logits(empty, []), 0, 1).shape == (0, 512)
    assert sorted(ran) == ["*", "*", "code", "code"]


# --- sparse ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers(made: Path) -> Iterator[tuple[BadServer, BadServer]]:
    """Of the run's teacher, and of the second one."""
    with BadServer(Scores(made / "teacher")) as one, BadServer(Scores(made / "teacher-code")) as other:
        yield one, other


def words(choice: str, servers: tuple[BadServer, BadServer]) -> list[str]:
    """What is typed; '*' is no word of a command line, so its server's address is that of the file."""
    first = f"{SPARSE}.teachers.chat.engine.base_url={servers[0].url}"
    return [
        "loss=[topk_tail]", f"supervision/sparse={choice}", f"{SPARSE}.teachers.code.engine.base_url={servers[1].url}",
        f"{SPARSE}.teachers.code.size={K}",
        *([first, f"{SPARSE}.teachers.chat.size={K}"] if choice == "averaged" else []),
    ]  # fmt: skip


def sparse_parts(choice: str, servers: tuple[BadServer, BadServer]) -> dict[str, Any]:
    parts: dict[str, Any] = composed(*TWO, *words(choice, servers))["supervision"]
    if choice == "by_field":
        other = parts["sparse"]["teachers"]["*"]
        other["engine"]["base_url"], other["size"] = servers[0].url, K
    return parts


def test_sparse_targets_by_field_are_each_teacher_s_own(
    asked: Asked, records: list[Record], row: MicroBatch, alone: dict[str, list[Tensor]], servers: Any
) -> None:
    before = [len(server.asked) for server in servers]
    supervision = supervision_for(sparse_parts("by_field", servers), [TopKTail(Constant(1.0))], asked)
    supervision.expect(row.record_ids)
    found = supervision.of(row.record_ids, [len(said) for said in alone["teacher"]]).sparse
    supervision.close()
    best = chosen(records, alone).exp().topk(K)
    assert torch.equal(found.ids, best.indices.sort(1).values)
    torch.testing.assert_close(
        found.probabilities.double(), chosen(records, alone).exp().gather(1, found.ids), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(found.tail.double(), 1 - best.values.sum(1), rtol=1e-3, atol=1e-5)
    asked_of = [len(server.asked) - count for server, count in zip(servers, before, strict=True)]
    assert asked_of == [3 + 1, 2 + 1]  # its own records, and the question before the first step


def test_averaged_sparse_targets_are_the_mixture_within_the_bound(
    asked: Asked, row: MicroBatch, alone: dict[str, list[Tensor]], servers: Any
) -> None:
    supervision = supervision_for(sparse_parts("averaged", servers), [TopKTail(Constant(1.0))], asked)
    found = supervision.of(row.record_ids, [len(said) for said in alone["teacher"]]).sparse
    supervision.close()
    p = [torch.cat(alone[name]).exp() for name in ("teacher", "teacher-code")]
    best = [one.topk(K) for one in p]
    kept = [
        torch.zeros_like(one, dtype=torch.bool).scatter(1, top.indices, True) for one, top in zip(p, best, strict=True)
    ]
    there = found.ids >= 0
    assert torch.equal(there.sum(1), (kept[0] | kept[1]).sum(1))
    dense = torch.zeros_like(p[0]).scatter_add(1, found.ids.clamp_min(0), found.probabilities.double() * there)
    torch.testing.assert_close(dense, sum(0.5 * one * k for one, k in zip(p, kept, strict=True)), rtol=1e-4, atol=1e-6)
    tails = [1 - top.values.sum(1) for top in best]
    torch.testing.assert_close(found.tail.double(), 0.5 * (tails[0] + tails[1]), rtol=1e-3, atol=1e-5)
    short = (0.5 * (p[0] + p[1]) - dense) * (dense > 0)
    bound = sum(0.5 * torch.minimum(tail, top.values[:, -1]) for tail, top in zip(tails, best, strict=True))
    assert (short >= -1e-6).all()
    assert (short.max(1).values <= bound + 1e-6).all()
    assert short.max() > 1e-6  # there is something to bound


def one_by_one(targets: list[SparseTargets], shares: list[float]) -> list[tuple[dict[int, float], float]]:
    """The mixture, token by token and id by id."""
    mixtures = []
    for token in range(len(targets[0].tail)):
        mass: dict[int, float] = {}
        for one, share in zip(targets, shares, strict=True):
            for identity, probability in zip(one.ids[token].tolist(), one.probabilities[token].tolist(), strict=True):
                if identity >= 0:
                    mass[identity] = mass.get(identity, 0.0) + share * probability
        mixtures.append((mass, sum(s * float(one.tail[token]) for one, s in zip(targets, shares, strict=True))))
    return mixtures


@pytest.mark.parametrize("drawn", [False, True])
def test_the_mixture_of_sparse_targets_is_that_of_their_ids(drawn: bool) -> None:
    draw = np.random.default_rng(1)
    targets = []
    for width in (4, 7, 1):
        ids = np.stack([draw.choice(9, size=width, replace=False) for _ in range(30)])
        mass = draw.dirichlet(np.ones(width + 1), size=30)
        if width > 1:
            ids[::3, -2:], mass[::3, -3:-1] = -1, 0.0
        tail = np.zeros(30) if drawn else mass[:, -1]
        targets.append(SparseTargets(*(torch.from_numpy(a) for a in (ids, mass[:, :-1], tail))))
    shares = [0.5, 0.3, 0.2]
    found = mixed(targets, shares)
    for token, (mass, tail) in enumerate(one_by_one(targets, shares)):
        ids = found.ids[token][found.ids[token] >= 0]
        assert ids.tolist() == sorted(mass)
        probabilities = found.probabilities[token]
        np.testing.assert_allclose(probabilities[: len(ids)].numpy(), [mass[i] for i in sorted(mass)], rtol=1e-12)
        assert not probabilities[len(ids) :].any()
        assert float(found.tail[token]) == pytest.approx(tail, rel=1e-12)
    assert found.ids.shape[1] == max(len(mass) for mass, _ in one_by_one(targets, shares))


def test_no_tokens_make_no_targets() -> None:
    nothing = SparseTargets(torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, 0), torch.zeros(0))
    assert mixed([nothing, nothing], [0.5, 0.5]).ids.shape == (0, 0)


# --- whole fits ------------------------------------------------------------------------------------------------------


def first_batch(made: Path, renderer: ChatRenderer, tmp_path: Path) -> set[str]:
    """Record ids of the first step."""
    cfg = composed(*TWO, LARGE)
    fit = cfg["fit"]
    data = DistillData(
        made / "cache", renderer, tmp_path / "tokens", curriculum=Shuffled(), steps=3, batch=fit["batch"],
        max_tokens=fit["max_tokens"], accumulate=fit["accumulate"], overlong=fit["overlong"], seed=cfg["seed"],
        rank=0, world_size=1,
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    return {identity for micro in next(iter(data.train_dataloader())).micro_batches for identity in micro.record_ids}


@pytest.mark.parametrize("choice", ["by_field", "averaged"])
def test_a_fit_with_two_live_teachers(choice: str, made: Path, renderer: ChatRenderer, tmp_path: Path) -> None:
    """Its first loss is the one of the student before training, worked out from the models alone."""
    words = (f"supervision/teacher_logits={choice}", LARGE, "only=[teacher,teacher-code,cache,init,fit]")
    folder = run(made.parent / choice, *words)
    losses = [json.loads(line)["loss"] for line in (folder / "fit" / "metrics.jsonl").read_text().splitlines()]
    models = {
        name: AutoModelForCausalLM.from_pretrained(made / name / "model")
        for name in ("teacher", "teacher-code", "init")
    }
    wanted, values, used = first_batch(made, renderer, tmp_path), [], set()
    for record in read_records(made / "cache", "train"):
        if record.id not in wanted:
            continue
        rendered = renderer.render(record.prompt, record.teacher_text)
        at = np.flatnonzero(rendered.supervised) - 1
        with torch.no_grad():
            said = {n: m(torch.tensor([rendered.input_ids])).logits[0, at].double() for n, m in models.items()}
        p = said["teacher-code" if record.domain == "code" else "teacher"].softmax(-1)
        used.add(record.domain == "code")
        if choice == "averaged":
            p = 0.5 * (said["teacher"].softmax(-1) + said["teacher-code"].softmax(-1))
        values.append(reference.forward_kl(p.log().numpy(), said["init"].numpy()))
    assert losses[0] == pytest.approx(np.concatenate(values).mean(), rel=1e-3)
    assert len(losses) == 3
    assert used == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["by_field", "averaged"])
def test_two_sharded_processes_with_two_live_teachers_are_one(choice: str, tmp_path: Path) -> None:
    """Every rank gathers both teachers in every row, or one would wait for the other for good."""
    chosen_words = (f"supervision/teacher_logits={choice}", "only=[teacher,teacher-code,cache,init,fit]")
    one = run(tmp_path / "one" / "run", *chosen_words)
    words = [*TWO, *chosen_words, "logger=none", "fit.steps=3", f"run.dir={tmp_path}/two/run"]
    words += ["trainer.devices=2", "trainer.strategy=fsdp2", "trainer.timeout_s=60"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = (
        [json.loads(line)["loss"] for line in (folder / "fit" / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "two" / "run", one)
    )
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_fit_with_two_servers(made: Path, servers: tuple[BadServer, BadServer]) -> None:
    before = [len(server.asked) for server in servers]
    folder = run(made.parent / "served", *words("averaged", servers), "only=[teacher,teacher-code,cache,init,fit]")
    losses = [json.loads(line)["loss"] for line in (folder / "fit" / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 3
    assert all(np.isfinite(losses))
    draws = json.loads((folder / "fit" / "summary.json").read_text())["data"]["records"]
    assert [len(server.asked) - count for server, count in zip(servers, before, strict=True)] == [draws + 1] * 2


@pytest.mark.parametrize("need", ["teacher_logits", "sparse"])
@pytest.mark.parametrize("choice", ["by_field", "averaged"])
def test_the_plan_knows_both_teachers(need: str, choice: str) -> None:
    losses: list[Loss] = [distillation() if need == "teacher_logits" else TopKTail(Constant(1.0))]
    kind = [] if need == "teacher_logits" else ["loss=[topk_tail]"]
    parts = composed(*TWO, *kind, f"supervision/{need}={choice}")["supervision"]
    assert sorted(scoring_inputs(parts, losses)) == ["teacher", "teacher-code"]
    assert sorted(resident_inputs(parts, losses)) == (["teacher", "teacher-code"] if need == "teacher_logits" else [])


# --- refusals --------------------------------------------------------------------------------------------------------


def test_values_without_a_teacher_are_named_and_the_fix_works(asked: Asked, made: Path) -> None:
    language = [f"{LIVE}.field=language", f"~{LIVE}.teachers.code"]
    node: Any = composed(*TWO, "supervision/teacher_logits=by_field")["supervision"]["teacher_logits"]
    code = node["teachers"]["code"]
    del node["teachers"]["*"]
    with pytest.raises(DanteError, match=r"have a domain without a teacher: dialogue, ") as caught:
        live_teacher_for({"teacher_logits": node}, [distillation()], asked)
    assert "code" not in caught.value.what.split(":")[1]
    typed = caught.value.fix.removeprefix("one for each: ").strip("'")
    assert typed == "+supervision.teacher_logits.teachers.dialogue=${supervision.teacher_logits.teachers.code}"
    fixed: Any = composed(*TWO, "supervision/teacher_logits=by_field", typed)["supervision"]["teacher_logits"]
    assert fixed["teachers"]["dialogue"] == code
    assert live("by_field", asked, *language).teachers.keys() == {"*"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "message", "fix"),
    [
        (["field=colour"], "no field 'colour'", "supervision.teacher_logits.field=domain"),
        (["weights.code=0"], "weight of the teacher 'code' is 0", f"{LIVE}.weights.code=1"),
        (["weights.code=-1"], "weight of the teacher 'code' is -1", f"{LIVE}.weights.code=1"),
        (["+weights.maths=1"], "maths, which names no teacher", f"~{LIVE}.weights.maths"),
        (["~weights.chat"], "chat without a weight", f"+{LIVE}.weights.chat=1"),
        (["teachers.code.step=teacher-cod"], "the fit has no input 'teacher-cod'", ""),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], message: str, fix: str, asked: Asked) -> None:
    choice = "by_field" if "field" in words[0] else "averaged"
    typed = [f"{word[0]}{LIVE}.{word[1:]}" if word[0] in "+~" else f"{LIVE}.{word}" for word in words]
    with pytest.raises(DanteError, match=message) as caught:
        live(choice, asked, *typed)
    if fix:
        assert caught.value.fix == fix
        live(choice, asked, *typed, fix)


@pytest.mark.parametrize("part", [LiveByField, SparseByField])
def test_no_teachers_are_no_teachers(part: Any) -> None:
    with pytest.raises(DanteError, match="no teacher is named"):
        part("domain", {})


@pytest.mark.parametrize("part", [LiveAveraged, SparseAveraged])
def test_an_average_of_nobody_is_refused(part: Any) -> None:
    with pytest.raises(DanteError, match="no teacher is named"):
        part({}, {})
