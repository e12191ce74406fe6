"""A server as live teacher: real log-probabilities over real sockets, asked for one step ahead."""

import copy
import json
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from dante.cache import read_records
from dante.data.curriculum import Shuffled
from dante.data.datamodule import DistillData
from dante.errors import DanteError
from dante.losses.base import Loss
from dante.losses.distillation.topk_renormalised import TopKRenormalised
from dante.losses.distillation.topk_tail import TopKTail
from dante.losses.schedule import Constant
from dante.run import pipeline
from dante.run.parts import build
from dante.supervision.asked import Asked
from dante.supervision.provided import Supervision, sparse_kind, supervision_for
from dante.text.chat import ChatRenderer
from dante.text.raw import RawRenderer
from dante.text.rendering import Renderer
from dante.text.tokenizer import load_tokenizer
from tests.bad_server import BadServer, Reply
from tests.scoring_server import Scores
from tests.test_config import composed

K, STEPS, SIZE = 20, 4, 3
ROUNDING = 2e-3  # of a loss on logits that were written in the form of the files
DEADLINE_S = 60.0
HANGS = Reply(delay_s=300.0)
Behave = Callable[[int, str, Any], Reply]


def smoke(run_dir: Path, *overrides: str) -> Path:
    fixed = ("scale=smoke", "logger=none", f"run.dir={run_dir}", f"fit.steps={STEPS}", "fit.batch.size=6")
    return pipeline.run(composed(*fixed, *overrides))


