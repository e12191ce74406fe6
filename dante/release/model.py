"""Stage `release`: the trained weights as a folder that plain transformers loads, with a model card.

`init/model` gives architecture, tokenizer and chat template; `fit/student.safetensors` gives fp32 weights under the
model's own names (a tied head stored once). They are loaded strictly: a missing or unexpected tensor is an error, not
a warning. The card tells the recipe, the compute, the limits and the licences. Results are not known yet and this
directory never changes once complete, so its `model-index` names the model without results; the report writes the
same card with results filled in.

A fit that is not finished can be released, too, from any of its checkpoints, full or sharded, on one process:

    python -m dante.release CHECKPOINT --init RUN/init --out FOLDER
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from dante import console
from dante.errors import DanteError
from dante.fit.keep.weights import from_checkpoint
from dante.look.page import environment
from dante.run.step import Step
from dante.students.finite import check_finite
from dante.students.load import DTYPES, count_parameters, load_pretrained, meta_of
from dante.students.stage import chat_generation_config
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer


def run(step: Step) -> None:
    """Writes the released model into `step.out`.

    Settings: `dtype` (of the released weights: bfloat16, float16 or float32), `name` (title of the model card),
    `experiment` (title, hypothesis and source, for the card).

    Raises:
        DanteError: unknown dtype, or the fit's tensors do not match the initialisation's architecture.
    """
    dtype = step.settings["dtype"]
    if dtype not in DTYPES:
        raise DanteError(f"unknown dtype {dtype!r}", where="release: dtype", allowed=", ".join(DTYPES))
    shutil.rmtree(step.out, ignore_errors=True)  # a half-written folder of an interrupted attempt is not worth keeping
    file = step.inputs["fit"] / "student.safetensors"
    model = write_model(step.inputs["init"] / "model", load_file(file), file, DTYPES[dtype], step.out)
    provenance = {
        "name": step.settings["name"],
        "fingerprint": step.fingerprint,
        "seed": _trained_seed(step.inputs["fit"]),
    }
    (step.out / "release.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    (step.out / "README.md").write_text(model_card(step, count_parameters(model)), encoding="utf-8")


def write_model(
    init: Path, trained: Mapping[str, Tensor], where: Path, dtype: torch.dtype, out: Path
) -> PreTrainedModel:
    """Writes weights, config, tokenizer, chat template and generation config; returns the model.

    Args:
        init: the folder that training started from: architecture, tokenizer, chat template.
        trained: every parameter once, under the model's own names.
        where: what the weights were read from, for messages.
        dtype: of the written weights.
        out: folder to write to.

    Raises:
        DanteError: the weights do not fit the model, or are not finite.
    """
    model = load_pretrained(init, torch.float32)
    load_trained(model, trained, where)
    torch.nn.Module.to(model, dtype)
    tokenizer = load_tokenizer(init)
    # A chat student that ended only at the end of text would run on after every answer.
    model.generation_config = chat_generation_config(model, ChatRenderer(tokenizer))
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return model


def load_trained(model: PreTrainedModel, trained: Mapping[str, Tensor], where: Path) -> None:
    """Loads trained tensors into a model, in place, strictly: every parameter is given once, a tied one only once.

    Raises:
        DanteError: tensors are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    needed = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]} & own.keys()  # a tied head once
    missing = sorted(needed - trained.keys())
    unexpected = sorted(trained.keys() - own.keys())
    shapes = [name for name in trained.keys() & own.keys() if trained[name].shape != own[name].shape]
    if missing or unexpected or shapes:
        raise DanteError(
            f"the trained weights do not fit the model: missing {missing[:5]}, unexpected {unexpected[:5]}, "
            f"other shape {sorted(shapes)[:5]}",
            where=str(where),
            allowed="exactly the parameters of the initialisation",
            fix="rerun the fit from this initialisation",
        )
    check_finite(trained.items(), where, "lower fit.lr or use fidelity=sound (fp32 master weights), and repeat the fit")
    model.load_state_dict(trained, strict=False)  # names were compared above, tied ones included


def model_card(step: Step, parameters: int) -> str:
    """README.md of the release: YAML front matter with `model-index`, then recipe, compute, limits and licences.

    Args:
        step: the release step, whose inputs hold teacher.json, manifest.json, init.json, summary.json and step.json.
        parameters: number of parameters of the released model, a tied head counted once.
    """
    facts = {
        "name": step.settings["name"],
        "dtype": step.settings["dtype"],
        "parameters": parameters,
        "fingerprint": step.fingerprint,
        "experiment": step.settings["experiment"],
        "teacher": _read(step.inputs["teacher"] / "teacher.json"),
        "init": _read(step.inputs["init"] / "init.json"),
        "cache": _read(step.inputs["cache"] / "manifest.json"),
        "summary": _read(step.inputs["fit"] / "summary.json"),
        "fit": _read(step.inputs["fit"] / "step.json").get("settings", {}),
    }
    # Markdown made of settings and counts: no text of a model is in it, so nothing is escaped for HTML.
    templates = environment("dante.release", ".")
    templates.filters |= {"plain": _plain, "settings_rows": _flat}
    return templates.get_template("model_card.md.jinja").render(facts)


def _trained_seed(fit: Path) -> int | None:
    return _read(fit / "step.json").get("settings", {}).get("seed")


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as rows `(dotted key, value)`, in their order."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
    return rows


def _plain(value: Any) -> str:
    """A value as the text of one Markdown table cell."""
    if value is None:
        value = "–"
    elif isinstance(value, float):
        value = f"{value:.6g}"
    elif isinstance(value, list | tuple):
        value = ", ".join(_plain(item) for item in value)
    elif isinstance(value, dict):
        value = ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main(arguments: list[str]) -> int:
    """Writes a Hugging Face folder from a checkpoint of a fit. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dante.release")
    parser.add_argument("checkpoint", type=Path, help="step-000050.ckpt of a fit: a file, or a directory of shards")
    parser.add_argument("--init", type=Path, required=True, help="the step that the fit started from (RUN/init)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the model goes")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16")
    options = parser.parse_args(arguments)
    source = options.init / "model"
    console.quiet_libraries()
    try:
        names = [name for name, _ in meta_of(source).named_parameters()]
        trained = from_checkpoint(options.checkpoint, names)
        write_model(source, trained, options.checkpoint, DTYPES[options.dtype], options.out)
    except DanteError as error:
        console.error(error)
        return 2
    console.info(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
