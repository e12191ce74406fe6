"""Matrix products with rounded operands and an fp32 result."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Matmul:
    """Products whose operands are rounded to `dtype` and whose sums and results are fp32.

    With `dtype=torch.bfloat16` a CUDA device is given bf16 operands and an fp32 output. A CPU is given fp32 operands
    and told to round them itself (oneDNN's bf16 mode), which spares every conversion pass; a CPU without bf16
    instructions then computes in plain fp32. With any other dtype products are in the operands' own dtype.

    That mode takes about twice the time of bf16 operands, whose result a CPU gives in bf16 only. `rounded_product` is
    for a result that may be rounded: autocast rounds it too.
    """

    dtype: torch.dtype
    device: torch.device

    @property
    def _rounds(self) -> bool:
        return self.dtype == torch.bfloat16

    def operand(self, tensor: Tensor) -> Tensor:
        """Prepare a matrix that is used in several products."""
        if self._rounds and self.device.type != "cpu" and tensor.dtype == torch.float32:
            return tensor.to(self.dtype)
        return tensor

    def narrow(self, tensor: Tensor) -> Tensor:
        """Prepare a matrix that is an operand of `rounded_product`."""
        return tensor.to(self.dtype) if self._rounds and tensor.dtype == torch.float32 else tensor

    def rounded_product(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """out = a @ b, the result rounded to the operands' dtype on a CPU; both operands are `narrow`."""
        if self.device.type == "cpu" and a.dtype != out.dtype:
            out.copy_(a @ b)
        else:
            self.product(a, b, out)

    def product(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """out = a @ b."""
        with self.mode():
            if a.dtype == out.dtype:
                torch.mm(a, b, out=out)
            else:
                torch.mm(a, b, out_dtype=out.dtype, out=out)

    def accumulate(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """out += a @ b."""
        with self.mode():
            if a.dtype == out.dtype:
                out.addmm_(a, b)
            else:
                torch.addmm(out, a, b, out_dtype=out.dtype, out=out)

    @contextmanager
    def mode(self) -> Iterator[None]:
        """Products inside are computed as `product` does; for products that it does not offer."""
        if not (self._rounds and self.device.type == "cpu"):
            yield
            return
        settings: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before = settings.fp32_precision
        settings.fp32_precision = "bf16"
        try:
            yield
        finally:
            settings.fp32_precision = before
