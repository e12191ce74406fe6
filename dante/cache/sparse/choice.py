"""`--engine NAME engine.KEY=VALUE …` → an engine: the files of conf/engine/, and Hydra's words on top of them."""

from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dante.errors import DanteError, did_you_mean
from dante.run.config.folder import CONF, check_folder
from dante.run.config.hydra_errors import as_dante_error
from dante.run.parts import build, walk_targets
from dante.run.precision import AUTO, dtype_keys
from dante.teachers.engines.base import Engine

GROUP = "engine"
WHERE = "command line"
# What `auto` means where no trainer decides it: bfloat16 moves single log-probabilities by tenths of a nat.
DTYPE = "float32"


def choose_engine(name: str, words: Sequence[str]) -> Engine:
    """The engine of conf/engine/<name>.yaml, not open yet.

    Args:
        name: of the file.
        words: `engine.KEY=VALUE`, and `engine@engine.engine=NAME` for the engine inside another one.

    Raises:
        DanteError: there is no such engine, key or value; what is allowed is named.
    """
    check_folder()
    names = sorted(path.stem for path in (CONF / GROUP).glob("*.yaml"))
    if name not in names:
        raise DanteError(
            f"there is no engine named {name!r}",
            where="--engine",
            allowed=", ".join(names),
            fix=did_you_mean(name, names) or "choose one of them",
        )
    for word in words:
        if not word.startswith((f"{GROUP}.", f"{GROUP}@")) or "=" not in word:
            raise DanteError(
                f"{word!r} is neither an option of this command nor a setting of the engine",
                where=WHERE,
                allowed=f"{GROUP}.KEY=VALUE, for instance {GROUP}.dtype=bfloat16; options: --help",
                fix=f"leave {word} out",
            )
    try:
        overrides = OverridesParser.create().parse_overrides(list(words))
        choices = [o.input_line for o in overrides if o.input_line is not None and "@" in o.input_line.split("=")[0]]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            node = compose(overrides=[f"+{GROUP}={name}", *choices])
        for override in overrides:
            if override.input_line not in choices:
                _set(node, override)
        plain: Any = OmegaConf.to_container(node, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise as_dante_error(error, list(words), CONF) or DanteError(str(error), where=WHERE) from None
    for key in dtype_keys(plain[GROUP], GROUP):
        if OmegaConf.select(node, key) == AUTO:
            OmegaConf.update(node, key, DTYPE)
    plain = OmegaConf.to_container(node, resolve=True)
    walk_targets(plain)
    engine: Engine = build(plain[GROUP])
    return engine


def _set(node: Any, override: Override) -> None:
    """Sets a key that is there."""
    key = override.key_or_group
    if override.is_sweep_override() or override.is_delete() or override.is_add():
        raise DanteError(f"{override.input_line} is no single value", where=WHERE, allowed=f"{GROUP}.KEY=VALUE")
    parent, _, last = key.rpartition(".")
    keys = OmegaConf.select(node, parent)
    known = [str(k) for k in keys if not str(k).startswith("_")] if isinstance(keys, DictConfig) else []
    if last not in known and last != "_target_":
        raise DanteError(
            f"the engine has no setting {key}",
            where=WHERE,
            allowed=", ".join(f"{parent}.{name}" for name in known) or "none below this key",
            fix=did_you_mean(last, known) or f"leave {override.input_line} out",
        )
    OmegaConf.update(node, key, override.value())
