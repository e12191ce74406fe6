"""Stage `init`: the student before training, as a plain Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dante.errors import DanteError
from dante.models.folder import refuse_quantised
from dante.models.pretrained import STUDENT_SOURCE, check_config, source_of
from dante.run.config.schema import Student
from dante.run.parts import build
from dante.run.step import Step
from dante.students.finite import check_finite
from dante.students.init.base import Init
from dante.students.load import DTYPES, config_from, count_parameters
from dante.teachers.teacher import load_teacher
from dante.text.chat import ChatRenderer
from dante.text.system_prompt import inserted, with_system_prompt
from dante.text.tokenizer import load_tokenizer


def run(step: Step[Student]) -> None:
    """Writes `model/` and `init.json`.

    Settings: `name`; `source` ("teacher", a hub id, a folder or a GGUF file) and `revision`; `init`, a part
    (`dante.students.init`); `architecture`: config values of the source before pruning, which the plan is computed
    from, so they must be true; `dtype` of the stored weights; `licence`; optionally `chat`, variables
    that are baked into the stored chat template as defaults, and `system_prompt`, which it inserts from then on.

    Raises:
        DanteError: weights that are not on this machine, wrong layers, dtype or architecture, a template that cannot be
            masked exactly.
    """
    settings = step.settings
    shutil.rmtree(step.out, ignore_errors=True)  # a half-written folder of an interrupted attempt is not worth keeping
    step.out.mkdir(parents=True)
    dtype = _choice(settings.dtype, DTYPES, "student.dtype")
    init: Init = build(settings.init)
    name, revision = _source(settings, step.inputs)
    source = source_of(name, STUDENT_SOURCE, revision)

    refuse_quantised(name, check_config(source).to_dict(), STUDENT_SOURCE)
    tokenizer = load_tokenizer(name, revision)
    bake_template_variables(tokenizer, settings.chat)
    if settings.system_prompt is not None:
        tokenizer.chat_template = with_system_prompt(tokenizer, settings.system_prompt, {}, "student.system_prompt")
    renderer = ChatRenderer(tokenizer)  # refuses a template that cannot be masked before any weight is read
    model = init.load(source, dtype)
    check_architecture(settings.architecture or {}, model)
    model = init.begin(model, step.inputs)
    _check_vocabulary(model, tokenizer)
    check_finite(model, name, "take other weights: a tensor like this turns every loss into NaN")
    model.generation_config = chat_generation_config(model, renderer)

    model.save_pretrained(step.out / "model")
    tokenizer.save_pretrained(step.out / "model")
    record = {
        "name": settings.name,
        "source": settings.source,
        "revision": revision,
        **init.described(),
        "parameters": count_parameters(model),
        "non_embedding_parameters": count_parameters(model, embeddings=False),
        "licence": settings.licence,
        "inserted_system_prompt": inserted(tokenizer, {}),
    }
    (step.out / "init.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def check_architecture(architecture: Mapping[str, Any], model: PreTrainedModel) -> None:
    """Refuses config values that the loaded model does not have: the plan's counts would be false.

    Raises:
        DanteError: naming the first value that differs.
    """
    if not architecture:
        return
    stated, loaded = _comparable(config_from(architecture)), _comparable(model.config)
    for key, value in architecture.items():
        if key in stated and stated[key] != loaded.get(key):
            raise DanteError(
                f"the config says {key}: {value}, the loaded model has {key}: {loaded.get(key)}",
                where=f"student.architecture.{key}",
                fix="write the source's own values (its shape before pruning), or let them be read from it: "
                "student.architecture=null",
            )


def _comparable(config: PreTrainedConfig) -> dict[str, Any]:
    """A config's values under the names that users write: transformers keeps `rope_theta` in `rope_parameters`."""
    values = config.to_dict()
    return {**values, **{k: v for k, v in (values.pop("rope_parameters", None) or {}).items() if k == "rope_theta"}}


def bake_template_variables(tokenizer: PreTrainedTokenizerBase, variables: Mapping[str, Any]) -> None:
    """Make `variables` the chat template's defaults, so that every later reader renders alike without passing them.

    A caller can still pass another value: the template takes it if given.
    """
    if not variables:
        return
    literals = {name: _jinja_literal(name, value) for name, value in variables.items()}
    lines = [f"{{%- set {name} = {name} | default({text}) -%}}" for name, text in literals.items()]
    tokenizer.chat_template = "".join(lines) + str(tokenizer.chat_template)


def _jinja_literal(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str):
        return json.dumps(value)
    raise DanteError(
        f"{value!r} is no value for a template variable",
        where=f"chat.{name}",
        allowed="true, false, a number or a string",
    )


def _source(settings: Student, inputs: Mapping[str, Path]) -> tuple[str, str | None]:
    """Folder, file or hub id of the weights, and the revision to ask for."""
    if settings.source != "teacher":
        return settings.source, settings.revision
    teacher = load_teacher(inputs["teacher"])
    return teacher.location(inputs["teacher"]), None if teacher.local else teacher.revision


def _choice(value: Any, choices: Mapping[str, Any], where: str) -> Any:
    if value not in choices:
        raise DanteError(f"unknown value {value!r}", where=where, allowed=", ".join(choices))
    return choices[value]


def _check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if len(tokenizer) > rows:
        raise DanteError(
            f"the tokenizer has {len(tokenizer)} tokens, the embedding {rows} rows",
            where="student.source",
            fix="use the tokenizer that belongs to these weights",
        )


def chat_generation_config(model: PreTrainedModel, renderer: ChatRenderer) -> GenerationConfig:
    """The source's generation settings; generation also stops at the token the student is taught to end turns with."""
    generation = model.generation_config or GenerationConfig()
    stops = generation.eos_token_id
    stop_ids = [] if stops is None else list(stops) if isinstance(stops, list | tuple) else [stops]
    generation.eos_token_id = [renderer.end_of_turn_id, *(stop for stop in stop_ids if stop != renderer.end_of_turn_id)]
    if generation.pad_token_id is None:
        generation.pad_token_id = renderer.tokenizer.pad_token_id
    return generation
