"""A model one layer at a time gives the whole model's hidden states, whatever its layers are."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from dante.errors import DanteError
from dante.models.fewer_layers import describe_layers
from dante.models.moe.registry import ADAPTERS
from dante.models.one_layer import LayerByLayer, run_layer
from dante.models.pretrained import Source
from dante.students.dense_form import decoder_layers
from dante.students.init.keep_layers import keep_layers
from tests.tiny_mixtures import KINDS, difference, logits, tiny_mixture, tokens


@pytest.mark.parametrize("kind", KINDS)
def test_layer_by_layer_is_the_whole_model(kind: str, tmp_path: Path) -> None:
    model = tiny_mixture(kind)
    # Several files, so that an index is read.
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    adapter, texts = ADAPTERS[kind], list(tokens())
    shown: dict[int, torch.Tensor] = {}
    for number in adapter.sparse_layers(model.config):
        part = adapter.parts(decoder_layers(model)[number])[0]
        part.register_forward_pre_hook(lambda _, inputs, n=number: shown.__setitem__(n, inputs[0]))
    with torch.no_grad():
        want = model(input_ids=tokens(), use_cache=False, output_hidden_states=True).hidden_states
    layers = LayerByLayer(Source(tmp_path, "teacher"), torch.float32)
    states = texts
    for number in range(len(layers)):
        one = layers.load(number)
        layer = decoder_layers(one)[0]
        sparse = number in shown
        run = list(run_layer(one, states, number == 0, adapter.parts(layer)[:1] if sparse else ()))
        states = [output for output, _ in run]
        if sparse:
            assert difference(torch.stack([seen[0] for _, seen in run]), shown[number]) < 1e-5
        if number + 1 < len(layers):  # transformers puts the final norm over the last
            assert difference(torch.stack(states), want[number + 1]) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [[0, 2], [1, 2], [2]])
def test_some_layers_are_a_model_that_loads(kind: str, kept: list[int], tmp_path: Path) -> None:
    """Which layers are sparse, how many heads they have, what they attend to: all of it follows the kept ones."""
    model = keep_layers(tiny_mixture(kind), kept)
    model.save_pretrained(tmp_path)
    assert difference(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(model)) < 1e-6


def test_every_second_layer_sparse_stays_so() -> None:
    model = tiny_mixture("qwen3_moe", decoder_sparse_step=2, mlp_only_layers=[], num_hidden_layers=6)
    config, adapter = copy.deepcopy(model.config), ADAPTERS["qwen3_moe"]
    assert adapter.sparse_layers(config) == [1, 3, 5]
    describe_layers(config, [0, 3, 4, 5])
    assert adapter.sparse_layers(config) == [1, 3]


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    model = tiny_mixture("olmoe")
    state = {name: tensor for name, tensor in model.state_dict().items() if "layers.1.mlp.gate" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    layers = LayerByLayer(Source(tmp_path, "teacher.make.model"), torch.float32)
    layers.load(0)
    with pytest.raises(DanteError, match="layer 1 are missing.*gate") as caught:
        layers.load(1)
    assert caught.value.where == "teacher.make.model"
