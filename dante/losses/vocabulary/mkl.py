"""bf16 × bf16 → fp32 on an x86 CPU: MKL's `cblas_gemm_bf16bf16f32`, which torch carries and does not offer.

torch's own bf16 products have bf16 results, and without bf16 instructions it emulates them element by element. MKL
multiplies bf16 operands, sums in fp32 and can add to a matrix in place; it uses AVX512-BF16 and AMX where an Intel CPU
has them [S: oneMKL reference], and fp32's own kernels elsewhere. Two AVX2 cores reach fp32's rate with it; with
AVX512-BF16 or AMX it was not measured.

It is used where the symbol is found and multiplies right, which is checked once per process, and oneDNN would not
multiply bf16 itself: there the two were not compared, and `DANTE_BF16_PRODUCT=mkl` takes it. The choice comes from the
machine and the environment, never from a timing: a run that continues rounds as it did before. Absent on Arm, macOS,
Windows.

Results are equal from run to run, and with one and two threads except where a matrix is a few rows or columns wide, as
in fp32.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dante.errors import DanteError

# Environment: which product bf16 operands go through, where both are there.
CHOICE = "DANTE_BF16_PRODUCT"
_SYMBOL = "cblas_gemm_bf16bf16f32"
_ROW_MAJOR, _AS_IT_LIES, _TRANSPOSED = 101, 111, 112
# MKL's integers have 32 bits in torch; where the callee reads half of these it reads the same number.
_INT = ctypes.c_int64
_MATRIX = (ctypes.c_void_p, _INT)
_SIGNATURE = [*3 * [ctypes.c_int], *3 * [_INT], ctypes.c_float, *_MATRIX, *_MATRIX, ctypes.c_float, *_MATRIX]
# fp32 sums of a few dozen terms; a bf16 result would be a hundred times further off.
_TOLERANCE = 1e-5


def product(a: Tensor, b: Tensor, out: Tensor, add: bool = False) -> None:
    """out = a @ b, or out += a @ b; call it only where it is `available`.

    Args:
        a: [rows, inner], bf16; contiguous, transposed, or rows and columns cut out of such a matrix.
        b: [inner, columns], likewise.
        out: [rows, columns], fp32, its rows contiguous.
        add: to what `out` holds.

    Raises:
        ValueError: matrices that do not fit each other, or that lie or are stored in another way.
    """
    (rows, inner), columns = a.shape, b.shape[1]
    if b.shape[0] != inner or out.shape != (rows, columns) or out.dtype != torch.float32:
        raise ValueError(f"{list(a.shape)} @ {list(b.shape)} into {list(out.shape)}, {out.dtype}")
    (a_order, a_stride), (b_order, b_stride), (order, stride) = _lie(a), _lie(b), _lie(out)
    if order != _AS_IT_LIES or not a.dtype == b.dtype == torch.bfloat16:
        raise ValueError(f"{a.dtype} × {b.dtype} into strides {out.stride()}")
    if rows == 0 or columns == 0:
        return
    if inner == 0:
        out.mul_(float(add))
        return
    _function()(
        *(_ROW_MAJOR, a_order, b_order, rows, columns, inner, 1.0),
        *(a.data_ptr(), a_stride, b.data_ptr(), b_stride, float(add), out.data_ptr(), stride),
    )


def chosen() -> bool:
    """Whether products of bf16 operands go through MKL in this process."""
    asked = os.environ.get(CHOICE)
    if asked not in (None, "mkl", "torch"):
        raise DanteError(f"{CHOICE}={asked} is no way to multiply", where=CHOICE, allowed="mkl, torch, or unset")
    return asked != "torch" and (asked == "mkl" or not onednn_takes_bf16()) and available()


def avoids_emulation() -> bool:
    """Whether it takes the place of bf16 products that torch would emulate: those of linear layers, too."""
    return not onednn_takes_bf16() and chosen()


def onednn_takes_bf16() -> bool:
    """Else torch multiplies bf16 matrices in a loop of its own, at a thirtieth of fp32's rate."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@functools.cache
def available() -> bool:
    """Whether this process has the product, and it multiplies right."""
    try:
        _function()
    except (OSError, AttributeError):
        return False
    return _multiplies_right(product)


def _multiplies_right(product: Callable[[Tensor, Tensor, Tensor, bool], None]) -> bool:
    """Every way an operand can lie, set and added, one row and one column among the sizes."""
    draw = torch.Generator().manual_seed(0)
    for rows, inner, columns in ((24, 40, 17), (1, 40, 17), (24, 40, 1)):
        a, b, before = (
            torch.randn(shape, generator=draw) for shape in ((rows, inner), (inner, columns), (rows, columns))
        )
        a, b = a.bfloat16(), b.bfloat16()
        for left in (a, _transposed(a)):
            for right in (b, _transposed(b)):
                for add in (False, True):
                    out, exact = before.clone(), left.double() @ right.double() + add * before
                    product(left, right, out, add)
                    if not torch.allclose(out.double(), exact, rtol=0, atol=_TOLERANCE * float(exact.abs().max())):
                        return False
    return True


def _transposed(matrix: Tensor) -> Tensor:
    """The same matrix, its columns one after the other."""
    return matrix.T.clone(memory_format=torch.contiguous_format).T


@functools.cache
def _function() -> Callable[..., None]:
    """Looked up in torch's library and in what that was linked to."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    function: Callable[..., None] = getattr(ctypes.CDLL(str(library)), _SYMBOL)
    function.argtypes, function.restype = _SIGNATURE, None  # type: ignore[attr-defined]
    return function


def _lie(matrix: Tensor) -> tuple[int, int]:
    """Whether a matrix lies row by row, and how far apart its rows (else its columns) begin."""
    (rows, columns), (down, across) = matrix.shape, matrix.stride()
    if (across == 1 or columns <= 1) and (down >= columns or rows <= 1):
        return _AS_IT_LIES, max(down if rows > 1 else columns, 1)
    if (down == 1 or rows <= 1) and (across >= rows or columns <= 1):
        return _TRANSPOSED, max(across if columns > 1 else rows, 1)
    raise ValueError(f"a matrix with strides {matrix.stride()} lies in no order that MKL knows")
