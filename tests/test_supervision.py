"""What losses need of the teacher besides its text: declared, joined by record id, shown tile by tile."""

import copy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from dante.cache import CacheWriter, Record, read_records
from dante.cache.sparse import Sparse, SparseLogits, TopKTail
from dante.cache.sparse.sidecar import Header, file_name, write_file
from dante.data.curriculum import Shuffled
from dante.data.datamodule import DistillData
from dante.errors import DanteError
from dante.fit.settings import without_spare_supervision
from dante.losses.base import LinearLoss, Loss
from dante.losses.ce import CE
from dante.losses.distillation.divergences import ForwardKL
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import Need, SparseTargets, SupervisedTokens, TeacherSide
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.tile import Tile
from dante.students.stage import bake_template_variables
from dante.supervision.asked import Asked
from dante.supervision.provided import (
    Supervision,
    resident_inputs,
    scored_once,
    scoring_inputs,
    sparse_kind,
    supervision_for,
)
from dante.supervision.sparse import Cached, CachedSparse, rendering_of, within
from dante.teachers.teacher import Teacher
from dante.text.chat import ChatRenderer
from dante.text.raw import RawRenderer
from dante.text.tokens.vocabularies import difference, token_difference
from tests.test_data import renderer as chatml

KEPT = 6


class TailKL(LinearLoss):
    """KL(teacher ‖ student) over the kept tokens and one bucket for all others: a loss as a test needs it."""

    needs: ClassVar[frozenset[Need]] = frozenset({"sparse"})

    def per_token(self, logits_TV: Tensor, tile: Tile) -> Tensor:
        wanted = tile.tokens.teacher.sparse.rows(tile.rows)
        log_q = logits_TV.log_softmax(-1).gather(1, wanted.ids)
        log_rest = torch.log1p(-log_q.exp().sum(-1))
        kept = torch.special.xlogy(wanted.probabilities, wanted.probabilities) - wanted.probabilities * log_q
        return kept.sum(-1) + torch.special.xlogy(wanted.tail, wanted.tail) - wanted.tail * log_rest


renderer = chatml  # a fixture


@pytest.fixture
def cache(tmp_path: Path, renderer: ChatRenderer) -> Path:
    """A cache of seven records with sparse logits beside it."""
    texts = ["Jupiter.", "caffè e più", "It is 60.", "é", "A longer answer, of several words.", "no", "yes, so"]
    records = [Record(f"id-{i}", f"Question {i}?", text, 1.0) for i, text in enumerate(texts)]
    CacheWriter(tmp_path / "cache").add(records).seal()
    vocabulary = len(renderer.tokenizer)
    header = Header("topk_tail", KEPT, vocabulary, "aa", rendering_of(renderer.tokenizer), 0)
    write_file(tmp_path / "cache" / file_name("topk_tail", 0), header, [(r, kept(r, renderer)) for r in records])
    return tmp_path / "cache"


def kept(record: Record, renderer: ChatRenderer) -> Any:
    tokens = sum(renderer.render(record.prompt, record.teacher_text).supervised)
    vocabulary = len(renderer.tokenizer)
    rng = np.random.default_rng(len(record.teacher_text))
    logits = rng.normal(0, 2, (tokens, vocabulary))
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    ids = np.argsort(-logprobs, axis=1)[:, :KEPT].astype(np.int64)
    return TopKTail(KEPT, vocabulary).keep(np.take_along_axis(logprobs, ids, axis=1), ids)


def supervision_of(losses: list[Loss], cache: Path, renderer: ChatRenderer) -> Supervision:
    parts = {"sparse": {"_target_": "dante.supervision.sparse.Cached", "folder": None}}
    return supervision_for(parts, losses, Asked({"cache": cache}, renderer, {}, sparse_kind(losses)))


