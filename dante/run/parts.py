"""Nodes with a `_target_`: find them, check their arguments against the signature, instantiate them.

Hydra calls a `_target_` with whatever it is given and shows the mistake as a stack of frames, late. Here every node is
checked beforehand: importable, inside the lab or an extension of it, arguments known, required ones present, values of
their type.
"""

import importlib
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from dante.errors import DanteError, did_you_mean
from dante.run.renamed import name_now
from dante.system.files import sha256

# A config names parts of the lab and of packages that are called as its extensions, never arbitrary code.
ALLOWED = re.compile(r"dante(_\w+)?\.")


def is_target(node: Any) -> bool:
    """Whether a config node says what to build."""
    return isinstance(node, dict) and "_target_" in node


def build(node: dict[str, Any], **extra: Any) -> Any:
    """Instantiate a checked node (and the nodes inside it), with further keyword arguments.

    Raises:
        DanteError: what the part's constructor says of its arguments, without Hydra's wrapping.
    """
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause: BaseException | None = error
        last: BaseException = error
        while cause is not None and not isinstance(cause, DanteError):
            last, cause = cause, cause.__cause__
        if cause is not None:
            raise cause from None
        raise DanteError(
            f"{node.get('_target_')} could not be built: {type(last).__name__}: {str(last).splitlines()[0]}",
            where=str(node.get("_target_")),
            allowed="a constructor that takes the node's keys, and calls that of its base class first",
            fix="correct its __init__",
        ) from error


def walk_targets(node: Any, path: str = "") -> None:
    """Check every `_target_` at or below `node`.

    Raises:
        DanteError: for the first target that cannot be imported or whose arguments do not fit its signature.
    """
    if is_target(node):
        _check_call(node, path)
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        walk_targets(child, f"{path}.{key}" if path else str(key))


def extensions_in(node: Any) -> dict[str, str]:
    """Modules of extensions that a node's parts come from → SHA-256 of their file.

    The lab's own parts are as its version says; those of others change while a run's directory stays.
    """
    if isinstance(node, dict):
        named = [node["_target_"].rpartition(".")[0]] if isinstance(node.get("_target_"), str) else []
        children: list[Any] = list(node.values())
    else:
        named, children = [], list(node) if isinstance(node, list | tuple) else []
    hashes = {module: source_hash(module) for module in named if module.startswith("dante_")}
    for child in children:
        hashes |= extensions_in(child)
    return hashes


def source_hash(module: str) -> str:
    """SHA-256 of a module's file."""
    file = importlib.import_module(module).__file__
    assert file is not None
    return sha256(Path(file))


def locate(name: Any, path: str = "") -> Callable[..., Any]:
    """The class or function that a `_target_` names.

    Raises:
        DanteError: it is not a part of this lab, or does not exist.
    """
    where = f"{path}._target_"
    if not isinstance(name, str) or not ALLOWED.match(name):
        raise DanteError(
            f"{where}={name!r} is not a part of this lab",
            where=where,
            allowed="names in dante.*, or in a package of yours that is called dante_*",
        )
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except SyntaxError as error:
        raise DanteError(
            f"{where}={name!r} cannot be imported: {error.msg}",
            where=f"{error.filename}, line {error.lineno}",
            fix="correct that line",
        ) from None
    except ModuleNotFoundError as error:
        if error.name and not f"{module_name}.".startswith(f"{error.name}."):
            raise DanteError(
                f"{where}={name!r} cannot be imported: it imports {error.name}, which is not there",
                where=where,
                fix=f"install {error.name}, or correct the import",
            ) from None
        moved = name_now(name)
        if moved is not None:
            raise DanteError(f"{where}={name!r} lies elsewhere now", where=where, fix=f"write {moved}") from None
        raise DanteError(f"{where}={name!r} cannot be imported: {error}", where=where, fix="correct the name") from None
    if not hasattr(module, attribute):
        defined_names = [k for k, v in vars(module).items() if getattr(v, "__module__", None) == module_name]
        raise DanteError(
            f"{module_name} has no {attribute!r}",
            where=where,
            allowed=", ".join(defined_names),
            fix=did_you_mean(attribute, defined_names) or "name one of them",
        )
    return getattr(module, attribute)


def _check_call(node: dict[str, Any], path: str) -> None:
    target = locate(node["_target_"], path)
    parameters = inspect.signature(target).parameters
    annotations = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    given = {str(k): v for k, v in node.items() if not str(k).startswith("_")}
    for key, value in given.items():
        if key not in parameters:
            raise DanteError(
                f"unknown key '{path}.{key}': {node['_target_']} takes no {key!r}",
                where=f"{path}.{key}",
                allowed=", ".join(p for p in parameters if p not in ("args", "kwargs")),
                fix=did_you_mean(key, parameters) or f"remove {path}.{key}",
            )
        if not _holds_target(value) and key in annotations:
            _check_value(value, annotations[key], f"{path}.{key}")
    # Objects (a tokenizer, a model) are handed over by the stage that builds the part; plain values come from conf.
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in given and _is_plain(annotations.get(key)):
            raise DanteError(f"{path}.{key} is missing", where=f"{path}.{key}", fix=f"set it: {path}.{key}=VALUE")


def _holds_target(value: Any) -> bool:
    """Whether a part stands at or below `value`: it is checked by itself, and is not built yet."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return is_target(value) or any(_holds_target(child) for child in children)


_PLAIN = (int, float, str, bool)


def _is_plain(annotation: Any) -> bool:
    return annotation in _PLAIN or any(option in _PLAIN for option in getattr(annotation, "__args__", ()))


def _check_value(value: Any, annotation: Any, key: str) -> None:
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticSchemaGenerationError:
        return
    except Exception:  # a type that carries its own config (a pydantic model)
        adapter = TypeAdapter(annotation)
    try:
        adapter.validate_python(value, strict=isinstance(value, (bool, str)))
    except ValidationError as error:
        raise DanteError(
            f"{key}={value!r} is not accepted", where=key, allowed=error.errors()[0]["msg"], fix=f"correct {key}"
        ) from None
