"""A model's answers, kept as they come: an evaluation that was killed asks again only for the batch it was in.

Which requests are asked together follows from all of them, never from what is already there: in bf16 an answer depends
on its neighbours, and the one that is asked again has the same ones.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from dante.errors import DanteError
from dante.evaluate.subject import Subject
from dante.system.files import fingerprint, read_json, write_json

Request = Any  # lm_eval.api.instance.Instance


class Kept:
    """Results of batches, in files that are there completely or not at all.

    Args:
        folder: of whatever identifies who answers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, asked: Any, answer: Callable[[], list[Any]]) -> list[Any]:
        """What was answered before, or what `answer` gives now.

        Args:
            asked: plain content that identifies the batch.
        """
        path = self.folder / f"{fingerprint(asked)}.json"
        if path.is_file():
            with contextlib.suppress(DanteError):  # a damaged one is made again
                return list(read_json(path))
        answers = answer()
        self.folder.mkdir(parents=True, exist_ok=True)
        own = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")  # another process may write the same answers
        write_json(own, answers)
        own.replace(path)
        return answers


def kept_of(subject: Subject, *by: Any) -> Kept:
    """Where a model's answers are kept: by what it is, its precision, the variables of its template, and who asks.

    Args:
        subject: the model.
        by: plain content that tells apart what else answers depend on: a backend, versions.
    """
    what = [subject.identity, subject.precision, subject.chat, *by]
    return Kept(subject.kept / f"benchmarks-{fingerprint(what)}")


class KeptModel:
    """A model of the harness's whose answers are kept; asks it for a few items at a time.

    Args:
        model: an `lm_eval.api.model.LM`.
        kept: where answers lie.
        items: asked together.
        advance: called with the number of items finished, for a progress bar.
        look: called with every prompt and what is asked behind it: an option, or how an answer is generated.
        draw: which sample of several this is; 0 for greedy answers.
    """

    def __init__(
        self,
        model: Any,
        kept: Kept,
        items: int,
        advance: Callable[[int], object],
        look: Callable[[str, Any], object],
        draw: int,
    ) -> None:
        self.model, self.kept, self.items, self.advance = model, kept, items, advance
        self.look, self.draw = look, draw

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def loglikelihood(self, requests: Sequence[Request]) -> list[tuple[float, bool]]:
        return [(float(value), bool(best)) for value, best in self._answers("loglikelihood", requests)]

    def generate_until(self, requests: Sequence[Request]) -> list[str]:
        return [str(text) for text in self._answers("generate_until", requests)]

    def _answers(self, kind: str, requests: Sequence[Request]) -> list[Any]:
        answers: dict[int, Any] = {}
        for batch in self._batches(requests):
            chosen = [requests[place] for items in batch for place in items]
            for request in chosen:
                self.look(*request.args)
            asked = [kind, self.draw, [list(request.args) for request in chosen]]
            given = self.kept.get(asked, functools.partial(self._ask, kind, chosen, int(fingerprint(asked), 16)))
            answers |= dict(zip((place for items in batch for place in items), given, strict=True))
            self.advance(len(batch))
        return [answers[place] for place in range(len(requests))]

    def _ask(self, kind: str, requests: list[Request], seed: int) -> list[Any]:
        """Of the model itself. What is sampled follows from what is asked, whatever was sampled before."""
        model_asks = getattr(self.model, kind)
        with torch.random.fork_rng():
            torch.manual_seed(seed % 2**63)
            return list(model_asks(requests))

    def _batches(self, requests: Sequence[Request]) -> list[list[list[int]]]:
        """Places of requests by item, a batch of items at a time: task by task, the longest first."""
        items: dict[tuple[str, int], list[int]] = {}
        for place, request in enumerate(requests):
            items.setdefault((request.task_name, request.doc_id), []).append(place)
        tasks = list(dict.fromkeys(name for name, _ in items))
        length = {key: max(len(requests[place].args[0]) for place in places) for key, places in items.items()}
        order = sorted(items, key=lambda key: (tasks.index(key[0]), -length[key], key[1]))
        return [[items[key] for key in order[start : start + self.items]] for start in range(0, len(order), self.items)]
