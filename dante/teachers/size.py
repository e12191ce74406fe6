"""How many parameters a token goes through in a teacher: counted in its files, or as its YAML states."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dante.system.files import read_json
from dante.teachers.teacher import FILE_NAME, load_teacher

# One expert's matrix, or all experts' in one tensor; `.shared_experts.` serve every token and are no match.
_EXPERTS = re.compile(r"\.experts\.")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "experts_per_token")
_ALL_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True)
class Size:
    """Parameters that a token goes through, and whether they were counted one by one."""

    parameters: float
    counted: bool


def teacher_size(stated: float | int | None, teacher: Path | None) -> Size | None:
    """The size of a run's teacher; None where neither its files nor its YAML tell.

    A dense teacher's own weights are counted and believed. Of a mixture of experts, of quantised weights and of a
    teacher on a hub the stated number counts; a mixture's active parameters are estimated where none is stated.

    Args:
        stated: `teacher.parameters`.
        teacher: the finished teacher step, or None.
    """
    folder = Path(load_teacher(teacher).location(teacher)) if teacher and (teacher / FILE_NAME).is_file() else None
    measured_size = size_of(folder) if folder is not None and folder.is_dir() else None
    if stated is None or (measured_size and measured_size.counted):
        return measured_size
    return Size(float(stated), counted=False)


def size_of(folder: Path) -> Size | None:
    """The size of a Hugging Face folder; None without safetensors, or where they are quantised (packed numbers).

    Of n experts, k of which a token goes through, k/n of the experts' parameters are active; a tied head is stored
    once, and counts once.
    """
    text = _text_config(folder)
    counts = _entries(folder, text)
    if counts is None:
        return None
    everyone, experts = counts
    if not experts:
        return Size(float(everyone), counted=True)
    active, total = _first(text, _EXPERTS_PER_TOKEN), _first(text, _ALL_EXPERTS)
    share = active / total if active and total else 1.0
    return Size(everyone + experts * share, counted=False)


def resident_parameters(stated: float | int | None, teacher: Path | None) -> float | None:
    """All parameters of a teacher, every expert's: what its weights take. Counted in its files, else as stated.

    Args:
        stated: `teacher.resident`.
        teacher: the finished teacher step, or None.
    """
    folder = Path(load_teacher(teacher).location(teacher)) if teacher and (teacher / FILE_NAME).is_file() else None
    counts = _entries(folder, _text_config(folder)) if folder is not None and folder.is_dir() else None
    if counts is not None:
        return float(sum(counts))
    return None if stated is None else float(stated)


def _text_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return {**config, **(config.get("text_config") or {})}


def _entries(folder: Path, config: dict[str, Any]) -> tuple[int, int] | None:
    """Entries that every token goes through, and those of experts; None where there are none to count."""
    files = sorted(folder.glob("*.safetensors"))
    if not files or config.get("quantization_config"):
        return None
    everyone = experts = 0
    for path in files:
        with safe_open(path, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118  (no mapping: it has no iterator)
                entries = math.prod(weights.get_slice(name).get_shape())
                everyone += 0 if _EXPERTS.search(name) else entries
                experts += entries if _EXPERTS.search(name) else 0
    return everyone, experts


def _first(config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    return next((config[name] for name in names if config.get(name)), None)
