"""Losses on a live teacher's logits at spans: values and gradients of the vocabulary pass against a float64 reference.

The reference loops over spans and classes as the formulas do, and knows no tiles, chunks or slopes.
"""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dante.data.batch import Reading, StepBatch, assemble, joined_reading
from dante.data.table import Wanted, rows
from dante.errors import DanteError
from dante.losses.base import LinearLoss
from dante.losses.one_pass import PassResult, vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.spans import merged
from dante.losses.spans.gold import GOLD
from dante.losses.spans.matched_kl import MatchedKL
from dante.losses.spans.uld import ULD
from dante.losses.tokens import Matched, SupervisedTokens, TeacherSide, TokenSpans
from dante.losses.vocabulary.head import Head
from dante.supervision.reading import BesideReading
from dante.teachers.smoke_other import other_tokenizer
from dante.text.chat import ChatRenderer
from dante.text.tokens.matching import matched_ids
from tests.test_alm import TEXTS, record
from tests.test_module import module, token_gradient
from tests.test_offsets import FALLBACK, LEVEL

OTHER = other_tokenizer()
SENTENCES = copy.deepcopy(FALLBACK)
SENTENCES.chat_template = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
STEP_TOKENS = 20
# Spans of the student's twelve tokens, and of the teacher's eight: one and one, three and one, two and three, one and
# one, three and two. Tokens 4 and 11 of the student's are in none.
OUR_SPAN = [0, 1, 1, 1, -1, 2, 2, 3, 4, 4, 4, -1]
OUR_RANGES = ((0, 1), (1, 4), (5, 7), (7, 8), (8, 11))
THEIR_SPAN = [0, 1, 2, 2, 2, 3, 4, 4]
THEIR_RANGES = ((0, 1), (1, 2), (2, 5), (5, 6), (6, 8))
OUR_VOCABULARY, THEIR_VOCABULARY, WIDTH = 13, 17, 5
THEIR_MATCHED, OUR_MATCHED = [1, 2, 5, 9, 16], [7, 2, 0, 12, 3]


class Said:
    """`SpanLogits` of logits that are there already."""

    def __init__(self, logits: Tensor, labels: Tensor) -> None:
        log_p = logits.log_softmax(-1)
        label = log_p.gather(1, labels[:, None])[:, 0]
        last = torch.tensor([behind - 1 for _, behind in THEIR_RANGES])
        self.tokens = TokenSpans(torch.tensor(OUR_SPAN), OUR_RANGES)
        self.before = torch.stack([label[first : behind - 1].sum() for first, behind in THEIR_RANGES]).double()
        self.last, self.alone = labels[last], tuple(behind - first == 1 for first, behind in THEIR_RANGES)
        self.vocabulary, self._logits = logits.shape[1], logits[last]
        self.matched = Matched(torch.tensor(THEIR_MATCHED), torch.tensor(OUR_MATCHED))

    def logits(self, spans: Tensor) -> Tensor:
        return self._logits[spans]


