"""What a report knows: the files of the finished steps, and nothing else.

The report imports no stage and no model code, so it can be rewritten, rerun and trusted without either. A file that is
missing is simply absent from the report; a file that is there and cannot be read is an error.
"""

import contextlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from dante.report.evaluation import MAIN, read_described, read_items
from dante.system.files import read_json
from dante.system.jsonl import parse_lines, read_lines

Json = dict[str, Any]


@dataclass(frozen=True)
class Fit:
    """One training step: `metrics.jsonl`, `summary.json` and the settings stored in `step.json`."""

    label: str
    metrics: list[Json]
    summary: Json
    settings: Json


@dataclass(frozen=True)
class Run:
    """Everything read from a run's step directories.

    Attributes:
        steps: label → content of its `step.json`.
        files: label → paths of the files below its directory, for links.
        fits: training steps in recipe order.
        evaluation: `eval.json` with how its metrics read, or empty.
        items: suite → its joined items, see `dante.report.evaluation`.
        tokens: lines of `heldout/tokens.jsonl`: some held-out answers token by token, where the evaluation kept them.
        generations: lines of `generations.jsonl`: every prompt that was asked.
        cache: `manifest.json` of the teacher's answers; of several such steps the last one.
        entropies: `output_entropy` of its records, nats per token.
        cache_step: `step.json` of that cache: whether it was generated in this run, and how long that took.
        teacher: `teacher.json`.
        teacher_parameters: counted in the headers of the teacher's safetensors; None where its weights are elsewhere.
        init: `init.json`.
        card: `README.md` of the release.
        sentences: `sentences.json`: types of sentences, what selectors keep, where candidates were looked at.
        sentence_examples: lines of `examples.jsonl`: some candidates sentence by sentence.
        likelihood: `likelihood.json`, and under `speed` `speed.json`: the untrained student's reading of candidates.
        samples: lines of `samples.jsonl`: a student's own answers, where the recipe has a mixed round.
        mixed: entry `mixed` of the manifest of what became of them.
        footprint: `footprint.json`: what the models take and how fast they answer, where a step has measured it.
    """

    steps: dict[str, Json] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    fits: list[Fit] = field(default_factory=list)
    evaluation: Json = field(default_factory=dict)
    items: dict[str, list[Json]] = field(default_factory=dict)
    tokens: list[Json] = field(default_factory=list)
    generations: list[Json] = field(default_factory=list)
    cache: Json = field(default_factory=dict)
    entropies: list[float] = field(default_factory=list)
    cache_step: Json = field(default_factory=dict)
    teacher: Json = field(default_factory=dict)
    teacher_parameters: int | None = None
    init: Json = field(default_factory=dict)
    card: str = ""
    sentences: Json = field(default_factory=dict)
    sentence_examples: list[Json] = field(default_factory=list)
    likelihood: Json = field(default_factory=dict)
    samples: list[Json] = field(default_factory=list)
    mixed: Json = field(default_factory=dict)
    footprint: Json = field(default_factory=dict)


def read_run(inputs: dict[str, Path], *, records: bool = True) -> Run:
    """Reads the steps by what their directories hold, not by what they are called: labels differ between recipes.

    Args:
        inputs: label → finished step directory.
        records: read the cache's records, too, for their entropies.
    """
    fields: dict[str, Any] = {"steps": {}, "files": {}, "fits": []}
    for label, folder in inputs.items():
        step = fields["steps"][label] = _json(folder / "step.json")
        fields["files"][label] = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        if (folder / "metrics.jsonl").is_file():
            settings = step.get("settings", {})
            metrics = read_lines(folder / "metrics.jsonl")
            fields["fits"].append(Fit(label, metrics, _json(folder / "summary.json"), settings))
        if (folder / "eval.json").is_file():
            fields["evaluation"] = read_described(folder)
            fields["items"] = read_items(folder, fields["evaluation"])
            fields["tokens"] = read_lines(folder / MAIN / "tokens.jsonl")
            fields["generations"] = read_lines(folder / "generations.jsonl")
        if "mixed" in (manifest := _json(folder / "manifest.json")):
            fields["mixed"] = manifest["mixed"]
        elif manifest:
            fields["cache"], fields["cache_step"] = manifest, step
            shards = [folder / shard["file"] for shard in fields["cache"].get("shards", []) if records]
            fields["entropies"] = list(_entropies(shards))
        if (folder / "likelihood.json").is_file():
            fields["likelihood"] = _json(folder / "likelihood.json") | {"speed": _json(folder / "speed.json")}
        if (folder / "sentences.json").is_file():
            fields["sentence_examples"] = read_lines(folder / "examples.jsonl")
        if (folder / "samples.json").is_file():
            fields["samples"] = read_lines(folder / "samples.jsonl")
        for key in ("teacher", "init", "footprint", "sentences"):
            if (folder / f"{key}.json").is_file():
                fields[key] = _json(folder / f"{key}.json")
        if (folder / "teacher.json").is_file():
            fields["teacher_parameters"] = count_parameters(sorted(folder.rglob("*.safetensors")))
        if (folder / "config.json").is_file() and (folder / "README.md").is_file():
            fields["card"] = (folder / "README.md").read_text(encoding="utf-8")
    return Run(**fields)


def count_parameters(files: Sequence[Path]) -> int | None:
    """Numbers stored in safetensors files, from their headers alone; None without a file.

    A file starts with the header's length (8 bytes, little-endian), then JSON with a shape per tensor. A tied head is
    stored once, and counts once.
    """
    total = 0
    for path in files:
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total or None


def _entropies(shards: Sequence[Path]) -> Iterator[float]:
    for path in shards:
        with path.open("rb") as raw, contextlib.ExitStack() as stack:
            binary: Any = (
                zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
                if path.suffix == ".zst"
                else raw
            )
            for record in parse_lines(stack.enter_context(io.TextIOWrapper(binary, encoding="utf-8")), path):
                if isinstance(record.get("output_entropy"), int | float):
                    yield float(record["output_entropy"])


def _json(path: Path) -> Json:
    return read_json(path) if path.is_file() else {}
