"""lm-evaluation-harness inside another program: silent, counted, and nothing of the caller's is changed."""

import contextlib
import io
import logging
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch


@contextlib.contextmanager
def counted(model: torch.nn.Module, total: int, advance: Callable[[int], object]) -> Iterator[None]:
    """Reports the rows of every forward pass: the harness's own bars cannot be put beside ours."""
    done = 0

    def count(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        nonlocal done
        done += len(output.logits)
        advance(len(output.logits))

    handle = model.register_forward_hook(count)
    try:
        yield
    finally:
        handle.remove()
    # Options that differ in nothing but their last token share a pass.
    advance(total - done)


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """The harness's bars and logs silent; environment, logging levels and `random`'s state are restored.

    Only standard error is caught, where its bars go: our own bar writes to standard output meanwhile.
    """
    environment, drawn = dict(os.environ), random.getstate()
    levels = {name: logging.getLogger(name).level for name in ("lm_eval", "datasets", "transformers")}
    try:
        # Libraries give their log handlers the standard error of the moment they are imported at.
        import lm_eval.evaluator
        import lm_eval.models.huggingface  # noqa: F401

        with contextlib.redirect_stderr(io.StringIO()):
            for name in levels:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        random.setstate(drawn)  # the harness draws a name for every task, even for one that has a name
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