class Problem:
    def __init__(self, sharpness: float = 1.0) -> None:
        draw = torch.Generator().manual_seed(3)
        numbers: dict[str, Any] = {"generator": draw, "dtype": torch.float64}
        self.hidden = (sharpness * torch.randn(len(OUR_SPAN), WIDTH, **numbers)).requires_grad_()
        self.weight = torch.randn(OUR_VOCABULARY, WIDTH, **numbers).requires_grad_()
        self.labels = torch.randint(0, OUR_VOCABULARY, (len(OUR_SPAN),), generator=draw)
        self.their_logits = sharpness * torch.randn(len(THEIR_SPAN), THEIR_VOCABULARY, **numbers)
        self.their_labels = torch.randint(0, THEIR_VOCABULARY, (len(THEIR_SPAN),), generator=draw)

    def run(self, losses: list[LinearLoss], tile_tokens: int) -> PassResult:
        side = TeacherSide(maybe_span_logits=Said(self.their_logits, self.their_labels))
        tokens = SupervisedTokens(self.labels, torch.zeros(len(OUR_SPAN), dtype=torch.int64), {}, STEP_TOKENS, 1, side)
        weights = {loss.name: 2.0 for loss in losses}
        return vocabulary_pass(self.hidden, Head(self.weight), losses, weights, tokens, torch.float64, tile_tokens)

    def merged(self) -> list[tuple[bool, Tensor, Tensor, int, int]]:
        """Of each span: whether it is one token on both sides, both merged distributions, and both last tokens."""
        theirs, ours = self.their_logits.softmax(-1), (self.hidden @ self.weight.T).softmax(-1)
        found = []
        for (first, behind), (start, stop) in zip(OUR_RANGES, THEIR_RANGES, strict=True):
            s, t = ours[behind - 1], theirs[stop - 1]
            for index in range(first, behind - 1):
                s = s * ours[index, self.labels[index]]
            for index in range(start, stop - 1):
                t = t * theirs[index, self.their_labels[index]]
            one = behind - first == 1 and stop - start == 1
            found.append((one, t, s, int(self.their_labels[stop - 1]), int(self.labels[behind - 1])))
        return found


def matched_of(one: bool, their_last: int, our_last: int) -> list[tuple[int, int]]:
    return list(zip(THEIR_MATCHED, OUR_MATCHED, strict=True)) if one else [(their_last, our_last)]


def reference_kl(problem: Problem) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for one, t, s, their_last, our_last in problem.merged():
        pairs = matched_of(one, their_last, our_last)
        rest_t, rest_s = 1 - sum(t[i] for i, _ in pairs), 1 - sum(s[j] for _, j in pairs)
        total = total + sum(t[i] * torch.log(t[i] / s[j]) for i, j in pairs) + rest_t * torch.log(rest_t / rest_s)
    return total / STEP_TOKENS


def distance(t: list[Tensor], s: list[Tensor], most: int | None) -> Tensor:
    """Of probabilities that stand in any order."""
    zero = torch.zeros((), dtype=torch.float64)
    t, s = sorted(t, reverse=True), sorted(s, reverse=True)
    count = most or max(len(t), len(s))
    heads = [side[:count] + [zero] * (count - len(side)) for side in (t, s)]
    tails = [sum(side[count:], zero) for side in (t, s)]
    return sum((abs(a - b) for a, b in zip(*heads, strict=True)), zero) + abs(tails[0] - tails[1])


def reference_uld(problem: Problem, most: int | None) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for _, t, s, _, _ in problem.merged():
        total = total + distance(list(t), list(s), most)
    return total / STEP_TOKENS


def reference_gold(problem: Problem, beta: float, share: float, most: int | None) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for one, t, s, their_last, our_last in problem.merged():
        pairs = matched_of(one, their_last, our_last)
        for i, j in pairs:
            m = beta * t[i] + (1 - beta) * s[j]
            jsd = beta * t[i] * torch.log(t[i] / m) + (1 - beta) * s[j] * torch.log(s[j] / m)
            total = total + share * jsd
        left_t = [value for i, value in enumerate(t) if i not in {i for i, _ in pairs}]
        left_s = [value for j, value in enumerate(s) if j not in {j for _, j in pairs}]
        total = total + (1 - share) * distance(left_t, left_s, most)
    return total / STEP_TOKENS


WEIGHT = Constant(2.0)
CASES: dict[str, tuple[LinearLoss, Any]] = {
    "matched_kl": (MatchedKL(WEIGHT, "l"), reference_kl),
    "uld": (ULD(WEIGHT, None, "l"), lambda problem: reference_uld(problem, None)),
    "uld-4": (ULD(WEIGHT, 4, "l"), lambda problem: reference_uld(problem, 4)),
    "uld-15": (ULD(WEIGHT, 15, "l"), lambda problem: reference_uld(problem, 15)),
    "gold": (GOLD(WEIGHT, 0.5, None, None, "l"), lambda p: reference_gold(p, 0.5, 5 / THEIR_VOCABULARY, None)),
    "gold-9": (GOLD(WEIGHT, 0.9, 0.25, 3, "l"), lambda problem: reference_gold(problem, 0.9, 0.25, 3)),
}


