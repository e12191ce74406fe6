"""Foreign results as `model-index`, the metadata of a model card that the Hugging Face Hub reads.

The block goes between the two `---` of a card's README.md. A result is one task with all its metrics, without slices.
`dataset.type` is the task's canonical name: the Hub takes results of one data set for one result, and 5 and 25 shots of
one are two. Form: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from typing import Any

import yaml

from dante.evaluate.foreign.choose import Chosen
from dante.evaluate.foreign.metrics import described
from dante.evaluate.foreign.result import Result
from dante.evaluate.foreign.tasks import Name


def model_index(chosen: Chosen) -> list[dict[str, Any]]:
    """The value of the card's key `model-index`; values are shares of one where a metric is a share."""
    return [{"name": chosen.model, "results": [_entry(name, result) for name, result in chosen.results]}]


def model_index_text(chosen: Chosen) -> str:
    """The same as YAML, under its key."""
    content = {"model-index": model_index(chosen)}
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def _entry(name: Name, result: Result) -> dict[str, Any]:
    """One task. `source` is whose code has measured."""
    dataset: dict[str, Any] = {"name": name.heading, "type": name.task}
    dataset |= {"split": result.split} if result.split else {}
    dataset |= {"args": {"num_few_shot": result.n_shot}} if result.n_shot is not None else {}
    return {
        "task": {"type": "text-generation"},
        "dataset": dataset,
        "metrics": [
            {
                "type": score.metric,
                "value": score.value,
                "name": described(score, result.decoding).label,
                "verified": False,
            }
            for score in result.scores
            if not score.part
        ],
        "source": {
            "name": f"{result.harness.title} {result.harness_version}".strip(),
            "url": result.harness.url,
        },
    }
