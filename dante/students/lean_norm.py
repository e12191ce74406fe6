"""RMSNorm on a CPU under bf16 autocast, in a third of the memory traffic of the layers that transformers ships.

A layer of transformers makes an fp32 result, which autocast then rounds to bf16 once for each of the matrices that
read it (three for attention, two for an MLP), keeps every copy for backward and sums as many fp32 gradients. Here the
result is rounded once, by the norm; its input and 1/rms are all that is kept. Values are the same to the bit (w·x/rms
in fp32, then rounded); the readers' gradients are summed in bf16 instead of fp32 [I].

Only norms whose readers are all matrices are replaced: one that a router reads in fp32 stays. In fp32, in evaluation
without autocast and on other devices the layer's own code runs.
"""

from types import MethodType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel


def make_lean(student: PreTrainedModel) -> int:
    """Replace the block norms of a student, in place; its weights and their names stay.

    Returns:
        how many.
    """
    replaced = 0
    for block in student.modules():
        for name, reader in (("input_layernorm", "self_attn.q_proj"), ("post_attention_layernorm", "mlp.gate_proj")):
            norm = getattr(block, name, None)
            if isinstance(norm, nn.Module) and _is_plain(norm) and isinstance(_find(block, reader), nn.Linear):
                norm.forward = MethodType(_forward, norm)
                replaced += 1
    return replaced


def _is_plain(norm: Any) -> bool:
    """Whether a layer computes w·x/rms(x), as far as one random input tells."""
    if not (hasattr(norm, "variance_epsilon") and [name for name, _ in norm.named_parameters()] == ["weight"]):
        return False
    if norm.weight.device.type != "cpu" or norm.weight.dtype != torch.float32:
        return False
    x = torch.randn(2, norm.weight.shape[0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, computed = norm(x), rms_norm(x, norm.weight, norm.variance_epsilon, torch.float32)
    return torch.allclose(expected, computed, rtol=1e-5, atol=1e-6)


def _find(block: nn.Module, path: str) -> Any:
    module: Any = block
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def _forward(norm: Any, hidden_states: Tensor) -> Tensor:
    autocast = torch.is_autocast_enabled("cpu") and hidden_states.device.type == "cpu"
    if not (autocast and hidden_states.dtype == norm.weight.dtype == torch.float32):
        result: Tensor = type(norm).forward(norm, hidden_states)
        return result
    return rms_norm(hidden_states, norm.weight, norm.variance_epsilon, torch.get_autocast_dtype("cpu"))


def rms_norm(
    x: Float[Tensor, "*rows width"], weight: Float[Tensor, " width"], epsilon: float, dtype: torch.dtype
) -> Float[Tensor, "*rows width"]:
    """w · x / √(mean(x²) + ε), computed in fp32 and rounded once to `dtype`."""
    result: Tensor = _RMSNorm.apply(x, weight, epsilon, dtype)
    return result


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        scale = x.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        normed = x * scale
        product = upstream[0] * normed
        d_weight = product.flatten(0, -2).sum(0)
        mean = (product @ weight).div_(weight.numel()).unsqueeze(-1)
        d_x = torch.mul(upstream[0], weight, out=product).addcmul_(normed, mean, value=-1.0).mul_(scale)
        return d_x, d_weight, None, None
