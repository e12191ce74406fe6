"""`check`, which runs before anything is loaded.

Hydra lets `+typo=1` and unknown keys in YAML files pass, and hides bad arguments of a `_target_` until it is called.
`check` closes these holes: every key must be in the schema, every value of its type, every `_target_` importable and
called with arguments of its signature, and combinations that make no sense are refused.
"""

import copy
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from pydantic import BaseModel, ValidationError

from dante.errors import DanteError, causes, did_you_mean
from dante.run import precision
from dante.run.config.complaint import complaint
from dante.run.config.schema import Config
from dante.run.parts import build, is_target, walk_targets
from dante.run.recipe import Steps, changed, key_of, ordered, present
from dante.run.shares import read_ahead, shared_out
from dante.run.stages import STAGES


# What conf/student/local.yaml and its like say of a model of the user's.
def _model_name(source: str) -> str:
    from dante.models.source import name_of  # not above: reports read configs and know no students

    return name_of(source)


def _model_licence(source: str) -> str:
    from dante.models.source import licence_of

    return licence_of(source)


OmegaConf.register_new_resolver("model_name", _model_name, replace=True)
OmegaConf.register_new_resolver("model_licence", _model_licence, replace=True)


def check(cfg: DictConfig) -> dict[str, Any]:
    """Resolve and check a composed config; return it as plain containers.

    Raises:
        DanteError: naming the key, its value, what is allowed and what to type, for the first thing that is wrong.
    """
    if "experiment" not in cfg:
        raise DanteError(
            "no experiment was chosen", fix="add one, for example: python train.py +experiment=dante_mosaic"
        )
    plain = _resolve(cfg)
    _validate(plain, Config)
    plain = _with_decisions(cfg, plain)
    plain["steps"] = _prepared(changed(ordered(plain["steps"])))
    for label, step in plain["steps"].items():
        _validate(step["settings"], STAGES[step["stage"]].settings_class(), f"steps.{label}.settings")
    plain["steps"] = read_ahead(shared_out(plain["steps"]))
    # The recipe's steps repeat other nodes by interpolation: name the node where the user would correct it.
    walk_targets({key: node for key, node in plain.items() if key != "steps"})
    walk_targets(plain["steps"], "steps")
    for rule in _RULES:
        rule(plain)
    _build_parts(plain)
    return plain


def _prepared(steps: Steps) -> Steps:
    """The steps with the settings that their stages read."""
    return {
        label: step | {"settings": STAGES[step["stage"]].prepared(step["settings"])} for label, step in steps.items()
    }


def _with_decisions(cfg: DictConfig, plain: dict[str, Any]) -> dict[str, Any]:
    """The config in which every `auto` that depends on the machine is replaced, at all places that refer to it."""
    decisions = precision.decisions(plain)
    if not decisions:
        return plain
    cfg = copy.deepcopy(cfg)
    for key, decision in decisions.items():
        if not _refers(cfg, key.rpartition(".")[0]):
            OmegaConf.update(cfg, key, decision.value)
    reasons = {key: f"{decision.value}: {decision.reason}" for key, decision in decisions.items()}
    cfg["decided"] = reasons
    return _resolve(cfg)


def _refers(cfg: DictConfig, key: str) -> bool:
    """Whether a node is another one's, or stands in one that is: it is decided there."""
    parts = key.split(".")
    return any(
        OmegaConf.is_interpolation(OmegaConf.select(cfg, ".".join(parts[:depth])) if depth else cfg, parts[depth])
        for depth in range(len(parts))
    )


