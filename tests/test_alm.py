"""Likelihood matching over spans: values and gradients of the vocabulary pass against a float64 reference."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dante.cache import Record
from dante.data.batch import assemble, joined_spans
from dante.data.spans import spans_of
from dante.data.table import Wanted, rows
from dante.errors import DanteError
from dante.losses.one_pass import PassResult, vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.spans.alm import ALM, binary_kl
from dante.losses.tokens import SupervisedTokens, TeacherSide, TeacherSpans, TokenSpans
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.tile import tile_rows
from dante.teachers.smoke_other import other_tokenizer
from dante.text.chat import ChatRenderer
from dante.text.tokens.offsets import token_ends
from tests.test_offsets import FALLBACK, LEVEL

WORDS = other_tokenizer()

TOKENS, VOCABULARY, WIDTH, STEP_TOKENS = 12, 13, 5, 20
# Spans of one, three, two and four tokens; tokens 4 and 11 are in none.
SPAN = [0, 1, 1, 1, -1, 2, 2, 3, 3, 3, 3, -1]
RANGES = ((0, 1), (1, 4), (5, 7), (7, 11))


class Problem:
    def __init__(self, likelihood: list[float] | None = None) -> None:
        draw = torch.Generator().manual_seed(3)
        numbers: dict[str, Any] = {"generator": draw, "dtype": torch.float64}
        self.hidden = torch.randn(TOKENS, WIDTH, **numbers).requires_grad_()
        self.weight = torch.randn(VOCABULARY, WIDTH, **numbers).requires_grad_()
        self.labels = torch.randint(0, VOCABULARY, (TOKENS,), generator=draw)
        self.likelihood = likelihood or [-0.4, -9.0, -1.5, -3.0]

    def label_log_probabilities(self) -> torch.Tensor:
        log_p = (self.hidden @ self.weight.T).log_softmax(-1)
        return log_p.gather(1, self.labels[:, None])[:, 0]

    def run(self, loss: ALM, tile_tokens: int, likelihood: list[float] | None = None) -> PassResult:
        given = torch.tensor(self.likelihood if likelihood is None else likelihood, dtype=torch.float64)
        side = TeacherSide(maybe_spans=TeacherSpans(TokenSpans(torch.tensor(SPAN), RANGES), given))
        tokens = SupervisedTokens(self.labels, torch.zeros(TOKENS, dtype=torch.int64), {}, STEP_TOKENS, 1, side)
        loss.name = "alm"
        return vocabulary_pass(self.hidden, Head(self.weight), [loss], {"alm": 2.0}, tokens, torch.float64, tile_tokens)


def reference(likelihood: list[float], log_p: torch.Tensor, temperature: float) -> torch.Tensor:
    """Σ_c KL over STEP_TOKENS, written down from the paper's formula."""
    total = torch.zeros((), dtype=torch.float64)
    for number, theirs in enumerate(likelihood):
        ours = sum(log_p[t] for t in range(TOKENS) if SPAN[t] == number)
        u, v = math.exp(theirs / temperature), torch.exp(ours / temperature)
        total = total + u * (math.log(u) - torch.log(v)) + (1 - u) * (math.log(1 - u) - torch.log(1 - v))
    return total / STEP_TOKENS


