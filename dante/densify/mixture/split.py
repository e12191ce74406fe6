"""A dense teacher as a mixture of experts: a real one for a machine that no real one fits on.

Every MLP is split without training: its most active neurons become the shared expert, the others routed experts of
equal size, and a ridge regression the router. Nothing is lost: with all experts on it is the dense model. It is stored
as a stock `glm4_moe` (sigmoid router with a bias that selects, shared expert, scaling).
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Glm4MoeConfig, Glm4MoeForCausalLM, LlamaConfig

from dante.densify.mixture.neurons import activity, balanced_clusters, most_active
from dante.densify.mixture.router import fit_router
from dante.densify.texts import train_texts
from dante.errors import DanteError
from dante.models.moe.adapters.packed import mlp_unit
from dante.models.moe.glu import Glu
from dante.models.one_layer import LayerByLayer, run_layer
from dante.models.pretrained import Source
from dante.students.dense_form import decoder_layers
from dante.students.init.copying import copied_layers
from dante.teachers.teacher import Teacher, load_teacher, sha256_of_weights
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer

WHERE = "teacher.make"
# Neurons are numbers that torch's grouped product takes in rows of 16 bytes.
_ROWS = 8


class SplitExperts:
    """Splits the llama of the step's input `dense`, looking at train answers of the input `cache`.

    Args:
        name: of the mixture.
        shared: neurons of the shared expert.
        experts: routed experts.
        top_k: of a token.
        tokens: calibration tokens.
        max_tokens: of one answer.
        ridge: penalty of the router's regression, in units of the mean of the diagonal.
        seed: of the order of answers and the first centres.

    Raises:
        DanteError: the experts do not divide the neurons, or more are chosen than there are.
    """

    def __init__(
        self, name: str, shared: int, experts: int, top_k: int, tokens: int, max_tokens: int, ridge: float, seed: int
    ) -> None:
        if not 0 < top_k <= experts:
            raise DanteError(
                f"{top_k} of {experts} experts cannot be chosen",
                where=f"{WHERE}.top_k",
                allowed=f"1 to {experts}",
                fix=f"{WHERE}.top_k={min(max(top_k, 1), experts)}",
            )
        if shared <= 0 or shared % _ROWS:
            raise DanteError(
                f"a shared expert of {shared} neurons",
                where=f"{WHERE}.shared",
                allowed=f"a multiple of {_ROWS} above 0",
                fix=f"{WHERE}.shared={max(_ROWS, shared // _ROWS * _ROWS)}",
            )
        self.name, self.shared, self.experts, self.top_k = name, shared, experts, top_k
        self.tokens, self.max_tokens, self.ridge, self.seed = tokens, max_tokens, ridge, seed

    def make_from(self, inputs: Mapping[str, Path], out: Path) -> Teacher:
        """Writes `model/` and `teacher.json` under `out`; what an interrupted attempt left is replaced.

        Args:
            inputs: `dense`, the step of a llama; `cache`, answers for it.
            out: the step's directory.

        Raises:
            DanteError: an input is missing, the dense teacher is no llama, or its MLP cannot be split so.
        """
        dense, name = self._dense(inputs)
        folder, partial = out / "model", out / "model.partial"
        for leftover in (folder, partial):
            shutil.rmtree(leftover, ignore_errors=True)
        layers = LayerByLayer(Source(name, WHERE, dense.revision), torch.float32)
        tokenizer = load_tokenizer(name, dense.revision, WHERE)
        model = Glm4MoeForCausalLM(self._config(layers.config))
        texts = train_texts(inputs["cache"], ChatRenderer(tokenizer), self.tokens, self.max_tokens, self.seed)
        self._split(layers, model, texts.ids)
        # In what the dense teacher's weights are stored in they are the same numbers.
        torch.nn.Module.to(model, layers.config.dtype or torch.float32)
        model.generation_config = _generation_config(name, dense.revision)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        os.replace(partial, folder)
        digest = sha256_of_weights(folder)
        teacher = Teacher(self.name, "model", True, None, dense.licence, digest, chat_template=True)
        teacher.write(out)
        return teacher

    def _dense(self, inputs: Mapping[str, Path]) -> tuple[Teacher, str]:
        missing = [name for name in ("dense", "cache") if name not in inputs]
        if missing:
            raise DanteError(
                f"the step has no input {missing[0]!r}",
                where="steps.teacher.inputs",
                allowed="dense (a teacher step), cache (answers)",
                fix="take the recipe that has them: +experiment=laguna_dense",
            )
        handle = load_teacher(inputs["dense"])
        return handle, handle.location(inputs["dense"])

    def _config(self, dense: Any) -> Glm4MoeConfig:
        if not isinstance(dense, LlamaConfig):
            raise DanteError(
                f"a {dense.model_type} cannot be split into the experts of a glm4_moe",
                where=WHERE,
                allowed="a llama: SmolLM2-135M-Instruct, or the smoke teacher",
                fix="teacher=smollm2_mixture",
            )
        left = dense.intermediate_size - self.shared
        size = left // self.experts
        if left <= 0 or left % self.experts or size % _ROWS or self.shared % size:
            raise DanteError(
                f"{dense.intermediate_size} neurons are not {self.shared} shared ones and {self.experts} experts",
                where=f"{WHERE}.experts",
                allowed=f"experts of equal size, a multiple of {_ROWS} that divides the shared neurons",
                fix=f"{WHERE}.shared={dense.intermediate_size // 2} {WHERE}.experts=4",
            )
        rope: Any = dense.rope_parameters
        values: dict[str, Any] = {
            "vocab_size": dense.vocab_size,
            "hidden_size": dense.hidden_size,
            "intermediate_size": dense.intermediate_size,
            "moe_intermediate_size": size,
            "num_hidden_layers": dense.num_hidden_layers,
            "num_attention_heads": dense.num_attention_heads,
            "num_key_value_heads": dense.num_key_value_heads,
            "head_dim": dense.head_dim,
            "max_position_embeddings": dense.max_position_embeddings,
            "rms_norm_eps": dense.rms_norm_eps,
            "tie_word_embeddings": dense.tie_word_embeddings,
            "rope_parameters": dict(rope) | {"partial_rotary_factor": 1.0},
            "n_routed_experts": self.experts,
            "num_experts_per_tok": self.top_k,
            "n_shared_experts": self.shared // size,
            "routed_scaling_factor": float(self.top_k),
            "first_k_dense_replace": 0,
            "num_mtp_layers": 0,
            "use_qk_norm": False,
            "bos_token_id": dense.bos_token_id,
            "eos_token_id": dense.eos_token_id,
            "pad_token_id": dense.pad_token_id,
        }
        return Glm4MoeConfig(**values)

    def _split(self, layers: LayerByLayer, model: Any, texts: list[Tensor]) -> None:
        states = texts
        with torch.no_grad():
            for number, one, ours in copied_layers(layers, model, "teacher: layers split"):
                mlp: Any = decoder_layers(one)[0].mlp
                run = list(run_layer(one, states, number == 0, [mlp]))
                states = [after for after, _ in run]
                self._fill(ours.mlp, mlp_unit(mlp), torch.cat([seen for _, (seen,) in run]), number)

    def _fill(self, block: Any, unit: Glu, inputs_TD: Tensor, layer: int) -> None:
        """Write the experts and the router of one block."""
        activity_TN = activity(unit, unit.hidden(inputs_TD))
        shared, others = most_active(activity_TN, self.shared)
        clusters = balanced_clusters(activity_TN[:, others], self.experts, seed=self.seed + layer)
        _write(mlp_unit(block.shared_experts), unit, shared)
        loudness = []
        for expert, cluster in enumerate(clusters):
            neurons = others[cluster]
            gate, up = block.experts.gate_up_proj[expert].chunk(2)
            there = Glu(gate, up, block.experts.down_proj[expert], unit.activation)
            _write(there, unit, neurons)
            loudness.append(there(inputs_TD).norm(dim=1))
        router = fit_router(inputs_TD, torch.stack(loudness, dim=1), self.ridge)
        block.gate.weight.copy_(router.weight)
        block.gate.e_score_correction_bias.copy_(router.bias)


def _write(there: Glu, unit: Glu, neurons: Tensor) -> None:
    there.gate.copy_(unit.gate[neurons])
    there.up.copy_(unit.up[neurons])
    there.down.copy_(unit.down[:, neurons])


def _generation_config(name: str, revision: str | None) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig.from_pretrained(name, revision=revision or "main")