def _resolve(cfg: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        # An interpolation's error is filed under the place that refers to the missing key, and names it in its text.
        named = re.search(r"Missing mandatory value: ([\w.]+)", str(error))
        missing_key = (
            getattr(error, "full_key", None) if isinstance(error, MissingMandatoryValue) else named and named[1]
        )
        key = missing_key or str(error)
        raise DanteError(f"{key} has no value", where=str(key), fix=f"set it: {key}=VALUE") from None
    except InterpolationKeyError as error:
        raise DanteError(
            f"a value refers to a key that does not exist ({str(error).splitlines()[0]})", where=str(error.full_key)
        ) from None
    except OmegaConfBaseException as error:
        told = next((cause for cause in causes(error, lambda _: True) if isinstance(cause, DanteError)), None)
        if told is not None:  # by a resolver of ours
            raise told from None
        raise DanteError(str(error).splitlines()[0], where=str(getattr(error, "full_key", ""))) from None
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    if isinstance(plain.get("steps"), dict):
        plain["steps"] = present(plain["steps"])
    return {str(key): value for key, value in plain.items()}


def _validate(node: dict[str, Any], schema: type[BaseModel], where: str = "") -> None:
    try:
        schema.model_validate(node)
    except ValidationError as error:
        raise complaint(error, node, schema, where) from None


def _only_names_steps(cfg: dict[str, Any]) -> None:
    for label in labels_of(cfg["only"] or []):
        if label not in cfg["steps"]:
            raise DanteError(
                f"only={label} names no step",
                where="only",
                allowed=f"{', '.join(cfg['steps'])}; several as only=[fit,eval]",
                fix=did_you_mean(label, cfg["steps"]) or "name one of them",
            )


def is_chosen(cfg: dict[str, Any], label: str) -> bool:
    """Whether a step runs: all do, unless `only` names some."""
    return cfg["only"] is None or label in labels_of(cfg["only"])


def labels_of(only: str | list[str]) -> list[str]:
    """The steps that `only` names: one label or a list of them."""
    return [only] if isinstance(only, str) else only


def _fits(cfg: dict[str, Any]) -> Iterator[tuple[Any, Callable[[str], str]]]:
    """Every fit's settings, and what to type for a key of them."""
    for label, step in cfg["steps"].items():
        if step["stage"] == "fit":
            yield STAGES["fit"].typed(step["settings"]), functools.partial(key_of, step, label)


def _batch_fits(cfg: dict[str, Any]) -> None:
    for settings, key in _fits(cfg):
        fit = settings.fit
        if fit.batch.unit == "tokens" and fit.batch.size < fit.max_tokens:
            where = key("fit.batch.size")
            raise DanteError(
                f"a step of {fit.batch.size} tokens is smaller than one pack of {fit.max_tokens}",
                where=where,
                allowed=f"at least fit.max_tokens={fit.max_tokens}",
                fix=f"{where}={fit.max_tokens}",
            )


def _prefixes_are_of_chats(cfg: dict[str, Any]) -> None:
    for settings, key in _fits(cfg):
        if settings.fit.mask_prefix and settings.fit.rendering != "chat":
            raise DanteError(
                "the beginning of an answer can be masked in a chat alone: plain text has no answer",
                where=key("fit.mask_prefix"),
                allowed="fit.mask_prefix=false, or fit.rendering=chat",
                fix=f"{key('fit.mask_prefix')}=false",
            )


def _steps_or_compute(cfg: dict[str, Any]) -> None:
    for settings, _ in _fits(cfg):
        _is_one(settings.fit.steps, settings.fit.compute)


def _is_one(steps: int | None, compute: Any) -> None:
    """A fit's length is said, and said once."""
    if steps is None and compute is None:
        raise DanteError(
            "neither a number of steps nor a compute budget says how long the fit is",
            where="fit.steps",
            allowed="fit.steps=N, budget=default, budget=study, or budget=tokens|flops|epochs with "
            "budget.compute.amount=N",
            fix="name one of them",
        )
    if steps is not None and compute is not None:
        raise DanteError(
            f"fit.steps={steps} and a compute budget of {compute.amount:g} {compute.unit} contradict each other: "
            "the budget decides how many steps there are",
            where="fit.steps, budget.compute",
            allowed="one of the two",
            fix=f"leave fit.steps out and choose budget={compute.unit}, or set budget.compute=null",
        )


def _architecture_is_known(cfg: dict[str, Any]) -> None:
    student = cfg["student"]
    if student["architecture"] is None and student["source"] == "teacher":
        raise DanteError(
            "the teacher's architecture is not known before it is made, and none is given",
            where="student.architecture",
            allowed="the teacher's config values, as in conf/student; null for a folder or a hub id",
            fix="choose a student that states it, such as student=smollm2_135m, or student.source=FOLDER",
        )


def _kept_logits_are_those_that_are_read(cfg: dict[str, Any]) -> None:
    """A recipe that keeps logits keeps the kind that its losses read."""
    for step in cfg["steps"].values():
        source = cfg["steps"].get(step.get("inputs", {}).get("logits", ""))
        if step["stage"] != "fit" or source is None or source["stage"] != "logits":
            continue
        losses = STAGES["fit"].typed(step["settings"]).build_losses()
        kinds = {name: loss.sparse_kind for name, loss in losses.items() if hasattr(loss, "sparse_kind")}
        wrong = {name: kind for name, kind in kinds.items() if kind != source["settings"]["kind"]}
        for name, kind in wrong.items():
            raise DanteError(
                f"the loss {name!r} reads {kind} logits, and the recipe keeps {source['settings']['kind']}",
                where="kept",
                allowed=kind,
                fix=f"kept={kind}",
            )


def _devices_need_a_strategy(cfg: dict[str, Any]) -> None:
    trainer = cfg["trainer"]
    if trainer["devices"] * trainer["num_nodes"] > 1 and trainer["strategy"] == "auto":
        raise DanteError(
            f"{trainer['devices'] * trainer['num_nodes']} devices need a strategy that joins them",
            where="trainer.strategy",
            allowed="ddp, fsdp2",
            fix="trainer.strategy=ddp",
        )


def _master_weights_match_precision(cfg: dict[str, Any]) -> None:
    for settings, key in _fits(cfg):
        where = key("fit.precision")
        if settings.fit.precision == precision.AUTO:
            raise DanteError(
                f"{where}=auto is decided for the whole run, not for one fit",
                where=where,
                allowed="bf16, fp32",
                fix=f"take {where} away: trainer.precision=auto decides",
            )
        if not settings.fidelity.master_weights and settings.fit.precision == "fp32":
            raise DanteError(
                "fidelity=card keeps its weights in bf16, and fit.precision=fp32 would train them in fp32",
                where=where,
                allowed="bf16 with fidelity=card; bf16 or fp32 with fidelity=sound",
                fix=f"{where}=bf16",
            )


def _template_variables_have_one_home(cfg: dict[str, Any]) -> None:
    if cfg["student"]["chat"] != cfg["chat"]:
        raise DanteError(
            f"student.chat={cfg['student']['chat']} differs from chat={cfg['chat']}: the student would be trained on "
            "other prompts than it is scored on",
            where="student.chat",
            fix="set the template's variables in their one home: "
            + " ".join(f"+chat.{k}=VALUE" for k in cfg["student"]["chat"]),
        )


# Stages whose parts would else be found wrong after hours.
_PARTS_OF_CHOICE = ("select", "sentences", "samples", "mixed")


def _build_parts(cfg: dict[str, Any]) -> None:
    """Construct every part once: constructors are cheap and know which of their arguments make sense."""
    for settings, _ in _fits(cfg):
        for name, node in settings.losses.items():
            loss = build(node, name=name)
            _begun(loss, f"losses.{name}", "super().__init__(weight, name)", ("_buffers", "name", "weight"))
            if settings.fit.steps is not None:  # else a budget decides, when the plan is priced
                loss.begin(settings.fit.steps)
        build(settings.fit.curriculum)
    for step in cfg["steps"].values():
        for name, node in (step["settings"].get("suites") or {}).items():
            suite = build(node, name=name)
            _begun(
                suite,
                f"eval.suites.{name}",
                "super().__init__(name), heading and metrics",
                ("name", "heading", "metrics"),
            )
    for node in (cfg["teacher"]["make"], cfg["cache"]["source"], cfg["student"]["init"]):
        build(node)
    for step in cfg["steps"].values():
        for node in _parts_of(step["settings"]) if step["stage"] in _PARTS_OF_CHOICE else ():
            build(node)


def _parts_of(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts that stand in a step's settings, by themselves or in a mapping of them."""
    for value in settings.values():
        if is_target(value):
            yield value
        elif isinstance(value, dict):
            yield from (one for one in value.values() if is_target(one))


def _begun(part: Any, key: str, what: str, needed: tuple[str, ...]) -> None:
    """A part of somebody's own whose `__init__` has left out what its base class makes is found before it runs."""
    missing = [name for name in needed if not hasattr(part, name)]
    if missing:
        raise DanteError(
            f"{type(part).__name__} has no {missing[0].lstrip('_')!r}",
            where=key,
            allowed=what,
            fix="complete its __init__",
        )


_RULES: tuple[Callable[[dict[str, Any]], None], ...] = (
    _only_names_steps,
    _batch_fits,
    _steps_or_compute,
    _prefixes_are_of_chats,
    _architecture_is_known,
    _kept_logits_are_those_that_are_read,
    _devices_need_a_strategy,
    _master_weights_match_precision,
    _template_variables_have_one_home,
)
