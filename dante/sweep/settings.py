"""What `hydra.sweeper` may say: the schema of a named sweep in `conf/sweep/`."""

from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, ValidationError

from dante.run.config.complaint import complaint
from dante.run.config.schema import Strict

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
# An override's value, as typed on a command line: `1e-3`, `[cwce,tea]`.
Value = str | int | float | bool | list[Any] | None


class Tune(Strict):
    """Equal tuning: every arm gets the same grid, or as many trials of one search, and takes what validation prefers.

    Attributes:
        grid: override key → values to try; several keys: their product.
        search: override key → `interval(1e-4,4e-3)`, `tag(log,interval(…))`, `range(…)`, `choice(…)`; by Optuna.
        trials: of the search, per arm.
        at_once: trials of an arm that are proposed together, before their scores are known.
        seed: the one seed that is tuned with; of the search's sampler, too.
        overrides: what tuning runs change besides, for example a cheaper evaluation; their fits stay shared.
    """

    grid: dict[str, Annotated[list[Value], Field(min_length=2)]] = {}
    search: dict[str, str] = {}
    trials: Annotated[int, Field(gt=0)] = 12
    at_once: Annotated[int, Field(gt=0)] = 1
    seed: int
    overrides: dict[str, Value] = {}

    @property
    def keys(self) -> list[str]:
        """What is tuned."""
        return [*self.grid, *self.search]


class SweepSettings(Strict):
    """A sweep.

    Attributes:
        name: of the sweep's directory and of its runs; None: made from what is swept.
        params: override key → value, or several as `1,2,3`: Hydra's own form of a sweep. The command line wins.
        factors: factor → level → overrides; arms are the product of the levels, named by them.
        only_arms: of that product, the arms to run, as lists of levels; None: all.
        tune: see `Tune`; None: no tuning.
        baseline: the arm that others are compared with; None: the comparison chooses.
    """

    name: Name | None = None
    params: dict[str, Any] = {}
    factors: dict[str, dict[Name, dict[str, Value]]] = {}
    only_arms: list[list[str]] | None = None
    tune: Tune | None = None
    baseline: str | None = None


def sweep_settings(**nodes: Any) -> SweepSettings:
    """Check what Hydra hands to a sweeper.

    Raises:
        DanteError: an unknown key, or a value that is not accepted.
    """
    plain = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in nodes.items()}
    try:
        return SweepSettings.model_validate(plain)
    except ValidationError as error:
        raise complaint(error, plain, SweepSettings, "hydra.sweeper") from None


def as_override(key: str, value: Any) -> str:
    """`key=value` as Hydra's grammar reads it back."""
    return key + "=" + as_text(value)


def as_text(value: Any) -> str:
    """A value as typed on a command line; text is left as it is, so that it may be anything Hydra reads."""
    if isinstance(value, DictConfig | dict):
        return "{" + ",".join(f"{k!s}:{as_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(as_text(item) for item in value) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
