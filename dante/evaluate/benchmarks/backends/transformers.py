"""Models run by transformers."""

from typing import Any

import torch
import transformers

from dante.evaluate.benchmarks.backends.base import Backend
from dante.evaluate.subject import Subject
from dante.text.chat import fixed_date


class TransformersBackend(Backend):
    """The model that the other suites measure, in the run's precision.

    Args:
        batch: rows in a forward pass of generation.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def open(self, subject: Subject) -> Any:
        from dante.evaluate.harness.prefixes import PrefixSharingLM

        # A loaded model, not a path: with a path the harness would set up a process group of its own under torchrun.
        return PrefixSharingLM(
            pretrained=subject.model,
            tokenizer=subject.tokenizer,
            batch_size=self.batch,
            softmax_dtype=torch.float32,
            chat_template_args={"strftime_now": fixed_date} | subject.chat,
        )

    def identity(self) -> dict[str, Any]:
        return {"backend": "transformers", "version": transformers.__version__, "batch": self.batch}
