"""ULD and GOLD's hybrid against TRL's (1.16, `pip install trl`), where that is right.

TRL's chain-rule merge is called "bayesian" there. Its hybrid compares tokens of equal ids in spans of several tokens as
well, where they are different texts: the two are held against each other on spans of one token, and shown to part on
others.
"""

import warnings
from typing import Any

import pytest
import torch

from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.spans.gold import GOLD
from dante.losses.spans.uld import ULD
from dante.losses.tokens import Matched, SupervisedTokens, TeacherSide, TokenSpans
from dante.losses.vocabulary.head import Head
from tests.test_span_logits import Said

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trl = pytest.importorskip("trl.experimental.gold.gold_trainer", reason="pip install trl")

pytestmark = pytest.mark.slow

OUR_VOCABULARY, THEIR_VOCABULARY, PROMPT = 11, 14, 2
MATCHED = Matched(torch.tensor([0, 3, 4, 9, 13]), torch.tensor([5, 1, 10, 0, 2]))
ONE_EACH = ([1, 2, 5, 6], [1, 2, 5, 6])
SEVERAL = ([1, 2, 5, 6, 7, 9], [2, 5, 6, 8, 9])  # where tokens end, in bytes


def spans_of(ours: list[int], theirs: list[int]) -> tuple[Any, Any]:
    ends = sorted(set(ours) & set(theirs))

    def ranges(side: list[int]) -> tuple[tuple[int, int], ...]:
        cuts = [0, *(side.index(end) + 1 for end in ends)]
        return tuple(zip(cuts, cuts[1:], strict=False))

    return ranges(ours), ranges(theirs)


class Problem:
    def __init__(self, ends: tuple[list[int], list[int]]) -> None:
        draw = torch.Generator().manual_seed(7)
        self.ends, (ours, theirs) = ends, ends
        self.our_ranges, self.their_ranges = spans_of(ours, theirs)
        self.logits = torch.randn(len(ours), OUR_VOCABULARY, generator=draw, dtype=torch.float64).requires_grad_()
        self.labels = torch.randint(0, OUR_VOCABULARY, (len(ours),), generator=draw)
        self.their_logits = torch.randn(len(theirs), THEIR_VOCABULARY, generator=draw, dtype=torch.float64)
        self.their_labels = torch.randint(0, THEIR_VOCABULARY, (len(theirs),), generator=draw)

    def trl(self, hybrid: bool, beta: float = 0.5) -> torch.Tensor:
        from types import SimpleNamespace

        config = SimpleNamespace(
            uld_crossentropy_weight=0.0, uld_distillation_weight=1.0, uld_student_temperature=1.0,
            uld_teacher_temperature=1.0, uld_skip_student_eos=False, uld_skip_teacher_eos=False,
            use_extended_uld=True, uld_token_merge_strategy="bayesian", uld_use_hybrid_loss=hybrid,
            uld_hybrid_matched_weight=None, uld_hybrid_unmatched_weight=None, beta=beta,
        )  # fmt: skip
        loss = trl.ULDLoss(config)
        loss._vocab_mapping = dict(zip(MATCHED.theirs.tolist(), MATCHED.ours.tolist(), strict=True))
        loss._teacher_matched_ids, loss._student_matched_ids = set(MATCHED.theirs.tolist()), set(MATCHED.ours.tolist())
        loss.mapping_tensor = torch.full((THEIR_VOCABULARY,), -1)
        loss.mapping_tensor[MATCHED.theirs] = MATCHED.ours

        def padded(logits: torch.Tensor, labels: torch.Tensor, ends: list[int]) -> tuple[Any, ...]:
            # The logits that predict token k stand at k − 1; before the answer there is a prompt, behind it nothing.
            shape = (PROMPT - 1, logits.shape[1])
            rows = torch.cat([torch.zeros(shape, dtype=logits.dtype), logits, torch.zeros_like(logits[:1])])
            ids = torch.cat([torch.zeros(PROMPT, dtype=torch.int64), labels])
            targets = torch.cat([torch.full((PROMPT,), -100), labels])
            offsets = [[0, 0]] * PROMPT + [list(pair) for pair in zip([0, *ends], ends, strict=False)]
            return rows[None], targets[None], ids[None], torch.tensor(offsets)[None]

        ours = padded(self.logits, self.labels, self.ends[0])
        theirs = padded(self.their_logits, self.their_labels, self.ends[1])
        value = loss(ours[0], theirs[0], ours[1], theirs[1], ours[2], theirs[2], ours[3], theirs[3])
        return value * len(self.our_ranges)  # which TRL divides by

    def ours(self, loss: Any) -> torch.Tensor:
        said = Said.__new__(Said)
        log_p = self.their_logits.log_softmax(-1).gather(1, self.their_labels[:, None])[:, 0]
        last = torch.tensor([behind - 1 for _, behind in self.their_ranges])
        span = [number for number, (first, behind) in enumerate(self.our_ranges) for _ in range(first, behind)]
        said.tokens = TokenSpans(torch.tensor(span), self.our_ranges)
        said.before = torch.stack([log_p[first : behind - 1].sum() for first, behind in self.their_ranges])
        said.last, said.alone = self.their_labels[last], tuple(b - f == 1 for f, b in self.their_ranges)
        said.vocabulary, said._logits, said.matched = THEIR_VOCABULARY, self.their_logits[last], MATCHED
        step = SupervisedTokens(
            self.labels, torch.zeros(len(self.labels), dtype=torch.int64), {}, 1, 1, TeacherSide(maybe_span_logits=said)
        )
        # The logits themselves are the hidden states of a head that is the identity.
        head = Head(torch.eye(OUR_VOCABULARY, dtype=torch.float64))
        return vocabulary_pass(self.logits, head, [loss], {"l": 1.0}, step, torch.float64, 3).total


def gradient(problem: Problem, value: torch.Tensor) -> torch.Tensor:
    problem.logits.grad = None
    value.backward()
    assert problem.logits.grad is not None
    return problem.logits.grad.clone()


@pytest.mark.parametrize("ends", [ONE_EACH, SEVERAL], ids=["one token each", "several"])
def test_uld_is_trl_s(ends: tuple[list[int], list[int]]) -> None:
    problem = Problem(ends)
    ours, theirs = problem.ours(ULD(Constant(1.0), None, "l")), problem.trl(hybrid=False)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient(problem, ours), gradient(problem, theirs), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_the_hybrid_is_trl_s_on_spans_of_one_token(beta: float) -> None:
    problem = Problem(ONE_EACH)
    ours, theirs = problem.ours(GOLD(Constant(1.0), beta, None, None, "l")), problem.trl(hybrid=True, beta=beta)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)  # its JSD runs in float32 where β enters
    torch.testing.assert_close(gradient(problem, ours), gradient(problem, theirs), rtol=1e-5, atol=1e-8)


def test_in_spans_of_several_tokens_trl_s_hybrid_compares_different_texts() -> None:
    problem = Problem(SEVERAL)
    ours, theirs = problem.ours(GOLD(Constant(1.0), 0.5, None, None, "l")), problem.trl(hybrid=True)
    assert abs(float(ours.detach()) - float(theirs.detach())) > 1e-3
