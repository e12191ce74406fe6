"""What the teacher and each release take, and how fast they answer: the table of a run that measured it."""

from dante.report.read import Json, Run
from dante.report.words import MODELS, size

# A release is the student; which of several says its step's label.
_NAMES = {"release": "student, as experts always on", "release-padded": "student, padded to dense layers"}


def rows(run: Run) -> list[Json]:
    """Per model its parameters, bytes, cache and speed, all as text; none where nothing was measured."""
    return [
        {
            "model": _NAMES.get(row["model"], MODELS.get(row["model"], row["model"])),
            "resident": f"{row['resident']:,}",
            "active": f"{row['active']:,}",
            "bf16": size(row["bf16_bytes"]),
            "fp8": size(row["fp8_bytes"]),
            "cache": size(row["cache_bytes"]),
            "speed": f"{row['tokens_per_s']['median']:.1f}",
            "times": f"{row['tokens_per_s']['median'] / _teacher(run):.2f}",
        }
        for row in run.footprint.get("rows", [])
    ]


def note(run: Run) -> str:
    """How it was measured; empty where it was not."""
    if not run.footprint:
        return ""
    how = run.footprint["measured"]
    return (
        "Bytes are of weights alone; the cache is what transformers keeps of a token in bf16. Speed: "
        f"{how['new_tokens']} tokens behind {how['prompt_tokens']}, one greedy answer at a time, in turn, median "
        f"of {how['repeats']}; {how['precision']} on {how['device']}, {how['threads']} threads."
    )


def _teacher(run: Run) -> float:
    first: float = run.footprint["rows"][0]["tokens_per_s"]["median"]
    return first
