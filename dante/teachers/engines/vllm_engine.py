"""The vLLM engine: one worker process in an interpreter of its own, driven over a pipe."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from dante.errors import DanteError
from dante.teachers.engines.base import Decoding, Generation, Request, Scored, stop_ids_of, to_generation
from dante.teachers.teacher import SOURCE as TEACHER

WORKER = Path(__file__).with_name("vllm_worker.py")
INSTALL = (
    "build an environment with vLLM (launch/vllm_cpu_env.sh on a CPU, pip install 'dante[vllm]' with a GPU) and set "
    "teacher.python to its interpreter, or choose the transformers engine: engine=transformers"
)


class VllmEngine:
    """Runs `vllm_worker.py` with the interpreter `resources["python"]` (the current one when null).

    Args:
        dtype: weights and activations, e.g. `bfloat16`.
        max_model_len: longest prompt plus answer, in tokens.
        tensor_parallel_size: GPUs that share every layer.
        pipeline_parallel_size: groups of GPUs that share the layers among them.
        max_logprobs: the largest K that may be asked for (vLLM's own default is 20).
        enforce_eager: no CUDA graphs and no compilation (a CPU needs it).
        cpu_kv_cache_gib: memory for the KV cache on a CPU.
    """

    keeps_answers = False

    def __init__(
        self,
        dtype: str,
        max_model_len: int,
        tensor_parallel_size: int,
        pipeline_parallel_size: int,
        max_logprobs: int,
        enforce_eager: bool,
        cpu_kv_cache_gib: int,
    ) -> None:
        self.dtype, self.max_model_len, self.max_logprobs = dtype, max_model_len, max_logprobs
        self.tensor_parallel_size, self.pipeline_parallel_size = tensor_parallel_size, pipeline_parallel_size
        self.enforce_eager, self.cpu_kv_cache_gib = enforce_eager, cpu_kv_cache_gib
        self.version = ""
        self._process: subprocess.Popen[str] | None = None

    def open(self, model: str, revision: str | None, resources: dict[str, Any], log: Path) -> "VllmEngine":
        """Starts the worker and waits until the model is loaded; its log goes to the file `log`."""
        from transformers import AutoConfig

        from dante.text.tokenizer import load_tokenizer

        self.tokenizer = load_tokenizer(model, revision, TEACHER)
        self._log = log
        self._stop_ids = stop_ids_of(self.tokenizer, model, revision)
        self._process = self._start(resources.get("python") or sys.executable, log)
        engine = {
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "tensor_parallel_size": self.tensor_parallel_size,
            "pipeline_parallel_size": self.pipeline_parallel_size,
            "enforce_eager": self.enforce_eager,
            "revision": revision,
            "disable_log_stats": True,
            "max_logprobs": self.max_logprobs,
            "logprobs_mode": "raw_logprobs",
        }
        self._send({"model": model, "engine": engine})
        ready = self._receive()
        self.version = ready["version"]
        self._vocabulary = AutoConfig.from_pretrained(model, revision=revision or "main").vocab_size
        return self

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[tuple[int, Generation]]:
        """Runs one planned batch; see `Engine`."""
        sampling: dict[str, Any] = {
            "temperature": decoding.heat,
            "top_p": decoding.top_p,
            "top_k": decoding.top_k or -1,
            "logprobs": decoding.logprobs,
            "stop_token_ids": sorted(self._stop_ids),
        }
        if decoding.stop:
            sampling["stop"] = decoding.stop
        if decoding.repetition is not None:
            sampling["repetition_detection"] = {
                "min_pattern_size": decoding.repetition.min_tokens,
                "max_pattern_size": decoding.repetition.max_tokens,
                "min_count": decoding.repetition.count,
            }
        payload = [
            {"prompt_ids": request.prompt_ids, "seed": request.seed, "max_tokens": request.limit(decoding)}
            for request in requests
        ]
        self._send({"type": "generate", "requests": payload, "sampling": sampling})
        while (message := self._receive())["type"] != "end":
            yield (
                message["index"],
                to_generation(
                    self.tokenizer,
                    message["token_ids"],
                    message["logprobs"],
                    message["top_logprobs"],
                    message["finish_reason"],
                    self._stop_ids,
                    self._vocabulary,
                    decoding,
                ),
            )

    def score(self, sequences: list[tuple[list[int], int]], k: int) -> Iterator[Scored]:
        """See `Engine`; `max_logprobs` bounds k."""
        payload = [{"ids": ids, "start": start} for ids, start in sequences]
        self._send({"type": "score", "sequences": payload, "k": k})
        while (message := self._receive())["type"] != "end":
            yield Scored(message["logprobs"], message["top_logprobs"], message["top_ids"])

    def settings(self) -> dict[str, Any]:
        return {"name": "vllm", "dtype": self.dtype, "enforce_eager": self.enforce_eager}

    def close(self) -> None:
        """Ends the worker: its input closes, and it is killed if it does not go by itself."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> "VllmEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, python: str, log: Path) -> subprocess.Popen[str]:
        if shutil.which(python) is None:
            raise DanteError(f"no interpreter at {python!r}", where="teacher.python", fix=INSTALL)
        probe = [python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"]
        if subprocess.run(probe, check=False, capture_output=True).returncode:
            raise DanteError(f"vLLM is not installed in {python!r}", where="teacher.python", fix=INSTALL)
        # In one process, so that closing the worker leaves nothing behind.
        environment = os.environ | {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": str(self.cpu_kv_cache_gib),
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        environment.pop("PYTHONPATH", None)  # the lab's packages must not reach into the worker's environment
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            return subprocess.Popen(
                [python, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=environment,
            )

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None, "the engine is not open"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _receive(self) -> dict[str, Any]:
        assert self._process is not None, "the engine is not open"
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        message = json.loads(line)
        if message["type"] == "error":
            raise DanteError(f"vLLM failed: {message['message']}", where=str(self._log), fix="see the worker's log")
        return message

    def _died(self) -> DanteError:
        tail = self._log.read_text(encoding="utf-8", errors="replace")[-600:] if self._log.is_file() else ""
        return DanteError(f"the vLLM worker died; the end of its log: {tail!r}", where=str(self._log))
