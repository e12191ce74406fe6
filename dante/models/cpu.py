"""What a model that was loaded onto a CPU is told, so that its products run at the rate that the CPU has."""

from transformers import PreTrainedModel

from dante.models.mkl_linear import avoid_emulation
from dante.models.moe.every_expert import run_every_expert


def suit_cpu(model: PreTrainedModel) -> None:
    """Changes how, not what a model computes, in place; a model on another device stays as it is."""
    avoid_emulation(model)
    run_every_expert(model)
