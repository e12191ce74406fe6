"""Linear layers in bf16 on a CPU whose bf16 products torch would emulate: MKL's product takes their place.

Without bf16 instructions torch multiplies bf16 matrices at 1 to 10 GFLOP/s, where fp32 reaches 60 to 70 per core; MKL
multiplies them at fp32's rate (`dante.losses.vocabulary.mkl`). Results are rounded to bf16 once, from fp32 sums, as by
autocast; the gradient of an fp32 weight stays in fp32, which autocast would round. On CPUs that multiply bf16
themselves, in fp32 and on other devices the layer's own code runs.

A product is an operator of torch's, so that recomputation and compilation know it.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from dante.losses.vocabulary import mkl


def avoid_emulation(model: nn.Module) -> int:
    """Let a model's linear layers multiply bf16 by MKL where torch would emulate it, in place.

    Returns:
        how many.
    """
    if not mkl.avoids_emulation():
        return 0
    layers = [module for module in model.modules() if type(module) is nn.Linear and module.weight.device.type == "cpu"]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]
    return len(layers)


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    rounds = autocast or x.dtype == layer.weight.dtype == torch.bfloat16
    # One row is no product of matrices: torch has a loop for that which is faster.
    if not rounds or x.device.type != "cpu" or x.numel() <= layer.in_features:
        return type(layer).forward(layer, x)
    result: Tensor = _Linear.apply(x.bfloat16(), layer.weight, layer.bias)
    return result


@torch.library.custom_op("dante::bf16_product", mutates_args=())
def product(a: Tensor, b: Tensor, rounded: bool) -> Tensor:  # torch reads its schema from these annotations
    """[rows, inner] @ [inner, columns], bf16, with fp32 sums; the result is fp32 or, `rounded`, bf16."""
    out = torch.empty(a.shape[0], b.shape[1])
    mkl.product(a, b, out)
    return out.bfloat16() if rounded else out


@product.register_fake
def _(a: Tensor, b: Tensor, rounded: bool) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1], dtype=torch.bfloat16 if rounded else torch.float32)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows_ND, weight_OD = x.flatten(0, -2).contiguous(), weight.bfloat16()
        ctx.save_for_backward(rows_ND, weight_OD)
        ctx.shape, ctx.dtypes = x.shape, (weight.dtype, bias.dtype if bias is not None else None)
        if bias is None:
            result_NO = product(rows_ND, weight_OD.T, True)
        else:
            result_NO = product(rows_ND, weight_OD.T, False).add_(bias.bfloat16()).bfloat16()
        return result_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        rows_ND, weight_OD = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        d_NO = upstream[0].flatten(0, -2).contiguous()
        d_x = product(d_NO, weight_OD, True).view(ctx.shape) if needs_x else None
        d_weight = product(d_NO.T, rows_ND, False).to(ctx.dtypes[0]) if needs_weight else None
        d_bias = d_NO.float().sum(0).to(ctx.dtypes[1]) if needs_bias else None
        return d_x, d_weight, d_bias
