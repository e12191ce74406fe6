"""The machine's matrix-product peak: `python benchmarks/gemm.py --model FOLDER [--tokens 1024] [--threads N]`.

Two rates per precision: a large square product, which is what the machine can do, and the products of one training
step of a model (every linear layer on `tokens` rows, the LM head on the supervised ones; forward, gradient of the
input, gradient of the weight), which is what is left of it at the model's own shapes. bf16 products have bf16 results,
as under autocast. Nothing but products: no attention, no norms, no loss, no optimizer.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import machine, spread

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SQUARE = 4096


@dataclass(frozen=True)
class Product:
    """`times` products of [rows, inner] and [inner, columns]; `transposed`: which operand lies the other way round."""

    rows: int
    inner: int
    columns: int
    transposed: str
    times: int = 1

    @property
    def flops(self) -> float:
        return 2.0 * self.rows * self.inner * self.columns * self.times


def step_products(model: torch.nn.Module, tokens: int, supervised_tokens: int) -> list[Product]:
    """The products of one step's forward and backward, equal ones together.

    Args:
        model: a causal language model, on the meta device too.
        tokens: rows of every linear layer but the LM head.
        supervised_tokens: rows of the LM head.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    found: Counter[Product] = Counter()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            rows, into, out = supervised_tokens if layer is head else tokens, layer.in_features, layer.out_features
            found[Product(rows, into, out, "b")] += 1  # x @ Wᵀ, W stored [out, in]
            found[Product(rows, out, into, "")] += 1  # ∂y @ W
            found[Product(out, rows, into, "a")] += 1  # ∂yᵀ @ x
    return [Product(p.rows, p.inner, p.columns, p.transposed, times) for p, times in found.items()]


def seconds_of(products: Sequence[Product], dtype: torch.dtype, device: str = "cpu") -> float:
    """Time of all products, each run as often as it stands there, one after the other."""
    total = 0.0
    for product in products:
        shapes = {"a": (product.rows, product.inner), "b": (product.inner, product.columns)}
        a, b = (
            torch.randn(shape[::-1], dtype=dtype, device=device).T
            if name == product.transposed
            else torch.randn(shape, dtype=dtype, device=device)
            for name, shape in shapes.items()
        )
        out = torch.empty(product.rows, product.columns, dtype=dtype, device=device)
        torch.mm(a, b, out=out)  # warm-up: the kernel is chosen here
        _wait(device)
        start = time.perf_counter()
        for _ in range(product.times):
            torch.mm(a, b, out=out)
        _wait(device)
        total += time.perf_counter() - start
    return total


def rate(products: Sequence[Product], dtype: torch.dtype, device: str = "cpu") -> float:
    """FLOP/s over all products."""
    return sum(product.flops for product in products) / seconds_of(products, dtype, device)


def square(size: int = SQUARE) -> list[Product]:
    """One large square product."""
    return [Product(size, size, size, "")]


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face folder; only its config is read")
    parser.add_argument("--tokens", type=int, default=1024, help="rows of every linear layer")
    parser.add_argument("--supervised-tokens", type=int, default=512, help="rows of the LM head")
    parser.add_argument("--size", type=int, default=SQUARE, help="of the square product")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    step = step_products(skeleton(options.model), options.tokens, options.supervised_tokens)
    result = {"machine": machine(options.threads), "gflops": {}}
    for name, dtype in DTYPES.items():
        for what, products in ((f"square {options.size}", square(options.size)), ("step", step)):
            rates = [rate(products, dtype, options.device) / 1e9 for _ in range(options.repeats)]
            result["gflops"][f"{name} {what}"] = {key: round(value, 1) for key, value in spread(rates).items()}
            print(f"{name} {what}: {result['gflops'][f'{name} {what}']}", file=sys.stderr)
    print(json.dumps(result, indent=1))
    return 0


def skeleton(folder: str | Path) -> torch.nn.Module:
    """The model of a folder on the meta device: shapes without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(folder)))


if __name__ == "__main__":
    sys.exit(main())
