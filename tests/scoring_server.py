"""A local server that answers `prompt_logprobs` with a teacher's real log-probabilities, as vLLM does."""

import threading
from pathlib import Path
from typing import Any

from dante.teachers.engines.transformers_engine import TransformersEngine
from dante.teachers.teacher import load_teacher
from tests.bad_server import Reply


class Scores:
    """What `BadServer` does with a request: scores its prompt.

    Args:
        teacher: finished teacher step.
        most: largest number of log-probabilities that it gives; None: any.
    """

    def __init__(self, teacher: Path, most: int | None = None) -> None:
        handle = load_teacher(teacher)
        engine = TransformersEngine("float32", 1, "cpu")
        self.engine = engine.open(handle.location(teacher), None, {"threads": 1}, Path("unused.log"))
        self.most, self.lock = most, threading.Lock()

    def __call__(self, number: int, path: str, body: Any) -> Reply:
        k = body["prompt_logprobs"]
        if self.most is not None and k > self.most:
            return Reply({"error": {"message": f"Requested prompt logprobs of {k}, max {self.most}"}}, 400)
        with self.lock:
            logprobs = self.engine.full_logprobs(body["prompt"], 1)
        best = logprobs.topk(k)
        entries: list[Any] = [None]
        for row, token in enumerate(body["prompt"][1:]):
            values = zip(best.indices[row].tolist(), best.values[row].tolist(), strict=True)
            whole = {str(i): {"logprob": value} for i, value in values}
            entries.append(whole | {str(token): {"logprob": float(logprobs[row, token])}})
        return Reply({"choices": [{"text": "", "prompt_logprobs": entries}]})
