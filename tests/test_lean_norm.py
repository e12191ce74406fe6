"""The norm of a block under bf16 autocast: same values, gradients no further from exact ones, fp32 untouched."""

import pytest
import torch

from dante.students.lean_norm import make_lean, rms_norm
from tests.test_isolation import ARCHITECTURES, student, tokens

torch.set_num_threads(1)
# Blocks of four: two norms each where the MLP is dense, one where a router reads the second.
REPLACED = {"llama": 8, "smollm3": 8, "qwen3": 8, "laguna": 5, "glm4_moe": 5}


def run(model, autocast):
    model.train().zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        states = model.base_model(input_ids=tokens()[:, :40], use_cache=False).last_hidden_state
    states.float().square().sum().backward()
    return states.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_value_and_gradients_in_float64():
    torch.manual_seed(0)
    x, weight = torch.randn(3, 5, 16, dtype=torch.float64), torch.rand(16, dtype=torch.float64) + 0.5
    inputs = (x.requires_grad_(), weight.requires_grad_())
    expected = torch.nn.functional.rms_norm(x, (16,), weight, 1e-5)
    torch.testing.assert_close(rms_norm(x, weight, 1e-5, torch.float64), expected)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-5, torch.float64), inputs)


@pytest.mark.parametrize("architecture", REPLACED)
def test_autocast_gives_the_same_values_and_no_worse_gradients(architecture):
    exact = run(student(architecture), autocast=False)
    theirs = run(student(architecture), autocast=True)
    lean = student(architecture)
    assert make_lean(lean) == REPLACED[architecture]
    ours = run(lean, autocast=True)
    assert torch.equal(ours[0], theirs[0])
    error, their_error = ((g[1] - exact[1]).norm() for g in (ours, theirs))
    assert 0 < error < 1.3 * their_error


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fp32_is_untouched_to_the_bit(architecture):
    lean = student(architecture)
    make_lean(lean)
    for ours, theirs in zip(run(lean, False), run(student(architecture), False), strict=True):
        assert torch.equal(ours, theirs)


def test_a_norm_that_computes_something_else_stays():
    model = student("llama")
    layer = model.model.layers[1].input_layernorm
    layer.forward = lambda hidden: 2 * type(layer).forward(layer, hidden)
    assert make_lean(model) == 7
