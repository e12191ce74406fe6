"""Matrix products with rounded operands and an fp32 result."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dante.losses.vocabulary import mkl


@dataclass(frozen=True)
class Matmul:
    """Products whose operands are rounded to `dtype` and whose sums and results are fp32.

    With `dtype=torch.bfloat16` a CUDA device and a CPU with MKL (`mkl.py`) are given bf16 operands and an fp32 output.
    Any other CPU is given fp32 operands and told to round them itself (oneDNN's bf16 mode); one without
    bf16 instructions then computes in plain fp32. With any other dtype products are in the operands' own dtype.

    oneDNN's mode takes about twice the time of bf16 operands, whose result it gives in bf16 only. `rounded_product` is
    for a result that may be rounded: autocast rounds it too.
    """

    dtype: torch.dtype
    device: torch.device

    @property
    def _rounds(self) -> bool:
        return self.dtype == torch.bfloat16

    @property
    def _rounds_itself(self) -> bool:
        """Whether operands stay fp32 and the CPU rounds them as it multiplies."""
        return self._rounds and self.device.type == "cpu" and not mkl.chosen()

    def operand(self, tensor: Tensor, sums: torch.dtype) -> Tensor:
        """Prepare a matrix that is used in several products whose sums are in `sums`."""
        return tensor.to(self._operand_dtype(sums))

    def _operand_dtype(self, sums: torch.dtype) -> torch.dtype:
        """What an `operand` is stored in."""
        return self.dtype if self._rounds and not self._rounds_itself and sums == torch.float32 else sums

    def narrow(self, operand: Tensor) -> Tensor:
        """Prepare an operand for `rounded_product`: what oneDNN multiplies fastest, where torch gives it to oneDNN."""
        takes = self._rounds_itself and operand.dtype == torch.float32 and mkl.onednn_takes_bf16()
        return operand.to(self.dtype) if takes else operand

    def rounded_product(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """out = a @ b of `narrow` operands; where these are not `operand`s as they are, the result is rounded."""
        if self._rounds_itself and a.dtype != out.dtype:
            out.copy_(a @ b)
        else:
            self.product(a, b, out)

    def product(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """out = a @ b."""
        if a.dtype == out.dtype:
            with self.mode():
                torch.mm(a, b, out=out)
        elif self.device.type == "cpu":
            mkl.product(a, b, out)
        else:
            torch.mm(a, b, out_dtype=out.dtype, out=out)

    def accumulate(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """out += a @ b, in place."""
        if a.dtype == out.dtype:
            with self.mode():
                out.addmm_(a, b)
        elif self.device.type == "cpu":
            mkl.product(a, b, out, add=True)
        else:
            torch.addmm(out, a, b, out_dtype=out.dtype, out=out)

    @contextmanager
    def mode(self) -> Iterator[None]:
        """A CPU rounds fp32 operands of products inside itself: for products that `product` does not offer."""
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