def opened(cache: Path, renderer: ChatRenderer, losses: list[Loss], **more: Any) -> DistillData:
    data = DistillData(
        cache, renderer, cache.parent / "tokens", curriculum=Shuffled(), steps=3, batch={"unit": "records", "size": 4},
        max_tokens=64, accumulate=None, overlong="error", seed=0, rank=0, world_size=1,
        supervision=supervision_of(losses, cache, renderer), **more,
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("workers", [0, 1])
def test_every_supervised_token_of_every_batch_has_the_rows_of_its_record(
    workers: int, cache: Path, renderer: ChatRenderer
) -> None:
    logits = SparseLogits(cache, "topk_tail")
    by_id = {f"id-{i}": i for i in range(7)}
    seen = 0
    data = opened(cache, renderer, [TailKL(Constant(1.0))], workers=workers)
    records = {record.id: record for record in data.supervision.sparse.records.values()}  # type: ignore[union-attr]
    for step in data.train_dataloader():
        for micro in step.micro_batches:
            rows = [logits.for_record(records[identity]) for identity in micro.record_ids]
            found = micro.teacher.sparse
            np.testing.assert_array_equal(found.ids.numpy(), np.concatenate([r.ids for r in rows]))
            np.testing.assert_allclose(found.tail.numpy(), np.concatenate([r.tail for r in rows]), rtol=1e-6)
            assert len(found.ids) == len(micro.labels)
            assert set(micro.record_ids) <= by_id.keys()
            seen += len(micro.record_ids)
    assert seen == 12


def test_a_loss_without_needs_leaves_batches_as_they_were(cache: Path, renderer: ChatRenderer) -> None:
    data = opened(cache, renderer, [CE(Constant(1.0))])
    assert all(m.teacher.maybe_sparse is None for step in data.train_dataloader() for m in step.micro_batches)
    tokens = SupervisedTokens(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), {}, 1, 1)
    with pytest.raises(AssertionError, match="needs"):
        _ = tokens.teacher.sparse


