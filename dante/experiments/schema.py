"""What `results.json` and `config.yaml` of an experiment may hold: the one place that says it.

A value that was not recorded is null, never guessed; numbers are finite.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError

from dante.errors import DanteError
from dante.run.config.complaint import first_of
from dante.run.config.schema import Strict, Text

Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0)]
Date = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Named = dict[Text, Number]


class Hardware(Strict):
    cpu: str | None
    cores: int | None
    gpus: list[str]


class MadeWith(Strict):
    """The lab and the machine that made the runs, as their manifests recorded them.

    Attributes:
        git: revision, with `-dirty` where the tree was; several are joined by a comma.
        date: day on which the last step ended, UTC.
    """

    git: str | None
    date: Date | None
    python: str | None
    packages: dict[str, str] | None
    hardware: Hardware | None


class Tuning(Strict):
    """How each arm's setting was chosen.

    Attributes:
        grid: key → values that were tried.
        scores: arm → value → score, of one seed.
        chosen: arm → key → value.
    """

    grid: dict[Text, list[Text]]
    seed: Seed | None
    metric: Text
    scores: dict[Text, dict[Text, Number]]
    chosen: dict[Text, dict[Text, Text]]


class Difference(Strict):
    """A difference in one metric and its interval.

    Attributes:
        name: in words, such as `TEA calibrated − off`.
        arms: the arm and the one it is compared with, where it is between two; null for an effect over several pairs.
        low, high: ends of the interval; null where it cannot be given, as with a single value on either side.
        n: items (texts, answers) that were resampled.
        pairs: pairs of arms that were averaged.
        p, p_adjusted: two-sided, before and after the correction for many comparisons.
    """

    name: Text
    metric: Text
    arms: tuple[Text, Text] | None
    difference: Number
    low: Number | None
    high: Number | None
    confidence: Annotated[float, Field(gt=0, lt=1)] | None
    stderr: Number | None = None
    n: int | None = None
    resamples: int | None = None
    pairs: int | None = None
    p: Number | None = None
    p_adjusted: Number | None = None


class Results(Strict):
    """`results.json`.

    Attributes:
        experiment: the folder's name.
        wall_s: seconds that all steps of all runs took together, a shared step counted once.
        references: what no seed changes (teacher, initialisation, counting models) → metric → value.
        arms: arm → metric → seed → value.
        primary: the metrics that the README's table shows; none: all.
        failed: runs that did not finish, in words.
    """

    experiment: Text
    made_with: MadeWith
    wall_s: Number | None
    tuning: Tuning | None = None
    references: dict[Text, Named] = {}
    arms: Annotated[
        dict[Text, Annotated[dict[Text, Annotated[dict[Seed, Number], Field(min_length=1)]], Field(min_length=1)]],
        Field(min_length=1),
    ]
    differences: list[Difference]
    primary: list[Text] = []
    failed: list[Text] = []


class Configuration(Strict):
    """`config.yaml`.

    Attributes:
        origin: `recorded` by the runs, or `composed` later from the command, by the conf/ of that later day.
        shared: resolved configuration that all arms have in common; without what names, logs or shows a
            run, and without the steps, which repeat it by interpolation.
        arms: arm → dotted key → value, where arms differ.
        seeds: arm → seed → dotted key → value, where the seeds of one arm differ in more than `seed`.
    """

    origin: Literal["recorded", "composed"]
    shared: dict[str, Any]
    arms: Annotated[dict[Text, dict[Text, Any]], Field(min_length=1)]
    seeds: dict[Text, dict[Seed, dict[Text, Any]]] = {}


Model = TypeVar("Model", bound=BaseModel)


def read_results(path: Path) -> Results:
    """An experiment's `results.json`.

    Raises:
        DanteError: it is not JSON, or not of this form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DanteError(f"{path.name} is not JSON ({error})", where=str(path)) from None
    return validated(Results, content, path)


def read_configuration(path: Path) -> Configuration:
    """An experiment's `config.yaml`.

    Raises:
        DanteError: it is not YAML, or not of this form.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DanteError(f"{path.name} is not YAML ({str(error).splitlines()[0]})", where=str(path)) from None
    return validated(Configuration, content, path)


def validated(model: type[Model], content: Any, path: Path) -> Model:
    """Content as the model; the first complaint as an error that names file and key."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = first_of(error)
        key = ".".join(str(part) for part in first["loc"]) or "the file as a whole"
        value = "" if first["type"] == "missing" else f", and is {str(first['input'])[:60]!r}"
        raise DanteError(
            f"{path.name} is not of the form of an experiment's: {key}{value}",
            where=str(path),
            allowed=first["msg"],
            fix=f"see {model.__name__} in dante/experiments/schema.py",
        ) from None
