"""Scores → the rows and pairs of `eval.json` and the lines of `items.jsonl`."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dante
from dante.cache import Record
from dante.evaluate import heldout
from dante.evaluate.bootstrap import bits_per_byte, paired_bootstrap, ratio_stderr
from dante.evaluate.fidelity import Scores
from dante.evaluate.generate import Generation

# Differences worth an interval: what training bought, what is left to the teacher, what counting alone would give.
PAIRS = [
    ("student", "init"),
    ("student", "teacher"),
    ("student", "trigram"),
    ("student", "unigram"),
    ("init", "teacher"),
]


def row(model: str, task: str, metric: str, value: float, stderr: float | None, n: int, decoding: str, seed: int
        ) -> dict[str, Any]:  # fmt: skip
    """One result in the form every harness shares."""
    return {
        "model": model,
        "task": task,
        "metric": metric,
        "value": value,
        "stderr": stderr,
        "n": n,
        "n_shot": 0,
        "harness": "dante",
        "harness_version": dante.__version__,
        "decoding": decoding,
        "seed": seed,
    }


def fidelity_rows(scores: dict[str, Scores], records: Sequence[Record], seed: int) -> list[dict[str, Any]]:
    """Bits per byte of every model, on everything and per slice (`heldout/domain=…`, `heldout/language=…`)."""
    rows = []
    for task, chosen in heldout.slices(records).items():
        for model, mine in scores.items():
            bits, text_bytes = mine.bits[chosen], mine.text_bytes[chosen]
            value, stderr = bits_per_byte(bits, text_bytes), ratio_stderr(bits, text_bytes)
            rows.append(row(model, task, "bits_per_byte", value, stderr, len(chosen), "teacher-forced", seed))
    return rows


def fidelity_pairs(
    scores: dict[str, Scores], records: Sequence[Record], *, resamples: int, confidence: float, seed: int
) -> list[dict[str, Any]]:
    """Paired differences in bits per byte: all of `PAIRS` on everything, student against init on every slice.

    A slice of a single item has no interval and is left out.
    """
    pairs = []
    for task, chosen in heldout.slices(records).items():
        for a, b in PAIRS if task == "heldout" else PAIRS[:1]:
            if a in scores and b in scores and len(chosen) > 1:
                text_bytes = scores[a].text_bytes[chosen]
                interval = paired_bootstrap(
                    scores[a].bits[chosen],
                    scores[b].bits[chosen],
                    text_bytes,
                    resamples=resamples,
                    confidence=confidence,
                    seed=seed,
                )
                pairs.append({"a": a, "b": b, "task": task, "metric": "bits_per_byte"} | asdict(interval))
    return pairs


def stop_rows(answers: dict[str, list[Generation]], max_new_tokens: int, seed: int) -> list[dict[str, Any]]:
    """Share of greedy answers that ended their turn by themselves within the limit."""
    rows = []
    for model, generations in answers.items():
        if generations:
            n = len(generations)
            share = sum(generation.stopped for generation in generations) / n
            stderr = math.sqrt(share * (1 - share) / n)
            decoding = f"greedy, max_new_tokens={max_new_tokens}"
            rows.append(row(model, "generation", "stop_share", share, stderr, n, decoding, seed))
    return rows


def item_lines(scores: dict[str, Scores], records: Sequence[Record]) -> list[dict[str, Any]]:
    """Per record: identity of its text, its bytes, and every model's bits and tokens."""
    return [
        {
            "id": record.id,
            "domain": record.domain,
            "language": record.language,
            "text_sha256": heldout.text_hash(record),
            "bytes": int(scores["student"].text_bytes[index]),
            "bits": {model: float(mine.bits[index]) for model, mine in scores.items()},
            "tokens": {model: int(mine.tokens[index]) for model, mine in scores.items()},
        }
        for index, record in enumerate(records)
    ]