@pytest.mark.parametrize("tile_tokens", [1, 2, 5, 64])
@pytest.mark.parametrize("sharpness", [0.3, 1.5])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_the_references(
    case: str, sharpness: float, tile_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(merged._CHUNK_BYTES, "cpu", 2 * 8 * THEIR_VOCABULARY)  # two spans at a time
    problem, (loss, formula) = Problem(sharpness), CASES[case]
    result = problem.run([loss], tile_tokens)
    result.total.backward()
    ours = problem.hidden.grad, problem.weight.grad
    problem.hidden.grad = problem.weight.grad = None
    expected = 2.0 * formula(problem)
    expected.backward()
    torch.testing.assert_close(result.total, expected, rtol=1e-10, atol=1e-13)
    for got, wanted in zip(ours, (problem.hidden.grad, problem.weight.grad), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-12)


def test_several_of_them_share_a_pass() -> None:
    problem = Problem()
    losses = [copy_named(loss, name) for name, (loss, _) in CASES.items()]
    together = problem.run(losses, 4)
    alone = sum(2.0 * formula(problem).detach() for _, formula in CASES.values())
    torch.testing.assert_close(together.total.detach(), alone, rtol=1e-10, atol=1e-13)


def copy_named(loss: LinearLoss, name: str) -> LinearLoss:
    other = copy.deepcopy(loss)
    other.name = name
    return other


@pytest.mark.parametrize("case", ["matched_kl", "uld", "uld-4", "gold"])
def test_a_student_that_says_the_same_has_nothing_to_learn(case: str) -> None:
    """One vocabulary, equal logits, spans of one token: every loss is 0, and so is its gradient."""
    draw = torch.Generator().manual_seed(1)
    hidden = torch.randn(4, WIDTH, generator=draw, dtype=torch.float64).requires_grad_()
    weight = torch.randn(OUR_VOCABULARY, WIDTH, generator=draw, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, OUR_VOCABULARY, (4,), generator=draw)
    every = torch.arange(OUR_VOCABULARY)
    tokens = TokenSpans(torch.arange(4), tuple((n, n + 1) for n in range(4)))
    said = Said.__new__(Said)
    said.tokens, said.last, said.alone = tokens, labels, (True,) * 4
    said.before, said.vocabulary = torch.zeros(4, dtype=torch.float64), OUR_VOCABULARY
    said._logits, said.matched = (hidden @ weight.T).detach(), Matched(every[:9], every[:9])
    side = TeacherSide(maybe_span_logits=said)
    loss = CASES[case][0]
    step = SupervisedTokens(labels, torch.zeros(4, dtype=torch.int64), {}, 4, 1, side)
    result = vocabulary_pass(hidden, Head(weight), [loss], {"l": 1.0}, step, torch.float64, 2)
    result.total.backward()
    assert float(result.total.detach()) == pytest.approx(0.0, abs=1e-14)
    assert hidden.grad is not None
    # The gradient of sorted distances is a sum of signs, each of which may be that of a rounding error.
    if case == "matched_kl":
        assert float(hidden.grad.abs().max()) < 1e-12


def test_with_one_vocabulary_the_matched_kl_is_the_forward_kl() -> None:
    problem = Problem()
    theirs = problem.their_logits[:5, :OUR_VOCABULARY]
    every = torch.arange(OUR_VOCABULARY)
    said = Said.__new__(Said)
    said.tokens, said.last = TokenSpans(torch.arange(5), tuple((n, n + 1) for n in range(5))), problem.labels[:5]
    said.alone, said.before = (True,) * 5, torch.zeros(5, dtype=torch.float64)
    said.vocabulary, said._logits, said.matched = OUR_VOCABULARY, theirs, Matched(every, every)
    step = SupervisedTokens(
        problem.labels[:5], torch.zeros(5, dtype=torch.int64), {}, 5, 1, TeacherSide(maybe_span_logits=said)
    )
    hidden = problem.hidden[:5].detach()
    result = vocabulary_pass(hidden, Head(problem.weight), [MatchedKL(WEIGHT, "l")], {"l": 1.0}, step, torch.float64, 3)
    log_s, log_t = (hidden @ problem.weight.T).log_softmax(-1), theirs.log_softmax(-1)
    torch.testing.assert_close(result.total.detach(), (log_t.exp() * (log_t - log_s)).sum(-1).mean().detach())


def test_merging_never_raises_the_divergence() -> None:
    """The tail bucket: fewer matched tokens, a lower value; without it the order would be anybody's guess."""
    problem = Problem()
    values = []
    for count in (0, 2, 5):
        theirs, ours = THEIR_MATCHED[:count], OUR_MATCHED[:count]
        said = Said(problem.their_logits, problem.their_labels)
        said.matched = Matched(torch.tensor(theirs, dtype=torch.int64), torch.tensor(ours, dtype=torch.int64))
        step = SupervisedTokens(
            problem.labels, torch.zeros(12, dtype=torch.int64), {}, 1, 1, TeacherSide(maybe_span_logits=said)
        )
        result = vocabulary_pass(
            problem.hidden, Head(problem.weight), [MatchedKL(WEIGHT, "l")], {"l": 1.0}, step, torch.float64, 5
        )
        one_token = result.values["l"][[0, 7]].detach()
        values.append(one_token)
        assert (result.values["l"] >= -1e-12).all()
    assert (values[0] <= values[1] + 1e-12).all()
    assert (values[1] <= values[2] + 1e-12).all()


def test_in_bf16_a_student_without_a_tail_keeps_finite_gradients() -> None:
    problem = Problem(sharpness=30.0)
    hidden, weight = problem.hidden.detach().float().requires_grad_(), problem.weight.detach().float().requires_grad_()
    side = TeacherSide(maybe_span_logits=Said(problem.their_logits.float() / 30, problem.their_labels))
    step = SupervisedTokens(problem.labels, torch.zeros(12, dtype=torch.int64), {}, 1, 1, side)
    losses = [copy_named(CASES[case][0], case) for case in ("matched_kl", "uld", "gold")]
    result = vocabulary_pass(hidden, Head(weight), losses, dict.fromkeys(("matched_kl", "uld", "gold"), 1.0), step,
                             torch.float32, 5)  # fmt: skip
    result.total.backward()
    assert torch.isfinite(result.total)
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ULD(WEIGHT, 0, "uld"), r"losses\.uld\.most=1024"),
        (lambda: GOLD(WEIGHT, 1.0, None, None, "gold"), r"losses\.gold\.beta=0\.5"),
        (lambda: GOLD(WEIGHT, 0.5, 1.5, None, "gold"), r"losses\.gold\.matched_share=null"),
        (lambda: GOLD(WEIGHT, 0.5, None, -1, "gold"), r"losses\.gold\.most=1024"),
    ],
)
def test_settings_outside_their_range_are_refused_with_what_to_type(wrong: Any, message: str) -> None:
    with pytest.raises(DanteError, match=message):
        wrong()


