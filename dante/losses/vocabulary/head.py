"""The LM head of a causal language model: what turns hidden states into logits."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from dante.errors import DanteError

# How configs name a factor on the logits, and whether it divides.
_MULTIPLIERS = {"logit_scale": False, "lm_head_multiplier": False, "logits_scaling": True}
# HyperCLOVA X multiplies by what Granite, under the same name, divides by.
_MULTIPLIES_DESPITE_NAME = {"hyperclovax"}


@dataclass(frozen=True)
class Head:
    """logits = softcap(multiplier · hidden @ weightᵀ + bias), softcap(u) = c·tanh(u/c) where the model has one.

    Attributes:
        weight: shape [vocab, width].
        bias: shape [vocab] or None.
        multiplier: factor on the product.
        softcap: c, or None.
    """

    weight: Float[Tensor, "vocab width"]
    bias: Float[Tensor, " vocab"] | None = None
    multiplier: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Head":
        """The head of a causal language model, with the scale and softcap that its config names.

        Raises:
            DanteError: the model has no linear head.
        """
        linear = model.get_output_embeddings()
        if not isinstance(linear, nn.Linear):
            raise DanteError(
                f"{type(model).__name__} has no linear LM head", allowed="causal language models with an nn.Linear head"
            )
        config = model.config.get_text_config()
        multiplier = 1.0
        for name, divides in _MULTIPLIERS.items():
            value = getattr(config, name, None)
            if value is not None:
                divides = divides and config.model_type not in _MULTIPLIES_DESPITE_NAME
                multiplier *= 1.0 / value if divides else value
        return cls(linear.weight, linear.bias, multiplier, getattr(config, "final_logit_softcapping", None))

    def on(self, device: torch.device) -> "Head":
        """The same head on a device."""
        return replace(
            self, weight=self.weight.to(device), bias=self.bias.to(device) if self.bias is not None else None
        )

    def logits(self, hidden: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens vocab"]:
        """The logits of a few tokens, whole, in the weight's dtype."""
        logits = nn.functional.linear(hidden.to(self.weight.dtype) * self.multiplier, self.weight, self.bias)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Compare `Head.of(model)` with the model's own logits on four tokens.

    Raises:
        DanteError: they differ: the model does something to its logits that the lab does not know.
    """
    head = Head.of(model)
    ids = torch.arange(4, device=head.weight.device)[None] % head.weight.shape[0]
    was_training = model.training
    model.eval()
    model_logits = model(input_ids=ids, use_cache=False).logits[0].float()
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    model.train(was_training)
    head_logits = head.logits(hidden).float()
    if model_logits.shape != head_logits.shape or not torch.allclose(
        model_logits, head_logits, rtol=2e-2, atol=2e-2 * float(model_logits.abs().max())
    ):
        raise DanteError(
            f"{type(model).__name__} changes its logits in a way that this lab does not know",
            allowed="a linear head with bias, logits_scaling, logit_scale, lm_head_multiplier, final_logit_softcapping",
            fix="teach dante/losses/vocabulary/head.py this architecture",
        )
