"""A run's directory → what a comparison needs: configuration, steps, evaluation, and whom it may be ranked with."""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from dante.errors import DanteError
from dante.report.comparison.runs.find import Point
from dante.report.comparison.runs.measured import Evaluation, read_evaluation
from dante.report.read import Json, Run, read_run
from dante.report.words import compact
from dante.system.files import read_json

# Keys of a model's config.json that change neither its shape nor its vocabulary.
COSMETIC = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "initializer_range",
            "attention_dropout", "architectures", "pretraining_tp"}  # fmt: skip


@dataclass(frozen=True)
class Alike:
    """Whom a run may be ranked with: runs that agree in all of these. Each is an identity and how it reads."""

    teacher: tuple[str, str]
    student: tuple[str, str]
    data: tuple[str, str]
    scored: tuple[str, str]

    def key(self) -> tuple[str, ...]:
        """The identities."""
        return tuple(identity for identity, _ in self.parts().values())

    def parts(self) -> dict[str, tuple[str, str]]:
        """By what they are called."""
        return {"teacher": self.teacher, "student": self.student, "train data": self.data,
                "scored texts": self.scored}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """One run.

    Attributes:
        name: of its directory.
        seed: training seed.
        config: content of `config.yaml`.
        point: where it came from.
        files: what the report reads of its steps (without the cache's records).
        evaluation: what was measured.
        alike: whom it may be ranked with.
    """

    name: str
    seed: int
    config: Json
    point: Point
    files: Run
    evaluation: Evaluation
    alike: Alike


def read_trained(point: Point) -> Trained:
    """Reads one run.

    Raises:
        DanteError: a file of it is damaged.
    """
    config = _config(point.path / "config.yaml")
    folders = _steps(point.path, config)
    evaluation = read_evaluation(_folder_with("eval.json", folders))
    files = read_run(folders, records=False)
    alike = Alike(_teacher(files, config), _student(files, folders, config), _data(files, folders),
                  (evaluation.scored, f"{evaluation.heldout:,} held-out answers"))  # fmt: skip
    seed = point.seed if point.seed is not None else int(config.get("seed", 0))
    return Trained(point.path.resolve().name, seed, config, point, files, evaluation, alike)


def _config(path: Path) -> Json:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from None
    if not isinstance(config, dict):
        raise _damaged(path, "it holds no keys")
    return config


def _damaged(path: Path, what: str) -> DanteError:
    return DanteError(
        f"the run's configuration is damaged: {what}",
        where=str(path),
        allowed="YAML as train.py wrote it",
        fix="rerun the run's command, which writes it again",
    )


def _steps(path: Path, config: Json) -> dict[str, Path]:
    """Finished steps by label, in the recipe's order."""
    there = {p.name: p for p in sorted(path.iterdir()) if (p / "step.json").is_file() or (p / "eval.json").is_file()}
    order = [label for label in config.get("steps", {}) if label in there]
    return {label: there[label] for label in [*order, *(k for k in there if k not in order)]}


def _folder_with(file: str, folders: dict[str, Path]) -> Path:
    """The last step that wrote a file of this name."""
    return [folder for folder in folders.values() if (folder / file).is_file()][-1]


def _teacher(files: Run, config: Json) -> tuple[str, str]:
    name = files.teacher.get("name") or config.get("teacher", {}).get("name", "unknown")
    identity = {key: files.teacher.get(key) for key in ("name", "sha256", "revision")}
    return _hash(identity if files.teacher else config.get("teacher", {}).get("make")), str(name)


def _student(files: Run, folders: dict[str, Path], config: Json) -> tuple[str, str]:
    """Shape and vocabulary of the released model; its initialisation is part of the recipe, not of who it is."""
    released = [folder for folder in folders.values() if (folder / "config.json").is_file()]
    if not released:
        student = config.get("student", {})
        shape = student.get("architecture") or student.get("source")
        return _hash([shape, student.get("init") or student.get("layers")]), str(student.get("name", "unknown"))
    return _released(released[-1].resolve(), files.init.get("parameters"))


@functools.lru_cache(maxsize=256)
def _released(folder: Path, parameters: int | None) -> tuple[str, str]:
    shape = {key: value for key, value in read_json(folder / "config.json").items() if key not in COSMETIC}
    step = folder / "step.json"
    written = read_json(step).get("files", {}) if step.is_file() else {}
    tokenizer = written.get("tokenizer.json", {}).get("sha256", "")
    size = f", {compact(parameters)} parameters" if parameters else ""
    text = f"{shape.get('num_hidden_layers', '?')} layers × {shape.get('hidden_size', '?')}{size}"
    return _hash([shape, tokenizer]), f"{text}, vocabulary of {shape.get('vocab_size', 0):,}"


def _data(files: Run, folders: dict[str, Path]) -> tuple[str, str]:
    """Content of the caches that training steps read: their shards' hashes, and how they were split."""
    read_by_fits = {files.steps[fit.label].get("inputs", {}).get("cache") for fit in files.fits}
    caches = {
        step.get("fingerprint", label): read_json(folders[label] / "manifest.json")
        for label, step in files.steps.items()
        if (folders[label] / "manifest.json").is_file()
    }
    used = {name: cache for name, cache in caches.items() if name in read_by_fits} or caches
    if not used:
        return "unknown", "train data not recorded"
    content = [[[shard["sha256"] for shard in cache.get("shards", [])], _split(cache)] for cache in used.values()]
    counts = " + ".join(
        f"{cache['counts']['train']:,}" for cache in used.values() if "train" in cache.get("counts", {})
    )
    return _hash(content), f"{counts or 'unknown'} train answers (cache {', '.join(used)})"


def _split(cache: Json) -> list[int | None]:
    return [cache.get("counts", {}).get(part) for part in ("train", "heldout", "validation")]


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
