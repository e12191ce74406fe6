"""Stage `calibration`: the teacher reads some answers layer by layer, and what its experts do is counted.

One layer's weights are in memory at a time, and the hidden states of all texts. An interrupted step continues with the
layer that it had not finished.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dante import console
from dante.densify.calibration.statistics import Gathering
from dante.densify.calibration.store import CalibrationFiles
from dante.densify.texts import train_texts
from dante.errors import DanteError
from dante.models.moe.adapter import Adapter
from dante.models.moe.registry import adapter_for
from dante.models.one_layer import LayerByLayer, run_layer
from dante.models.pretrained import Source
from dante.run.config.schema import Calibration
from dante.run.precision import device_of, dtype_of
from dante.run.step import Step
from dante.students.dense_form import decoder_layers
from dante.system.threads import use_threads
from dante.teachers.teacher import SOURCE, load_teacher
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer

_STATES = "states.safetensors"


def run(step: Step[Calibration]) -> None:
    """Writes the files of `dante.densify.calibration.store`.

    Inputs: `teacher`, a mixture; `cache`, whose train records it reads with its own template.

    Raises:
        DanteError: no adapter for the teacher's architecture, no sparse layer, or no records.
    """
    settings, files = step.settings, CalibrationFiles(step.out)
    step.out.mkdir(parents=True, exist_ok=True)
    use_threads(step.resources["trainer"]["threads"])
    handle = load_teacher(step.inputs["teacher"])
    name = handle.location(step.inputs["teacher"])
    layers = LayerByLayer(Source(name, SOURCE, handle.revision), dtype_of(settings.precision))
    adapter = adapter_for(layers.decoder_config, SOURCE)
    sparse = adapter.sparse_layers(layers.decoder_config)
    if not sparse:
        raise DanteError(
            f"the teacher {handle.name} has no sparse layer",
            where=SOURCE,
            allowed="a mixture of experts",
            fix="a dense teacher needs no calibration: take another recipe, such as +experiment=chat_kd",
        )
    renderer = ChatRenderer(load_tokenizer(name, handle.revision, SOURCE))
    texts = train_texts(step.inputs["cache"], renderer, settings.tokens, settings.max_tokens, settings.seed)
    device = torch.device(device_of(step.resources["trainer"]["accelerator"]))
    _Walk(layers, adapter, set(sparse), files, settings.inputs, device).go([ids.to(device) for ids in texts.ids])
    files.seal(
        {
            "teacher": handle.name,
            "sha256": handle.sha256,
            "architecture": adapter.model_type,
            "sparse_layers": sparse,
            "experts": adapter.experts(layers.decoder_config),
            "top_k": adapter.top_k(layers.decoder_config),
            "tokens": texts.tokens,
            "kept_inputs": min(settings.inputs, texts.tokens),
            "records": texts.records,
            "precision": settings.precision,
            "seed": settings.seed,
        }
    )
    (step.out / _STATES).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Walk:
    """Through the layers, from the first or from where an interrupted step stood."""

    layers: LayerByLayer
    adapter: Adapter
    sparse: set[int]
    files: CalibrationFiles
    kept: int
    device: torch.device

    def go(self, texts: list[Tensor]) -> None:
        first, states = self._begun(texts)
        with console.progress_bar() as bar:
            task = bar.add_task("calibration: layers", total=len(self.layers), completed=first)
            for number in range(first, len(self.layers)):
                states = self._through(number, states)
                self._keep(number + 1, states)
                bar.advance(task)

    def _through(self, number: int, states: list[Tensor]) -> list[Tensor]:
        model: Any = self.layers.load(number)
        model.to(self.device)
        layer = decoder_layers(model)[0]
        if number not in self.sparse:
            return [after for after, _ in run_layer(model, states, number == 0)]
        gathering, after_all, entered_all = Gathering(self.adapter.block(layer)), [], []
        for after, (entered,) in run_layer(model, states, number == 0, self.adapter.parts(layer)[:1]):
            after_all.append(after)
            entered_all.append(entered)
        # All texts at once: an expert's product over one alone is too small to be worth its call.
        entered_TD = torch.cat(entered_all)
        gathering.add(entered_TD)
        self.files.add(number, gathering.result(), entered_TD[: self.kept])
        return after_all

    def _keep(self, layers_done: int, states: list[Tensor]) -> None:
        """What enters the next layer, whole or not at all."""
        path, partial = self.files.folder / _STATES, self.files.folder / f".{_STATES}"
        tensors = {f"text-{index}": state.contiguous().cpu() for index, state in enumerate(states)}
        save_file(tensors | {"layers_done": torch.tensor(layers_done)}, partial)
        os.replace(partial, path)

    def _begun(self, texts: list[Tensor]) -> tuple[int, list[Tensor]]:
        path = self.files.folder / _STATES
        if not path.is_file():
            return 0, texts
        tensors = load_file(path, device=str(self.device))
        return int(tensors["layers_done"]), [tensors[f"text-{index}"] for index in range(len(texts))]