def served(url: str, *overrides: str) -> tuple[str, ...]:
    return (
        "+experiment=chat_kd", "loss=[topk_tail]", "supervision/sparse=server", f"supervision.sparse.size={K}",
        f"supervision.sparse.engine.base_url={url}", *overrides,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The steps before a fit, of a smoke run."""
    root = tmp_path_factory.mktemp("runs")
    return smoke(root / "made", "+experiment=chat_kd", "only=[teacher,cache,init]")


@pytest.fixture(scope="module")
def scores(made: Path) -> Scores:
    return Scores(made / "teacher")


@pytest.fixture
def renderer(made: Path) -> ChatRenderer:
    return ChatRenderer(load_tokenizer(made / "init" / "model"))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name in ("server requests", "expected")]


def asked_of(made: Path, renderer: Renderer, losses: list[Loss]) -> Asked:
    inputs = {name: made / name for name in ("teacher", "cache", "init")}
    return Asked(inputs, renderer, {}, sparse_kind(losses))


def opened(made: Path, renderer: Renderer, url: str, losses: list[Loss] | None = None, **engine: Any) -> Supervision:
    node: Any = composed("scale=smoke", *served(url))["supervision"]["sparse"]
    parts = {"sparse": {**node, "engine": {**node["engine"], "retries": 0, **engine}}}
    losses = losses or [TopKTail(Constant(1.0))]
    return supervision_for(parts, losses, asked_of(made, renderer, losses))


def data_of(made: Path, renderer: Renderer, supervision: Supervision, tmp_path: Path, **more: Any) -> DistillData:
    options: dict[str, Any] = {"rank": 0, "world_size": 1} | more
    data = DistillData(
        made / "cache", renderer, tmp_path / "tokens", curriculum=Shuffled(), steps=STEPS,
        batch={"unit": "records", "size": SIZE}, max_tokens=512, accumulate=None, overlong="error", seed=0,
        supervision=supervision, **options,
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    return data


def prompts_of(made: Path, renderer: Renderer, ids: list[str]) -> list[list[int]]:
    """What a server is to be asked for some records."""
    records = {record.id: record for record in read_records(made / "cache", "train")}
    rendered = [renderer.render(records[i].prompt, records[i].teacher_text) for i in ids]
    return [r.input_ids[: max(np.flatnonzero(r.supervised)) + 1] for r in rendered]


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


# --- values ----------------------------------------------------------------------------------------------------------


def test_a_fit_on_a_server_is_the_fit_on_files(made: Path, scores: Scores) -> None:
    """The same teacher, once behind a server and once in files: losses agree within the rounding of the files."""
    with BadServer(scores) as server:
        smoke(made.parent / "served", *served(server.url, "only=[teacher,cache,init,fit]"))
        asked = len(server.asked)
    kept = ("+experiment=cached_kd", "loss=[topk_tail]", "kept=topk_tail", f"kept.size={K}")
    smoke(made.parent / "files", *kept, "only=[teacher,cache,logits,init,fit]")
    ours, theirs = (
        [json.loads(line) for line in (made.parent / name / "fit" / "metrics.jsonl").read_text().splitlines()]
        for name in ("served", "files")
    )
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02, abs=ROUNDING)
        assert one["supervised_tokens"] == other["supervised_tokens"]
    assert ours[0]["loss"] > 5 * ROUNDING  # the smoke teacher, and so this loss, differs between kinds of CPU
    assert asked == STEPS * 6 + 1  # every draw once, and the question before the first step


@pytest.mark.parametrize("form", [ChatRenderer, RawRenderer])
def test_targets_are_the_teacher_s_own_largest_probabilities(
    form: type[Renderer], made: Path, scores: Scores, renderer: ChatRenderer
) -> None:
    rendering = form(renderer.tokenizer)
    ids = [record.id for record in read_records(made / "cache", "train")][:2]
    expected = []
    for prompt, record in zip(prompts_of(made, rendering, ids), read_records(made / "cache", "train"), strict=False):
        start = rendering.render(record.prompt, record.teacher_text).supervised.index(True)
        expected.append(scores.engine.full_logprobs(prompt, start).exp().double())
    wanted = torch.cat(expected)
    with BadServer(scores) as server:
        supervision = opened(made, rendering, server.url, [TopKRenormalised(Constant(1.0))])
        found = supervision.of(ids, [len(rows) for rows in expected]).sparse
        with pytest.raises(DanteError, match="and 99 are supervised"):
            supervision.of(ids[:1], [99])
        supervision.close()
    best = wanted.topk(K)
    torch.testing.assert_close(found.probabilities.double(), wanted.gather(1, found.ids), rtol=1e-5, atol=1e-7)
    assert torch.equal(found.ids, best.indices.sort(1).values)
    torch.testing.assert_close(found.tail.double(), 1 - best.values.sum(1), rtol=1e-4, atol=1e-6)


# --- ahead -----------------------------------------------------------------------------------------------------------


def test_the_next_step_is_asked_for_before_this_one_is_consumed_and_no_later_one(
    made: Path, scores: Scores, renderer: ChatRenderer, tmp_path: Path
) -> None:
    with BadServer(scores) as server:
        supervision = opened(made, renderer, server.url)
        data = data_of(made, renderer, supervision, tmp_path)
        assert data.plan is not None
        steps = iter(data.train_dataloader())
        for step in range(STEPS):
            before = time.monotonic()
            batch = next(steps)
            assert batch.step == step
            wanted = SIZE * min(step + 2, STEPS)
            assert until(lambda wanted=wanted: len(server.asked) == 1 + wanted)  # type: ignore[misc]
            time.sleep(0.1)
            assert len(server.asked) == 1 + wanted
            if step:  # all of it was under way before this batch was wanted
                mine = server.asked[1 + SIZE * step : 1 + SIZE * (step + 1)]
                assert max(seen.at_s for seen in mine) < before
                identities = [i for micro in batch.micro_batches for i in micro.record_ids]
                assert sorted(seen.body["prompt"] for seen in mine) == sorted(prompts_of(made, renderer, identities))
        supervision.close()


@pytest.mark.parametrize(("workers", "world_size"), [(1, 1), (2, 1), (2, 2)])
def test_workers_ranks_and_a_resumed_fit_see_the_same_and_ask_once(
    workers: int, world_size: int, made: Path, scores: Scores, renderer: ChatRenderer, tmp_path: Path
) -> None:
    with BadServer(scores) as server:
        alone = opened(made, renderer, server.url)
        whole = {b.step: b for b in data_of(made, renderer, alone, tmp_path).train_dataloader()}
        alone.close()
        tails = {i: m.teacher.sparse.tail for b in whole.values() for m in b.micro_batches for i in m.record_ids[:1]}
        for rank in range(world_size):
            before = len(server.asked)
            supervision = opened(made, renderer, server.url)
            data = data_of(
                made, renderer, supervision, tmp_path, workers=workers, start_step=1, rank=rank, world_size=world_size
            )
            seen = 0
            for batch in data.train_dataloader():
                for micro in batch.micro_batches:
                    seen += len(micro.record_ids)
                    assert len(micro.teacher.sparse.ids) == len(micro.labels)
                    if world_size == 1:
                        other = whole[batch.step].micro_batches[0]
                        torch.testing.assert_close(micro.teacher.sparse.tail, other.teacher.sparse.tail)
            supervision.close()
            assert len(server.asked) - before == 1 + seen
            if world_size == 1:
                assert seen == SIZE * (STEPS - 1)
        assert tails


@pytest.fixture
def started(method: str) -> Iterator[None]:
    """How workers are started."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_worker_opens_the_server_itself_also_behind_a_parent_that_has(
    method: str, started: None, made: Path, scores: Scores, renderer: ChatRenderer, tmp_path: Path
) -> None:
    with BadServer(scores) as server:
        supervision = opened(made, renderer, server.url)
        supervision.of([], [])  # so the parent has a thread of its own already
        data = data_of(made, renderer, supervision, tmp_path, workers=1, start_step=STEPS - 1)
        (batch,) = data.train_dataloader()
        supervision.close()
        assert sum(len(micro.teacher.sparse.ids) for micro in batch.micro_batches) == batch.supervised_tokens
        assert len(server.asked) == 1 + SIZE


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_server_ends_the_fit_with_the_engine_s_words(
    workers: int, made: Path, scores: Scores, renderer: ChatRenderer, tmp_path: Path
) -> None:
    def behave(number: int, path: str, body: Any) -> Reply:
        return scores(number, path, body) if number < 5 else Reply({"error": {"message": "out of memory"}}, 500)

    with BadServer(behave) as server:
        supervision = opened(made, renderer, server.url)
        data = data_of(made, renderer, supervision, tmp_path, workers=workers)
        with pytest.raises(DanteError, match="out of memory") as caught:
            list(data.train_dataloader())
        supervision.close()
    assert "Traceback" not in str(caught.value)
    assert "supervision.sparse.engine.retries" in caught.value.where


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_waits_for_a_server_that_hangs_when_the_fit_is_over(
    workers: int, made: Path, scores: Scores, renderer: ChatRenderer, tmp_path: Path
) -> None:
    def behave(number: int, path: str, body: Any) -> Reply:
        return scores(number, path, body) if number < 1 + SIZE else HANGS

    with BadServer(behave) as server:
        supervision = opened(made, renderer, server.url)
        data = data_of(made, renderer, supervision, tmp_path, workers=workers)
        steps = iter(data.train_dataloader())
        next(steps)
        assert until(lambda: server.under_way == SIZE)
        began = time.monotonic()
        del steps  # as an error that is raised does
        supervision.close()
        assert until(lambda: server.under_way == 0 and not multiprocessing.active_children())
        assert time.monotonic() - began < 15


