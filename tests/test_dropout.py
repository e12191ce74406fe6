"""Dropout is a function of the seed, the step and the records: new in every step, the same when a step is repeated."""

import torch

from tests.test_module import ONE_ROW, SEPARATE, module, step_batch, student, token_gradient


def loss(step: int, seed: int = 0, layout: list[list[int]] = ONE_ROW) -> float:
    trained = module(student(torch.float32), seed=seed, attention_dropout=0.3)
    batch = step_batch(layout, step, seed=0)
    return token_gradient(trained, batch)[1]["ce_nats"].item()


def test_a_repeated_step_drops_the_same() -> None:
    torch.manual_seed(1)
    first = loss(2)
    torch.manual_seed(2)
    assert loss(2) == first


def test_every_step_seed_and_row_drops_something_else() -> None:
    values = [loss(0), loss(1), loss(2), loss(0, seed=1), loss(0, layout=SEPARATE)]
    assert len(set(values)) == len(values)
