"""What a run of the lab imports, all of it; the server of `tests/warm.py` imports this."""

import importlib
import os

INHERITED = frozenset(os.environ)

import train  # noqa: E402, F401  first, as in a start: it imports dante before torch

for _stage in ("teachers", "cache", "students", "fit", "evaluate", "release", "report"):
    importlib.import_module(f"dante.{_stage}.stage")
for _module in (
    "dante.cost.estimate",
    "lm_eval.evaluator",
    "sacrebleu",
    "transformers.processing_utils",
):
    importlib.import_module(_module)