def test_an_interrupted_fit_lets_go_of_the_server(made: Path, scores: Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit fails in its second step, while the third is under way."""
    from dante.fit import module

    taken = module.DistillModule.training_step

    def fails(self: Any, batch: Any, index: int) -> None:
        taken(self, batch, index)
        if batch.step == 1:
            raise KeyError("a mistake")

    def behave(number: int, path: str, body: Any) -> Reply:
        return scores(number, path, body) if number < 1 + 12 else HANGS

    monkeypatch.setattr(module.DistillModule, "training_step", fails)
    with BadServer(behave) as server:
        began = time.monotonic()
        with pytest.raises(Exception, match="'fit' failed"):
            smoke(made.parent / "broken", *served(server.url, "only=[teacher,cache,init,fit]"))
        assert until(lambda: server.under_way == 0)
        assert time.monotonic() - began < DEADLINE_S


def test_fewer_log_probabilities_than_wanted_are_refused_before_the_first_step(
    made: Path, renderer: ChatRenderer
) -> None:
    limited = Scores(made / "teacher", most=7)
    with BadServer(limited) as server:
        with pytest.raises(DanteError, match="gives at most 7") as caught:
            opened(made, renderer, server.url)
        typed = caught.value.fix.split(",")[0]
        assert typed == "supervision.sparse.size=7"
        node = composed("scale=smoke", *served(server.url), typed)["supervision"]
        losses: list[Loss] = [TopKTail(Constant(1.0))]
        supervision_for(node, losses, asked_of(made, renderer, losses)).close()


def test_a_server_that_cannot_score_is_refused_in_the_engine_s_words(made: Path, renderer: ChatRenderer) -> None:
    with (
        BadServer(lambda *_: Reply({"choices": [{"text": "x"}]})) as server,
        pytest.raises(DanteError, match="cannot score a given text") as caught,
    ):
        opened(made, renderer, server.url)
    assert caught.value.where == "supervision.sparse.engine.base_url"


def test_drawn_tokens_another_template_and_another_vocabulary_are_refused_before_anything_is_asked(
    made: Path, scores: Scores, renderer: ChatRenderer
) -> None:
    from dante.losses.distillation.random_sampling import RandomSampling

    other = copy.deepcopy(renderer.tokenizer)
    other.chat_template = str(other.chat_template).replace("a small model", "a tiny model")
    more = copy.deepcopy(renderer.tokenizer)
    more.add_tokens(["<new>"])
    with BadServer(scores) as server:
        with pytest.raises(DanteError, match=r"reads random_sampling.*loss=\[topk_tail\]"):
            opened(made, renderer, server.url, [RandomSampling(Constant(1.0))])
        with pytest.raises(DanteError, match="chat templates differ: line 2 .*small model.*tiny model"):
            opened(made, ChatRenderer(other), server.url)
        with pytest.raises(DanteError, match="token 512 is absent .* and '<new>' in the student's"):
            opened(made, ChatRenderer(more), server.url)
        assert not server.seen


def test_the_plan_charges_for_every_draw_and_keeps_no_weights_here(made: Path) -> None:
    from dante.supervision.provided import resident_inputs, scored_once, scoring_inputs

    node = composed("scale=smoke", *served("http://127.0.0.1:9/v1"))["supervision"]
    reads: Any = node, [TopKTail(Constant(1.0))]
    assert (scoring_inputs(*reads), resident_inputs(*reads), scored_once(*reads)) == (["teacher"], [], False)
    engine = OmegaConf.to_container(OmegaConf.load("conf/engine/server.yaml"))
    assert isinstance(engine, dict)
    assert node["sparse"]["engine"] == engine | {"base_url": "http://127.0.0.1:9/v1"}
    assert build(node["sparse"]).engine.settings()["name"] == "server"
