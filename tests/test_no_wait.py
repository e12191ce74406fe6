"""An optimizer step queues its work and reads nothing back: a GPU never runs dry because the host wants a number."""

import contextlib
import types
from dataclasses import replace

import pytest
import torch

from dante.data.batch import documents
from dante.losses.ce import CE
from dante.losses.dual_penalty.penalty import DualPenalty
from dante.losses.multiplier import NuPI
from dante.losses.schedule import Constant
from dante.students.attention.choose import use_attention
from tests.test_module import RECORDS, cwce, module, step_batch, student, tea

LAYOUT = [[0, 1], [2, 3, 4]]


def dual(guard: str) -> DualPenalty:
    """Of six steps the first two are measured."""
    options = {"difficult": 0.5, "measure_from": 0.0, "measure_until": 0.3, "augmentation": 1.0}
    multiplier = NuPI(k_i=10.0, k_p=1.0, nu=0.9, maximum=10.0)
    return DualPenalty(Constant(1.0), "predictive", guard, bound=Constant(1.0), multiplier=multiplier, **options)


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        (lambda: {"cwce": cwce(), "tea": tea()}, 0),
        (lambda: {"ce": CE(Constant(1.0)), "dual": dual("label_is_argmax")}, 0),  # measured
        (lambda: {"ce": CE(Constant(1.0)), "dual": dual("label_in_top5")}, 1),  # ... to its end
        (lambda: {"ce": CE(Constant(1.0)), "dual": dual("only_label_rises")}, 5),  # constrained, and the last
    ],
    ids=["dante", "measured", "frozen", "constrained"],
)
def test_a_step_never_waits_for_the_device(losses, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device there is no number to wait for: whoever asks for one fails."""
    trained = module(student(torch.float32), losses())
    use_attention(trained.student, "documents", "cpu")
    trained = trained.to("meta")
    embedding = trained.student.get_input_embeddings().weight
    for anchor in trained.parameter_losses:
        anchor._bound = (embedding, embedding.detach().clone())
    batch = step_batch(LAYOUT, step)
    lengths = [[sum(RECORDS[which][:2]) for which in row] for row in LAYOUT]
    rows = [replace(row, **documents(tokens)) for row, tokens in zip(batch.micro_batches, lengths, strict=True)]
    batch = replace(batch, micro_batches=rows).to("meta")
    updates = []

    class Seen(torch.optim.SGD):  # torch's fused AdamW takes no meta tensors: what it would be given is looked at
        def step(self) -> None:
            updates.append((self.grad_scale, self.found_inf))

    raw = Seen(trained.student.parameters(), lr=0.1)
    optimizer = types.SimpleNamespace(optimizer=raw, param_groups=[{}], zero_grad=trained.zero_grad)
    monkeypatch.setattr(trained, "optimizers", lambda: optimizer)
    # Copied out without a wait, and read after the next step was queued.
    monkeypatch.setattr(trained._outcomes, "add", lambda step, *facts: None)
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: contextlib.nullcontext())  # knows no meta
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: False)
    trained.training_step(batch, 0)
    ((divisor, skipped),) = updates
    assert divisor.is_meta
    assert skipped.is_meta
    with pytest.raises(RuntimeError, match="meta"):
        trained.collect_metrics()
