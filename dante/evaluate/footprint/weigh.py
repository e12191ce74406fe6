"""What a model takes and how fast it answers: parameters, bytes, cache per token, tokens per second.

`resident` are all parameters, `active` those that a token goes through: of a sparse block the experts that it chooses.
Bytes are of the weights alone. The cache is what `transformers` keeps of a token, in bf16.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from dante.models.moe.registry import ADAPTERS
from dante.students.dense_form import decoder_layers

_BF16, _FP8 = 2, 1


@dataclass(frozen=True)
class Weight:
    """Of one model.

    Attributes:
        resident: parameters; a tied head counts once.
        active: parameters that a token goes through.
        cache_bytes: that a token leaves behind, in bf16.
    """

    resident: int
    active: int
    cache_bytes: int

    def facts(self) -> dict[str, int]:
        """As they are written."""
        sizes = {"bf16_bytes": _BF16 * self.resident, "fp8_bytes": _FP8 * self.resident}
        return {"resident": self.resident, "active": self.active, **sizes, "cache_bytes": self.cache_bytes}


def weigh(model: PreTrainedModel) -> Weight:
    """Count a model's parameters, and what its cache keeps of a token."""
    resident = sum(parameter.numel() for parameter in model.parameters())
    return Weight(resident, resident - _idle(model), _cache_bytes(model))


def _idle(model: PreTrainedModel) -> int:
    """Parameters of the experts that a token does not choose."""
    config: Any = model.config.get_text_config(decoder=True)
    adapter = ADAPTERS.get(config.model_type)
    if adapter is None:
        return 0
    idle = 0
    for number in adapter.sparse_layers(config):
        block = adapter.block(decoder_layers(model)[number])
        idle += sum(block.expert(expert).parameters for expert in range(block.top_k, block.experts))
    return idle


@torch.no_grad()
def _cache_bytes(model: PreTrainedModel) -> int:
    """Measured: what three tokens more leave behind, of each."""
    ids = torch.zeros(1, 7, dtype=torch.int64, device=model.device)
    entries = [_cache_entries(model(input_ids=ids[:, :tokens], use_cache=True).past_key_values) for tokens in (4, 7)]
    return _BF16 * (entries[1] - entries[0]) // 3


def _cache_entries(cache: Any) -> int:
    return sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)


def speeds(
    models: Mapping[str, PreTrainedModel], prompt_tokens: int, new_tokens: int, repeats: int, tell: Callable[[], None]
) -> dict[str, list[float]]:
    """New tokens per second of each model, one answer at a time, greedily; models take turns.

    Args:
        models: by name, on their device.
        prompt_tokens: read before; their time counts.
        new_tokens: written.
        repeats: turns; a first one is not counted.
        tell: called after every measurement.
    """
    found: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(repeats + 1):
        for name, model in models.items():
            rate = _rate(model, prompt_tokens, new_tokens)
            found[name] += [rate] * bool(turn)
            tell()
    return found


def _rate(model: PreTrainedModel, prompt_tokens: int, new_tokens: int) -> float:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (1, prompt_tokens), generator=generator).to(model.device)
    _wait(model)
    began_s = time.perf_counter()
    model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=new_tokens, max_new_tokens=new_tokens
    )  # type: ignore[operator]
    _wait(model)
    return new_tokens / (time.perf_counter() - began_s)


def _wait(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def spread(rates: list[float]) -> dict[str, float]:
    """Median, slowest and fastest, as they are written."""
    return {"median": statistics.median(rates), "slowest": min(rates), "fastest": max(rates)}