@pytest.mark.parametrize("tile_tokens", [1, 3, 64])
def test_a_loss_finds_the_teacher_s_side_of_its_tile(tile_tokens: int) -> None:
    """Against the whole computed at once in float64, for any tiling; and the gradient against a difference quotient."""
    torch.manual_seed(0)
    tokens, vocabulary, width = 11, 19, 5
    weight = torch.randn(vocabulary, width, dtype=torch.float64, requires_grad=True)
    hidden = torch.randn(tokens, width, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(tokens, vocabulary, dtype=torch.float64).softmax(-1)
    best = teacher.topk(4)
    tail = 1 - best.values.sum(-1)
    side = TeacherSide(SparseTargets(best.indices, best.values, tail))
    place = torch.zeros(tokens, dtype=torch.long)
    shown = SupervisedTokens(torch.randint(vocabulary, (tokens,)), place, {}, tokens, 1, side)
    loss = TailKL(Constant(1.0), name="kl")
    result = vocabulary_pass(
        hidden, Head(weight, None, 1.0, None), [loss], {"kl": 1.0}, shown, torch.float64, tile_tokens
    )
    log_q = (hidden @ weight.T).log_softmax(-1)
    rest = torch.log1p(-log_q.exp().gather(1, best.indices).sum(-1))
    by_hand = (best.values * (best.values.log() - log_q.gather(1, best.indices))).sum(-1) + tail * (tail.log() - rest)
    torch.testing.assert_close(result.values["kl"], by_hand.detach())
    expected = torch.autograd.grad(by_hand.mean(), [hidden, weight])
    torch.testing.assert_close(torch.autograd.grad(result.total, [hidden, weight]), expected)


class Needy(LinearLoss):
    needs: ClassVar[frozenset[Need]] = frozenset({"attention"})  # type: ignore[arg-type]


class Other(TailKL):
    sparse_kind = "random_sampling"


def test_what_nobody_provides_is_refused_before_the_first_step(cache: Path, renderer: ChatRenderer) -> None:
    with pytest.raises(DanteError, match=r"loss 'needy' needs 'attention'.*~losses\.needy"):
        supervision_of([Needy(Constant(1.0))], cache, renderer)
    with pytest.raises(DanteError, match="different kinds: random_sampling, topk_tail"):
        supervision_of([TailKL(Constant(1.0)), Other(Constant(1.0))], cache, renderer)
    with pytest.raises(DanteError, match="no random_sampling logits beside the cache"):
        supervision_of([Other(Constant(1.0))], cache, renderer)


def changed(renderer: ChatRenderer) -> ChatRenderer:
    tokenizer = copy.deepcopy(renderer.tokenizer)
    tokenizer.chat_template = str(tokenizer.chat_template) + "{# another #}"
    return ChatRenderer(tokenizer)


def test_rows_of_another_tokenizer_text_or_cache_are_refused(cache: Path, renderer: ChatRenderer) -> None:
    loss = TailKL(Constant(1.0))
    with pytest.raises(DanteError, match="made for another tokenizer or template"):
        supervision_of([loss], cache, changed(renderer))
    supervision = supervision_of([loss], cache, renderer)
    with pytest.raises(DanteError, match="record id-0 has logits of .* tokens, and 99 are supervised"):
        supervision.of(["id-0"], [99])
    CacheWriter(cache.parent / "more").add([*supervision.sparse.records.values(), Record("new", "?", "!", 1.0)]).seal()  # type: ignore[union-attr]
    for file in cache.glob("logits-*"):
        (cache.parent / "more" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DanteError, match=r"1 of 8 train records have no topk_tail logits, new is the first"):
        supervision_of([loss], cache.parent / "more", renderer)


def test_who_scores_every_draw_and_who_scored_once() -> None:
    parts = {
        "sparse": {"_target_": "dante.supervision.sparse.Cached", "folder": None},
        "teacher_logits": {
            "_target_": "dante.supervision.live.Model", "step": "teacher-b", "precision": "fp32", "attention": "auto"
        },
    }  # fmt: skip
    files, live = TailKL(Constant(1.0)), LogitDistillation(Constant(1.0), ForwardKL(), 1.0)
    assert scored_once(parts, [files])
    assert not scored_once(parts, [live])
    assert not scored_once(parts, [CE(Constant(1.0))])
    assert scoring_inputs(parts, [files, CE(Constant(1.0))]) == []
    assert scoring_inputs(parts, [live, files]) == resident_inputs(parts, [live]) == ["teacher-b"]


def test_ids_beyond_the_tokenizer_s_are_padding_of_the_teacher_s_head() -> None:
    rows = Sparse(
        np.array([[3, 5, 9], [2, 8, 9]]), np.array([[0.5, 0.3, 0.1], [0.25, 0.5, 0.25]]), np.array([0.1, 0.0])
    )
    found = within(rows, 8)
    np.testing.assert_array_equal(found.ids, [[3, 5, -1], [2, -1, -1]])
    np.testing.assert_allclose(found.probabilities, [[0.5, 0.3, 0.0], [1.0, 0.0, 0.0]])  # what was drawn stays whole
    np.testing.assert_allclose(found.tail, [0.2, 0.0])
    assert within(rows, 10) is rows


def test_the_first_difference_of_two_tokenizers_is_named(renderer: ChatRenderer) -> None:
    ours = renderer.tokenizer
    assert difference(ours, copy.deepcopy(ours)) is None
    theirs = copy.deepcopy(ours)
    theirs.chat_template = str(ours.chat_template) + "\n{# more #}"
    assert "chat templates differ: line" in str(difference(theirs, ours))
    assert token_difference(theirs, ours) is None
    longer = copy.deepcopy(ours)
    longer.add_tokens(["<|new|>"])
    assert difference(longer, ours) == (
        f"token {len(ours)} is '<|new|>' in the teacher's vocabulary and absent in the student's"
    )


def test_only_what_a_loss_reads_belongs_to_a_fit() -> None:
    """Another server for sparse logits must not make a plain fit anew."""
    nodes = {"sparse": {"_target_": "a"}, "teacher_logits": {"_target_": "b"}}

    def kept_of(target: str) -> dict[str, Any]:
        settings = {"seed": 1, "losses": {"x": {"_target_": target}}, "supervision": dict(nodes)}
        return without_spare_supervision(settings)

    assert "supervision" not in kept_of("dante.losses.ce.CE")
    assert kept_of("dante.losses.distillation.logits.LogitDistillation")["supervision"].keys() == {"teacher_logits"}
    assert kept_of("dante.losses.distillation.topk_tail.TopKTail")["supervision"].keys() == {"sparse"}
    assert "supervision" not in kept_of("dante.losses.ce.Nothing")  # the check names that


def test_raw_text_has_no_kept_logits(cache: Path, renderer: ChatRenderer) -> None:
    asked = Asked({"cache": cache}, RawRenderer(renderer.tokenizer), {}, "topk_tail")
    with pytest.raises(DanteError, match="fit renders plain text.*fit.rendering=chat"):
        Cached(None).open(asked)


def test_template_variables_that_are_the_student_s_defaults_are_no_difference(
    cache: Path, renderer: ChatRenderer, tmp_path: Path
) -> None:
    """The teacher is given what the student's template has baked in; another variable is another rendering."""
    step = tmp_path / "teacher"
    renderer.tokenizer.save_pretrained(step / "model")
    Teacher("t", "model", True, None, "ours", "aa", True).write(step)
    plain_hash = rendering_of(AutoTokenizer.from_pretrained(step / "model"))
    for file in cache.glob("logits-*"):  # made for the tokenizer as the step holds it
        rows = [(record, kept(record, renderer)) for record in read_records(cache, "train")]
        write_file(file, Header("topk_tail", KEPT, len(renderer.tokenizer), "aa", plain_hash, 0), rows)
    baked = AutoTokenizer.from_pretrained(step / "model")
    bake_template_variables(baked, {"brief": True})
    student = ChatRenderer(baked)
    assert len(CachedSparse(cache, "topk_tail", student, None, step, None, {"brief": True}).records) == 7
    for chat in ({}, {"brief": False}):
        with pytest.raises(DanteError, match="another tokenizer or template.*chat templates differ: line 1"):
            CachedSparse(cache, "topk_tail", student, None, step, None, chat)