@pytest.mark.parametrize("tile_tokens", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("temperature", [1.0, 7.0, 100.0])
def test_value_and_gradients_are_the_references(tile_tokens: int, temperature: float) -> None:
    problem = Problem()
    result = problem.run(ALM(Constant(2.0), temperature), tile_tokens)
    result.total.backward()
    ours = problem.hidden.grad, problem.weight.grad
    problem.hidden.grad = problem.weight.grad = None
    expected = 2.0 * reference(problem.likelihood, problem.label_log_probabilities(), temperature)
    expected.backward()
    torch.testing.assert_close(result.total, expected, rtol=1e-11, atol=1e-14)
    for got, wanted in zip(ours, (problem.hidden.grad, problem.weight.grad), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-13)


def test_equal_likelihoods_are_exactly_nothing() -> None:
    problem = Problem()
    log_p = problem.label_log_probabilities().detach()
    equal = [float(sum(log_p[t] for t in range(TOKENS) if SPAN[t] == number)) for number in range(4)]
    values, slopes = binary_kl(torch.tensor(equal).double(), torch.tensor(equal).double(), 100.0)
    assert values.tolist() == [0.0] * 4
    assert slopes.tolist() == [0.0] * 4
    certain = torch.zeros(1, dtype=torch.float64)  # a likelihood of one on both sides
    assert [float(part) for part in binary_kl(certain, certain, 100.0)] == [0.0, 0.0]
    result = problem.run(ALM(Constant(1.0), 100.0), 3, equal)
    assert float(result.total.detach()) == pytest.approx(0.0, abs=1e-15)


def test_where_the_teacher_is_certain_values_are_finite() -> None:
    certain, sure = torch.zeros(1, dtype=torch.float64), torch.full((1,), -1e-12, dtype=torch.float64)
    unlikely = torch.full((1,), -800.0, dtype=torch.float64)
    for theirs, ours in ((certain, unlikely), (unlikely, certain), (certain, sure), (unlikely, unlikely)):
        assert all(torch.isfinite(part).all() for part in binary_kl(theirs, ours, 100.0))


def test_it_keeps_the_gap_and_counts_every_span_once() -> None:
    problem, loss = Problem(), ALM(Constant(1.0), 100.0)
    result = problem.run(loss, 4)
    log_p = problem.label_log_probabilities().detach()
    gaps = [
        abs(theirs - float(sum(log_p[t] for t in range(TOKENS) if SPAN[t] == number)))
        for number, theirs in enumerate(problem.likelihood)
    ]
    side = SupervisedTokens(problem.labels, torch.zeros(TOKENS, dtype=torch.int64), {}, STEP_TOKENS, 1)
    metrics = loss.metrics(side, result.values["alm"], result.kept["alm"])
    assert float(metrics["gap_nats"]) == pytest.approx(sum(gaps) / STEP_TOKENS)
    assert result.values["alm"][[4, 11]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("most", range(1, 14))
def test_tiles_cut_nothing_that_belongs_together(most: int) -> None:
    tiles = tile_rows(TOKENS, most, RANGES)
    assert [index for tile in tiles for index in range(tile.start, tile.stop)] == list(range(TOKENS))
    for first, behind in RANGES:
        assert sum(tile.start < behind and first < tile.stop for tile in tiles) == 1
    longest = max(behind - first for first, behind in RANGES)
    assert max(tile.stop - tile.start for tile in tiles) <= max(most, longest)
    assert tile_rows(TOKENS, most, [*RANGES, (1, 2), (6, 8)]) == tile_rows(TOKENS, most, [(0, 1), (1, 4), (5, 11)])
    assert tile_rows(TOKENS, most, ()) == [slice(s, min(s + most, TOKENS)) for s in range(0, TOKENS, most)]


# --- from a record to a batch ----------------------------------------------------------------------------------------

TEXTS = ["def f(n):\n    return n  # é 👍 in an", "The answer is 42.", " Two  spaces\r\nand 日本語"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def record(text: str, teacher: Any, **more: Any) -> Record:
    ids = teacher.encode(text, add_special_tokens=False)
    _, ends = token_ends(teacher, ids)
    draw = np.random.default_rng(len(text))
    logprobs = [round(-float(x), 5) for x in draw.exponential(0.7, len(ids))]
    return Record(
        id=f"r{len(text)}", prompt="Why?", teacher_text=text, output_entropy=0.5, output_entropy_upper=None,
        self_consistency=None, difficulty_score=None, token_ends=ends, token_logprobs=logprobs, **more,
    )  # fmt: skip


@pytest.mark.parametrize("teacher", [FALLBACK, WORDS], ids=["sentencepiece", "words"])
def test_a_batch_has_the_teacher_s_whole_likelihood_and_none_of_the_turn_s_end(teacher: Any) -> None:
    renderer = ChatRenderer(LEVEL)
    records = [record(text, teacher) for text in TEXTS]
    table = rows(records, renderer, Wanted(spans=True))
    batch, spans = assemble(table), joined_spans(table)
    assert len(spans.tokens.span) == len(batch.labels)
    assert spans.log_likelihood.shape == (len(spans.tokens.ranges),)
    for number, (one, row) in enumerate(zip(records, table, strict=True)):
        of_record = spans.tokens.span[batch.record == number]
        assert of_record[-1] == -1  # the end of the turn
        if one.teacher_text == one.teacher_text.strip():
            assert float(sum(row["span_likelihood"])) == pytest.approx(sum(one.token_logprobs or ()))
            assert (of_record[:-1] >= 0).all()
    own = spans.tokens.span
    for number, (first, behind) in enumerate(spans.tokens.ranges):
        assert (own[first:behind] == number).all()
        assert number not in own[:first].tolist() + own[behind:].tolist()


def test_a_span_that_is_not_learnt_from_as_a_whole_is_left_out() -> None:
    renderer, one = ChatRenderer(LEVEL), record(TEXTS[0], WORDS)
    rendered = renderer.render(one.prompt, one.teacher_text)
    count = sum(rendered.supervised)
    everything, likelihood = spans_of(one, rendered, LEVEL, [True] * count)
    cut = int(np.flatnonzero(np.diff(everything) == 0)[0]) + 1  # inside a span of several tokens
    span, kept = spans_of(one, rendered, LEVEL, [index >= cut for index in range(count)])
    assert len(span) == count - cut
    assert span[0] == -1
    assert kept.tolist() == likelihood[everything[cut] + 1 :].tolist()


def test_records_without_log_probabilities_are_refused_by_name(tmp_path: Path) -> None:
    one = record("Yes.", WORDS)
    bare = Record(**{**vars(one), "token_ends": None, "token_logprobs": None})
    with pytest.raises(DanteError, match=r"no log-probabilities.*record r4.*loss=\[ce\]"):
        rows([bare], ChatRenderer(LEVEL), Wanted(spans=True))
    assert rows([bare], ChatRenderer(LEVEL))[0]["span"].tolist() == []


def test_a_temperature_of_nothing_is_refused() -> None:
    with pytest.raises(DanteError, match="temperature is 0"):
        ALM(Constant(1.0), 0.0, "alm")
