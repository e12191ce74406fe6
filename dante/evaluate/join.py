"""Several models' directories → one line per item, paired differences, answers side by side; for any suites."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dante.cache import Record
from dante.errors import DanteError
from dante.evaluate.measure import as_item
from dante.evaluate.rows import Line, pairs_of
from dante.evaluate.suite import Item
from dante.system.files import read_json, write_json
from dante.system.jsonl import read_lines, write_lines


@dataclass(frozen=True)
class Joined:
    """What all models of a run made of one suite.

    Attributes:
        name: of the suite.
        said: its `suite.json`, but the details.
        models: model → items, those that the suite makes by itself behind the others.
        details: model → details.
        answers: model → id → line.
        tokens: the same of items token by token.
    """

    name: str
    said: Line
    models: Mapping[str, Sequence[Item]]
    details: Mapping[str, Line]
    answers: Mapping[str, Mapping[str, Line]]
    tokens: Mapping[str, Mapping[str, Line]]

    def lines(self) -> Iterator[Line]:
        """Per item of the student's, what every model has of it."""
        tables = {model: {item.id: item for item in items} for model, items in self.models.items()}
        for first in self.models.get("student") or next(iter(self.models.values())):
            item_by_model = {model: table[first.id] for model, table in tables.items() if first.id in table}
            yield {
                "id": first.id,
                "text": first.text,
                "slices": list(first.slices),
                "models": {
                    model: {k: list(v) for k, v in item.values.items()} for model, item in item_by_model.items()
                },
            }

    def token_lines(self) -> list[Line]:
        """Per item that is kept token by token, what every model has of it: `{id, prompt, …, models: {model: […]}}`."""
        lines: dict[str, Line] = {}
        for model, table in self.tokens.items():
            for identity, line in table.items():
                said = {key: value for key, value in line.items() if key != "tokens"}
                lines.setdefault(identity, said | {"models": {}})["models"][model] = line["tokens"]
        return list(lines.values())

    def pairs(self, interval: Mapping[str, Any]) -> list[Line]:
        """Paired differences between models."""
        main = next(iter(self.said["metrics"]))
        return list(pairs_of(self.name, self.said["contrasts"], main, self.said["slices"], self.models, interval))


def joined(folders: Mapping[str, Path]) -> list[Joined]:
    """The suites that at least one model was measured in, in the order of the last model's.

    Args:
        folders: model → its directory (`dante.evaluate.measure`), the student's last.

    Raises:
        DanteError: models were asked different things under one id.
    """
    scores = {model: read_json(folder / "scores.json") for model, folder in folders.items()}
    names = dict.fromkeys(name for model_scores in reversed(scores.values()) for name in model_scores.get("suites", []))
    return [
        _join(name, {m: f / name for m, f in folders.items() if name in scores[m].get("suites", [])}) for name in names
    ]


def write_joined(
    out: Path, folders: Mapping[str, Path], seed: int | None, precision: str, interval: Mapping[str, Any]
) -> list[Joined]:
    """Write `eval.json` and every suite's lines.

    Args:
        out: directory to write.
        folders: model → its directory, that of the model whose commands are kept last.
        seed: that rows carry; None: their own.
        precision: of the models.
        interval: of the bootstrap: `resamples`, `confidence`, `seed`.
    """
    scores = {model: read_json(folder / "scores.json") for model, folder in folders.items()}
    suites = joined(folders)
    everyone = [row for part in ("rows", "others") for of_model in scores.values() for row in of_model.get(part, [])]
    write_json(
        out / "eval.json",
        {
            "rows": everyone if seed is None else [row | {"seed": seed} for row in everyone],
            "pairs": [pair for suite in suites for pair in suite.pairs(interval)],
            "suites": {suite.name: suite.said for suite in suites},
            "details": {suite.name: suite.details for suite in suites},
            "commands": list(scores.values())[-1]["commands"],
            "precision": precision,
            "notes": list(dict.fromkeys(note for of_model in scores.values() for note in of_model["notes"])),
        },
    )
    for suite in suites:
        (out / suite.name).mkdir(exist_ok=True)
        write_lines(out / suite.name / "items.jsonl", list(suite.lines()))
        if suite.tokens:
            write_lines(out / suite.name / "tokens.jsonl", suite.token_lines())
    return suites


def _join(name: str, folders: Mapping[str, Path]) -> Joined:
    models: dict[str, list[Item]] = {}
    others: dict[str, list[Item]] = {}
    description: Line = {}
    details: dict[str, Line] = {}
    texts: dict[str, dict[str, dict[str, Line]]] = {"answers": {}, "tokens": {}}
    for model, folder in folders.items():
        description = read_json(folder / "suite.json")
        details[model] = description.pop("details")
        models[model] = _items(folder / "items.jsonl")
        for path in sorted(folder.glob("items-*.jsonl")):
            others[path.stem.removeprefix("items-")] = _items(path)
        for kind, by_model in texts.items():
            lines = read_lines(folder / f"{kind}.jsonl")
            if lines:
                by_model[model] = {line["id"]: line for line in lines}
    _check_alike(name, models)
    return Joined(name, description, models | others, details, **texts)


def _items(path: Path) -> list[Item]:
    return [as_item(line) for line in read_lines(path)]


def _check_alike(suite: str, models: Mapping[str, Sequence[Item]]) -> None:
    texts: dict[str, str] = {}
    for items in models.values():
        for item in items:
            if texts.setdefault(item.id, item.text) != item.text:
                raise DanteError(
                    f"item {item.id!r} of the suite {suite!r} has not one text for {', '.join(models)}",
                    where=f"eval.suites.{suite}",
                    allowed="an id and a text that are the same for every model; what it answered goes into values",
                    fix="correct the suite, and measure again: on_existing=overwrite "
                    "'only=[eval-teacher,eval-init,eval,report]'",
                )


def side_by_side(suites: Sequence[Joined], records: Mapping[str, Record], writer: str = "teacher") -> list[Line]:
    """Per asked prompt: the cached text and every model's answer (some may have answered fewer prompts).

    Args:
        suites: of the run.
        records: held-out records by id.
        writer: whose answer the cached text is: the teacher's, or, where the cache is not the teacher's, `cache`.
    """
    lines: list[Line] = []
    for suite in suites:
        for identity in dict.fromkeys(key for table in suite.answers.values() for key in table):
            record = records[identity]
            cached = {"text": record.teacher_text, "tokens": None, "stopped": record.finish_reason == "stop"}
            answers = {
                name: {key: value for key, value in table[identity].items() if key != "id"}
                for name, table in suite.answers.items()
                if identity in table
            }
            lines.append({"id": identity, "domain": record.domain, "language": record.language,
                          "prompt": record.prompt, "answers": {writer: cached} | answers})  # fmt: skip
    return lines