# --- what is matched ------------------------------------------------------------------------------------------------


def test_tokens_match_by_their_bytes_and_special_ones_with_none() -> None:
    for theirs, ours in ((LEVEL, OTHER), (OTHER, LEVEL), (FALLBACK, LEVEL), (LEVEL, FALLBACK)):
        their_ids, our_ids = matched_ids(theirs, ours)
        assert len(their_ids) > 30
        assert (their_ids[1:] > their_ids[:-1]).all()
        assert len(set(our_ids.tolist())) == len(our_ids)
        special = {n for n, token in theirs.added_tokens_decoder.items() if token.special}
        assert not special & set(their_ids.tolist())
        for number, other in zip(their_ids.tolist(), our_ids.tolist(), strict=True):
            # Behind something, since some decoders drop the first space of what they are given.
            one, two = theirs.convert_ids_to_tokens([number])[0], ours.convert_ids_to_tokens([other])[0]
            texts = theirs.convert_tokens_to_string(["a", one]), ours.convert_tokens_to_string(["a", two])
            if "\ufffd" not in texts[0]:
                assert texts[0] == texts[1]


def test_a_word_is_matched_with_a_word_and_not_with_the_byte_that_a_vocabulary_falls_back_to() -> None:
    their_ids, our_ids = matched_ids(LEVEL, FALLBACK)
    of = dict(zip(their_ids.tolist(), our_ids.tolist(), strict=True))
    (letter,) = LEVEL.encode("a", add_special_tokens=False)
    assert FALLBACK.convert_ids_to_tokens(of[letter]) == "a"


