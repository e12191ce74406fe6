"""What models take: counted parameters, a cache that was measured, speeds in turn, and the table of a report."""

from typing import Any

import pytest
import torch

from dante.evaluate.footprint.weigh import speeds, spread, weigh
from dante.models.moe.registry import ADAPTERS
from dante.report.one_run import footprint
from dante.report.read import Run
from dante.students.dense_form import decoder_layers
from tests.tiny_mixtures import KINDS, tiny_mixture


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_goes_through_everything_but_the_experts_that_it_does_not_choose(kind: str) -> None:
    model = tiny_mixture(kind)
    weight = weigh(model)
    assert weight.resident == sum(parameter.numel() for parameter in model.parameters())
    expert = idle = 0
    for number in ADAPTERS[kind].sparse_layers(model.config):
        block = ADAPTERS[kind].block(decoder_layers(model)[number])
        unit = block.expert(0)
        expert = 3 * unit.gate.numel() + (0 if unit.gate_bias is None else 2 * unit.size + unit.gate.shape[1])
        idle += (block.experts - block.top_k) * expert
    assert idle > 0
    assert weight.active == weight.resident - idle


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "deepseek_v3"])  # its heads have two parts
def test_the_cache_of_a_token_is_keys_and_values_of_every_layer(kind: str) -> None:
    config: Any = tiny_mixture(kind).config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert (
        weigh(tiny_mixture(kind)).cache_bytes == 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * width
    )


def test_models_take_turns_and_the_first_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"one": tiny_mixture("mixtral"), "two": tiny_mixture("glm4_moe")}
    asked, told = [], []
    for name, model in models.items():
        monkeypatch.setattr(
            model, "generate", lambda ids, name=name, **options: asked.append((name, ids.shape[1], options))
        )
    found = speeds(models, prompt_tokens=5, new_tokens=3, repeats=2, tell=lambda: told.append(1))
    assert [name for name, _, _ in asked] == ["one", "two"] * 3
    assert all(tokens == 5 and options["max_new_tokens"] == 3 for _, tokens, options in asked)
    assert len(told) == 6
    assert {name: len(rates) for name, rates in found.items()} == {"one": 2, "two": 2}
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "slowest": 1.0, "fastest": 3.0}


def test_as_many_tokens_are_written_as_were_asked_for() -> None:
    model = tiny_mixture("mixtral")
    written: list[int] = []
    forward = model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        written.append(1)
        return forward(*args, **kwargs)

    model.forward = counted  # type: ignore[method-assign]
    torch.manual_seed(0)
    speeds({"one": model}, prompt_tokens=4, new_tokens=6, repeats=1, tell=lambda: None)
    assert len(written) == 12


def test_the_report_shows_what_was_measured_and_nothing_else() -> None:
    row = {
        "resident": 1_000_000,
        "active": 900_000,
        "bf16_bytes": 2_000_000,
        "fp8_bytes": 1_000_000,
        "cache_bytes": 512,
    }
    measured = {"new_tokens": 4, "prompt_tokens": 8, "repeats": 3, "precision": "fp32", "device": "CPU", "threads": 2}
    rows = [
        {"model": "teacher", **row, "tokens_per_s": {"median": 20.0}},
        {"model": "release-padded", **row, "tokens_per_s": {"median": 30.0}},
    ]
    run = Run(footprint={"rows": rows, "measured": measured})
    first, second = footprint.rows(run)
    assert (first["model"], first["resident"], first["bf16"], first["times"]) == (
        "teacher",
        "1,000,000",
        "2.0 MB",
        "1.00",
    )
    assert (second["model"], second["times"]) == ("student, padded to dense layers", "1.50")
    assert "4 tokens behind 8" in footprint.note(run)
    assert footprint.rows(Run()) == []
    assert footprint.note(Run()) == ""
