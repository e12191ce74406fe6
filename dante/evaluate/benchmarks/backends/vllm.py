"""Models run by vLLM, in this process."""

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any
from unittest import mock

from dante.errors import DanteError
from dante.evaluate.benchmarks.backends.base import Backend
from dante.evaluate.subject import Subject
from dante.run.precision import dtype_of
from dante.text.chat import fixed_date


class VllmBackend(Backend):
    """vLLM, as the harness runs it.

    Args:
        tensor_parallel: GPUs that a model is split over.
        max_context: tokens of a prompt with its answer; None: what the model allows.
        enforce_eager: without compiled graphs; a CPU needs it.
        options: further ones of vLLM's engine.
    """

    def __init__(
        self, tensor_parallel: int, max_context: int | None, enforce_eager: bool, options: dict[str, Any]
    ) -> None:
        self.tensor_parallel, self.max_context = tensor_parallel, max_context
        self.enforce_eager, self.options = enforce_eager, options

    def open(self, subject: Subject) -> Any:
        if self.max_context is not None and subject.context is not None and self.max_context > subject.context:
            raise DanteError(
                f"max_context={self.max_context} is longer than {subject.folder} was made for",
                where="eval.benchmarks.backend.max_context",
                allowed=f"up to {subject.context} tokens, or null: what the model allows",
                fix=f"eval.benchmarks.backend.max_context={subject.context}",
            )
        _check_installed()
        os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"  # its workers log beside our bars
        with _found_by_name():
            from lm_eval.models.vllm_causallms import VLLM

            return VLLM(
                pretrained=str(subject.folder),
                dtype=str(dtype_of(subject.precision)).removeprefix("torch."),
                tensor_parallel_size=self.tensor_parallel,
                max_model_len=self.max_context,
                enforce_eager=self.enforce_eager,
                batch_size="auto",
                chat_template_args={"strftime_now": fixed_date} | subject.chat,
                **self.options,
            )

    def identity(self) -> dict[str, Any]:
        _check_installed()
        from vllm import __version__

        return {"backend": "vllm", "version": __version__, "max_context": self.max_context, **self.options}

    def context(self, subject: Subject) -> int | None:
        return subject.context if self.max_context is None else self.max_context

    def sampling(self, seed: int) -> dict[str, Any]:
        return {"seed": seed}  # its engine is another process, with a generator of its own


def _check_installed() -> None:
    if find_spec("vllm") is None:
        raise DanteError(
            "vLLM is not installed in this environment",
            where="eval/backend",
            allowed="transformers, or vllm where it is installed",
            fix="pip install 'dante[vllm]', or leave eval/backend=vllm out",
        )


@contextlib.contextmanager
def _found_by_name() -> Iterator[None]:
    """The harness asks for the version of a distribution `vllm`, and builds for a CPU have another name."""
    version = importlib.metadata.version

    def known(name: str) -> str:
        try:
            return version(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
        import vllm

        return f"{vllm.__version__}+cpu"  # vLLM itself looks for the word, to know what it runs on

    with mock.patch.object(importlib.metadata, "version", known):
        yield