# --- from a record to what the teacher says ---------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [SENTENCES, OTHER, LEVEL], ids=["sentencepiece", "words", "the same"])
def test_a_row_is_read_in_the_teacher_s_tokens_with_the_same_spans(theirs: Any) -> None:
    ours, reader = ChatRenderer(LEVEL), ChatRenderer(theirs)
    records = [record(text, theirs) for text in TEXTS]
    table = rows(records, ours, Wanted(reader=reader))
    batch, reading = assemble(table), joined_reading(table)
    assert len(reading.tokens.span) == len(batch.labels)
    assert len(reading.their_tokens.span) == len(reading.row.labels)
    assert len(reading.tokens.ranges) == len(reading.their_tokens.ranges)
    assert (reading.their_tokens.span >= 0).all()
    for (first, behind), (start, stop) in zip(reading.tokens.ranges, reading.their_tokens.ranges, strict=True):
        mine = LEVEL.decode(batch.labels[first:behind].tolist())
        told = theirs.decode(reading.row.labels[start:stop].tolist())
        assert mine.strip() == told.strip()
    for number, row in enumerate(table):
        assert row["shared_span"][-1] == -1  # the end of the turn
        own = reading.row.input_ids[0][sum(len(r["read_ids"]) for r in table[:number]) :][: len(row["read_ids"])]
        whole = theirs.decode(own.tolist(), skip_special_tokens=False)
        assert whole.endswith(records[number].teacher_text.strip())
        assert "Why?" in whole
    if theirs is LEVEL:  # a span is a token then, or the tokens of a character
        for first, behind in reading.tokens.ranges:
            assert behind - first == 1 or not LEVEL.decode(batch.labels[first:behind].tolist()).isascii()


def test_a_span_that_is_not_learnt_from_is_not_asked_for() -> None:
    ours, reader = ChatRenderer(LEVEL), ChatRenderer(OTHER)
    text = TEXTS[0]
    whole = rows([record(text, OTHER)], ours, Wanted(reader=reader))[0]
    given = rows([record(text, OTHER, prefix_bytes=10)], ours, Wanted(mask_prefix=True, reader=reader))[0]
    assert len(given["shared_span"]) == given["supervised_tokens"]
    assert 0 < given["read_span"].max() < whole["read_span"].max()
    kept = set(given["shared_span"][given["shared_span"] >= 0].tolist())
    assert kept == set(given["read_span"][given["read_span"] >= 0].tolist())


def tiny(vocabulary: int) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(5)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).float().eval()


