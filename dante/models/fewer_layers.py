"""A decoder config that describes some of its layers: their number, and everything that is said layer by layer."""

from collections.abc import Sequence

from transformers import PreTrainedConfig

# Lists of layer numbers rather than lists with one entry per layer.
_LAYER_NUMBER_LISTS = ("mlp_only_layers",)
# Lists with one entry per layer are called so.
_PER_LAYER = ("layer_types", "_per_layer")


def describe_layers(config: PreTrainedConfig, kept: Sequence[int]) -> None:
    """Make `config`, in place, describe the kept layers as a model of its own.

    Without it a reloaded SmolLM3 would put its layers without positions elsewhere, and a GLM-4.5 its dense ones.

    Args:
        config: of a decoder.
        kept: ascending numbers of the kept layers.
    """
    before = config.num_hidden_layers
    _sparse_by_step(config)
    for name, value in list(vars(config).items()):
        if not isinstance(value, list | tuple):
            continue
        if name in _LAYER_NUMBER_LISTS:
            setattr(config, name, [new for new, old in enumerate(kept) if old in value])
        elif len(value) == before and (name == "no_rope_layers" or name.endswith(_PER_LAYER)):
            setattr(config, name, [value[index] for index in kept])
    if hasattr(config, "first_k_dense_replace"):
        config.first_k_dense_replace = sum(index < config.first_k_dense_replace for index in kept)
    config.num_hidden_layers = len(kept)


def _sparse_by_step(config: PreTrainedConfig) -> None:
    """Every n-th layer sparse is said by the layers' numbers, which change: it becomes the list of dense ones."""
    step = getattr(config, "decoder_sparse_step", 1)
    if step == 1:
        return
    dense = [number for number in range(config.num_hidden_layers) if (number + 1) % step]
    config.mlp_only_layers = sorted({*config.mlp_only_layers, *dense})
    config.decoder_sparse_step = 1
