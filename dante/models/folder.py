"""A folder that is to be a model: what is wrong with it is said before anything of it is loaded.

Looks at names and headers only, so a folder of 60 GB is judged in milliseconds. Which tensors the files hold is asked
when they are loaded (`dante.models.pretrained`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dante.errors import DanteError

CONFIG, ADAPTER, WEIGHTS = "config.json", "adapter_config.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_LFS = b"version https://git-lfs"


def local_folder(source: str | Path) -> Path | None:
    """The folder that a source names, or None for a hub id.

    A path begins with `/`, `.` or `~`; any other name of an existing folder is one, too, as for transformers.
    """
    path = Path(source).expanduser()
    return path if path.is_dir() or str(source).startswith(("/", ".", "~")) else None


def check_folder(folder: Path, where: str) -> dict[str, Any]:
    """Refuses a folder whose weights cannot be read as they are; returns its config.

    Args:
        folder: of a model.
        where: the key that names it, for messages.

    Raises:
        DanteError: there is no such folder, it is an adapter, its config or an index is no JSON, weights are missing,
            cut off, or of another format than safetensors.
    """
    config = config_of(folder, where)
    for path in _weight_files(folder, where):
        _check_header(path, where)
    return config


def config_of(folder: Path, where: str) -> dict[str, Any]:
    """The config of a folder, as it stands there.

    Raises:
        DanteError: there is no such folder, it is an adapter, or it has no config that is JSON.
    """
    if not folder.is_dir():
        raise _wrong("is a file, not a folder" if folder.exists() else "does not exist", folder, where, _ALLOWED)
    if (folder / ADAPTER).is_file() and not any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        raise _adapter(folder, where)
    if not (folder / CONFIG).is_file():
        holds = ", ".join(sorted(path.name for path in folder.iterdir())[:5])
        contents = f"; it holds {holds}" if holds else ": it is empty"
        raise _wrong(f"has no {CONFIG}{contents}", folder, where, _ALLOWED)
    return _json(folder / CONFIG, where)


def quantised(config: Mapping[str, Any]) -> str | None:
    """The method by which a model's weights are packed into a few bits, or None."""
    settings = config.get("quantization_config")
    return str(settings.get("quant_method", "unknown")) if isinstance(settings, Mapping) else None


def refuse_quantised(source: str | Path, config: Mapping[str, Any], where: str) -> None:
    """A student's weights are trained, and packed numbers cannot be.

    Raises:
        DanteError: they are packed.
    """
    method = quantised(config)
    if method is None:
        return
    folder = local_folder(source)
    base = base_model(folder) if folder else None
    raise DanteError(
        f"the weights of {str(source)!r} are quantised ({method}), and packed numbers cannot be trained",
        where=where,
        allowed="weights in float32, bfloat16 or float16",
        fix=f"{where}={base}" if base else "name the model that these weights were quantised from",
    )


def base_model(folder: Path) -> str | None:
    """`base_model` of a folder's model card, the first of several; None where it says none."""
    named = front_matter(folder).get("base_model")
    first = named[0] if isinstance(named, list) and named else named
    return first if isinstance(first, str) else None


def front_matter(folder: Path) -> dict[str, Any]:
    """The YAML on top of a folder's model card; empty where there is none."""
    import yaml

    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        metadata = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") else None
    except (OSError, ValueError, IndexError, yaml.YAMLError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


_ALLOWED = "a folder with config.json and *.safetensors, or a hub id such as org/name"


def _wrong(what: str, path: Path, where: str, allowed: str = "", fix: str = "") -> DanteError:
    return DanteError(f"{str(path)!r} {what}", where=where, allowed=allowed, fix=fix)


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON and of UTF-8
        raise _wrong(f"is no JSON ({error})", path, where, fix="copy or download the file again") from None
    if not isinstance(content, dict):
        raise _wrong("holds no JSON object", path, where, fix="copy or download the file again")
    return content


def _weight_files(folder: Path, where: str) -> list[Path]:
    """The files that transformers reads: the single one, else those of the index."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise _no_weights(folder, where)
    shards = _json(folder / INDEX, where).get("weight_map")
    names = sorted(set(shards.values())) if isinstance(shards, dict) else []
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        problem = f"names {', '.join(missing[:5])}, which the folder does not hold" if missing else "names no files"
        raise _wrong(problem, folder / INDEX, where, fix="copy or download what is missing")
    return [folder / name for name in names]


def _check_header(path: Path, where: str) -> None:
    """A safetensors file says at its beginning how long it is."""
    try:
        with safe_open(path, framework="numpy") as file:
            file.keys()
    except SafetensorError as error:
        with path.open("rb") as start:
            pointer = start.read(len(_LFS)) == _LFS
        if pointer:
            fix = f"git -C {shlex.quote(str(path.parent))} lfs pull"
            raise _wrong("is a Git LFS pointer, not the weights", path, where, fix=fix) from None
        size = path.stat().st_size
        problem = f"is cut off, or no safetensors file: {size:,} bytes ({error})"
        raise _wrong(problem, path, where, fix="copy or download the file again") from None


def _no_weights(folder: Path, where: str) -> DanteError:
    """What there is instead, and how to make safetensors of it."""
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    if shards:
        problem = f"holds {', '.join(shards[:3])}, but neither {WEIGHTS} nor {INDEX}, which says what is in them"
        return _wrong(problem, folder, where, fix=f"copy or download {INDEX}, too")
    if any(folder.glob("pytorch_model*.bin")):
        return _wrong(
            "has its weights in pytorch_model.bin only, a pickle",
            folder,
            where,
            allowed="*.safetensors",
            fix=f"convert it: {_converting(folder)}",
        )
    others = sorted(path.name for path in folder.iterdir() if path.suffix in (".gguf", ".bin", ".pt", ".pth", ".ckpt"))
    instead = f" but {', '.join(others[:3])}" if others else ""
    return _wrong(f"has no weights{instead}", folder, where, _ALLOWED)


def _converting(folder: Path) -> str:
    """A command that writes safetensors beside a folder's pickles, and trusts them with tensors only."""
    code = (
        "import glob,torch; from safetensors.torch import save_file; "
        f"f={_literal(folder)}; "
        't={k:v.contiguous().clone() for p in sorted(glob.glob(glob.escape(f)+"/pytorch_model*.bin")) '
        'for k,v in torch.load(p,weights_only=True,map_location="cpu").items()}; '
        f'save_file(t,f+"/{WEIGHTS}",{{"format":"pt"}})'
    )
    return f"python -c {shlex.quote(code)}"


def _adapter(folder: Path, where: str) -> DanteError:
    base = str(_json(folder / ADAPTER, where).get("base_model_name_or_path"))
    merged = Path(f"{folder.absolute()}-merged")
    words = folder if (folder / "tokenizer_config.json").is_file() else base
    code = (
        "from peft import AutoPeftModelForCausalLM as M; from transformers import AutoTokenizer as T; "
        f"M.from_pretrained({_literal(folder)}).merge_and_unload().save_pretrained({_literal(merged)}); "
        f"T.from_pretrained({_literal(words)}).save_pretrained({_literal(merged)})"
    )
    return _wrong(
        f"is an adapter (LoRA) to {base!r}, not a model",
        folder,
        where,
        allowed=_ALLOWED,
        fix=f"merge it: pip install peft && python -c {shlex.quote(code)} and name {where}={merged}",
    )


def _literal(text: str | Path) -> str:
    """A string of Python in double quotes, which a shell's single quotes leave alone."""
    return json.dumps(str(text), ensure_ascii=False)