def test_what_the_teacher_says_is_what_it_says_of_each_record_alone() -> None:
    theirs, ours = ChatRenderer(OTHER), ChatRenderer(LEVEL)
    model = tiny(len(OTHER))
    records = [record(text, OTHER) for text in TEXTS]
    reading = joined_reading(rows(records, ours, Wanted(reader=theirs)))
    matched = Matched(*(torch.from_numpy(side) for side in matched_ids(OTHER, LEVEL)))
    beside = BesideReading(matched, model)
    beside.place(torch.device("cpu"), None)
    said = beside.said(reading)
    spans = 0
    for one in records:
        row = rows([one], ours, Wanted(reader=theirs))[0]
        ids = torch.from_numpy(row["read_ids"]).long()
        with torch.no_grad():
            log_p = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        for number in range(int(row["read_span"].max()) + 1):
            places = [n + row["read_prompt"] for n, span in enumerate(row["read_span"]) if span == number]
            before = sum(float(log_p[place - 1, ids[place]]) for place in places[:-1])
            assert float(said.before[spans]) == pytest.approx(before, abs=2e-4)
            assert int(said.last[spans]) == int(ids[places[-1]])
            assert said.alone[spans] == (len(places) == 1)
            got = said.logits(torch.tensor([spans])).log_softmax(-1)[0]
            torch.testing.assert_close(got, log_p[places[-1] - 1], rtol=1e-3, atol=1e-3)
            spans += 1
    assert spans == len(said.tokens.ranges) > 20


def test_an_empty_row_is_read_too() -> None:
    """Ranks that have fewer packs than others run one, so that weights which are spread are gathered by all."""
    beside = BesideReading(Matched(torch.arange(3), torch.arange(3)), tiny(len(OTHER)))
    beside.place(torch.device("cpu"), None)
    reading = joined_reading([])
    assert isinstance(replace(assemble([]), reading=reading).to("cpu").reading, Reading)
    said = beside.said(reading)
    assert said.alone == ()
    step = SupervisedTokens(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), {}, 1, 1,
                            TeacherSide(maybe_span_logits=said))  # fmt: skip
    weight = torch.randn(len(LEVEL), 4).requires_grad_()
    hidden = torch.zeros(0, 4).requires_grad_()
    for loss, _ in CASES.values():
        result = vocabulary_pass(hidden, Head(weight), [loss], {"l": 1.0}, step, torch.float32, 4)
        assert float(result.total.detach()) == 0.0
        assert float(loss.metrics(step, result.values["l"], result.kept["l"])["per_token"]) == 0.0


def test_an_optimizer_step_is_one_mean_however_its_records_share_rows() -> None:
    """Two rows or three, and one more that is empty, as a rank runs that has less to do than another."""
    theirs, ours = ChatRenderer(OTHER), ChatRenderer(LEVEL)
    table = rows([record(text, OTHER) for text in TEXTS], ours, Wanted(reader=theirs))
    matched = Matched(*(torch.from_numpy(side) for side in matched_ids(OTHER, LEVEL)))
    found = []
    for layout in ([[0, 1, 2]], [[0], [2, 1], []]):
        beside = BesideReading(matched, tiny(len(OTHER)).double())
        beside.place(torch.device("cpu"), None)
        losses = {name: copy_named(loss, name) for name, (loss, _) in CASES.items()}
        model = tiny(len(LEVEL)).double()
        network = module(model, losses, reader=beside, attention_dropout=0.0)
        micro = []
        for numbers in layout:
            chosen = [table[number] for number in numbers]
            micro.append(replace(assemble(chosen), reading=joined_reading(chosen)))
        count = sum(len(one.labels) for one in micro)
        batch = StepBatch(micro, sum(one.input_ids.numel() for one in micro), count, 3, 0)
        gradients, metrics = token_gradient(network, batch)
        found.append((gradients, {name: float(value) for name, value in metrics.items()}))
    assert max(float(gradient.abs().max()) for gradient in found[0][0]) > 1e-4
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=1e-9)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-9)
