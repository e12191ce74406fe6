"""The release's model card with results filled in: to be published in place of the card written before them."""

from typing import Any

import yaml

from dante.report.one_run.results import scores
from dante.report.read import Run

HEADING = "## Results"


def card_with_results(run: Run) -> str | None:
    """The card with `model-index` results and a results table; None without a card or without an evaluation."""
    rows = scores(run)
    if not rows or not run.card.startswith("---\n") or HEADING not in run.card:
        return None
    _, front_text, body = run.card.split("---\n", 2)
    front: dict[str, Any] = yaml.safe_load(front_text)
    front["model-index"][0]["results"] = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"type": "heldout", "name": "held-out answers"},
            "metrics": [{"type": "bits_per_byte", "name": "bits per byte", "value": row["value"]}],
        }
        for row in rows
        if row["model"] == "student"
    ]
    table = ["| model | bits per byte of held-out answers | standard error | answers |", "|---|---|---|---|"]
    for row in rows:
        stderr = f"{row['stderr']:.4f}" if row["stderr"] is not None else "–"
        table.append(f"| {row['model']} | {row['value']:.4f} | {stderr} | {row['n']} |")
    before, rest = body.split(HEADING, 1)
    after = rest[rest.index("\n## ") :]  # the next section; what stood between said that nothing was measured yet
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return "---\n" + text + "---\n" + before + HEADING + "\n\n" + "\n".join(table) + "\n" + after
