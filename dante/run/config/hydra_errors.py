"""Hydra's composition errors in this lab's words: one paragraph, the choices, the nearest guess, no frames."""

import re
from pathlib import Path

import yaml
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from dante.errors import DanteError, did_you_mean
from dante.run.config.complaint import fields_at
from dante.run.config.schema import Config
from dante.run.renamed import key_now

# Groups that only a generated cache has.
OF_THE_TEACHER = ("prompts", "engine")


def as_dante_error(error: Exception, arguments: list[str], conf: Path) -> DanteError | None:
    """The same mistake as a `DanteError`, or None for an exception that is not about the command line or conf/."""
    if isinstance(error, MissingConfigException):
        return _no_such_choice(error, conf)
    if isinstance(error, OverrideParseException):
        return DanteError(
            f"{error.override!r} is not a key=value that Hydra can read ({_first_line(error)})",
            where="command line",
            fix="quote values with brackets or spaces: 'key=[1,2]'",
        )
    if isinstance(error, ConfigCompositionException):
        return _cannot_override(str(error), arguments, conf)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return DanteError(
            f"a file of the configuration is not YAML: {error.problem}",
            where=f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}",
            fix="correct that line; a value with brackets, braces or a question mark is quoted",
        )
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return DanteError(_first_line(error), where="configuration")
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _no_such_choice(error: MissingConfigException, conf: Path) -> DanteError:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    # Hydra lists no options for a choice inside a list, `loss=[a,b]`.
    options = list(error.options or sorted(path.stem for path in (conf / group).glob("*.yaml")))
    if not group:
        return DanteError(_first_line(error), where="conf/")
    if group == "hydra/launcher" and name.startswith(("submitit", "slurm")):
        return DanteError(
            f"the launcher {name!r} is not installed",
            where=f"hydra/launcher={name}",
            allowed=", ".join(options),
            fix="pip install -e '.[sweep]'",
        )
    # pair/<experiment> is chosen through scale=.
    shown = "scale" if group.startswith("pair/") else group
    nothing = "the experiment has no pair for it" if group.startswith("pair/") else f"see conf/{group}/"
    return DanteError(
        f"there is no {shown} named {name!r}",
        where=f"{'+' if shown == 'experiment' else ''}{shown}={name}",
        allowed=", ".join(options) or nothing,
        fix=did_you_mean(name, options) or "choose one of them",
    )


def _cannot_override(message: str, arguments: list[str], conf: Path) -> DanteError:
    match = re.search(r"Could not override '([^']+)'", message)
    if match is None:
        return DanteError(message.strip().splitlines()[0], where="command line")
    key = match.group(1)
    if key in ("experiment", "sweep"):
        return DanteError(f"{key}= needs a plus sign", where="command line", fix=f"write +{key}=NAME")
    group = key.partition("@")[0].partition(".")[0]
    if group in OF_THE_TEACHER and "No match in the defaults list" in message and "+experiment" in " ".join(arguments):
        return DanteError(
            f"{group}= belongs to a cache that the teacher writes, and this run takes one that is there",
            where="command line",
            fix="add cache=generated",
        )
    if "No match in the defaults list" in message or "experiment" not in " ".join(arguments):
        fix = did_you_mean(key, list(Config.model_fields)) or "choose an experiment first: +experiment=dante_mosaic"
        return DanteError(f"nothing named {key!r} can be overridden", where="command line", fix=fix)
    moved = key_now(key)
    if moved is not None:
        return DanteError(f"{key} lies elsewhere now", where="command line", fix=f"write {moved}=VALUE")
    parents, _, last = key.rpartition(".")
    if parents == "chat":
        return DanteError(f"{key} is new: the templates' variables are free", where="command line", fix=f"+{key}=VALUE")
    if key.startswith(tuple(f"cache.source.{name}." for name in OF_THE_TEACHER)):
        return DanteError(
            f"{key} has a short name", where="command line", fix=f"{key.removeprefix('cache.source.')}=VALUE"
        )
    choices = [path.stem for path in sorted((conf / group).glob("*.yaml")) if parents == group and last in _keys(path)]
    if choices:
        return DanteError(
            f"{key} belongs to {group}={choices[0]}",
            where="command line",
            fix=f"add {group}={choices[0]}: {group}={choices[0]} {key}=VALUE",
        )
    allowed_keys = fields_at(parents.split(".") if parents else [], Config)
    if not allowed_keys and (conf / group).is_dir():
        return DanteError(
            f"unknown key {key!r}",
            where="command line",
            allowed=", ".join(sorted(_keys_of_choices(conf / group))),
            fix=did_you_mean(last, _keys_of_choices(conf / group)) or f"see the choices in conf/{group}/",
        )
    return DanteError(
        f"unknown key {key!r}",
        where="command line",
        allowed=", ".join(sorted(allowed_keys)),
        fix=did_you_mean(last, allowed_keys) or "dry_run=true shows the plan; conf/ holds every key",
    )


def _keys_of_choices(folder: Path) -> list[str]:
    """Keys that some choice of a group has."""
    return sorted({key for path in folder.glob("*.yaml") for key in _keys(path)})


def _keys(path: Path) -> list[str]:
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [key for key in map(str, node if isinstance(node, dict) else ()) if key != "defaults" and key[0] != "_"]
