"""The transformers engine: the teacher in this process, for small models and for machines without vLLM."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dante.errors import DanteError
from dante.system.threads import use_threads
from dante.teachers.engines.base import (
    Decoding,
    Generation,
    Request,
    Scored,
    ends_with_stop,
    stop_ids_of,
    to_generation,
)
from dante.teachers.teacher import SOURCE as TEACHER
from dante.text.repetition import repeats

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TransformersEngine:
    """Batched, left-padded generation, sorted by prompt length so that little is padded.

    Args:
        dtype: `float32`, `bfloat16` or `float16`.
        batch_size: prompts that are decoded together.
        device: `cpu`, `cuda`, …; null takes a GPU where there is one.
    """

    keeps_answers = False

    def __init__(self, dtype: str, batch_size: int, device: str | None) -> None:
        if dtype not in DTYPES:
            raise DanteError(f"unknown dtype {dtype!r}", where="engine.dtype", allowed=", ".join(DTYPES))
        self.dtype, self.batch_size = dtype, batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.version = ""

    def open(self, model: str, revision: str | None, resources: dict[str, Any], log: Path) -> "TransformersEngine":
        """Loads model and tokenizer; reads `resources["threads"]` (CPU threads; None: all), and needs no `log`."""
        import transformers

        from dante.models.cpu import suit_cpu
        from dante.models.pretrained import Source, load_causal_lm
        from dante.text.tokenizer import load_tokenizer

        use_threads(resources.get("threads"))
        self.version = transformers.__version__
        self.tokenizer = load_tokenizer(model, revision, TEACHER)
        loaded: Any = load_causal_lm(Source(model, TEACHER, revision), DTYPES[self.dtype])
        self._model = loaded.to(self.device).eval()
        suit_cpu(self._model)
        self._stop_ids = stop_ids_of(self.tokenizer, model, revision)
        self.vocabulary = loaded.config.vocab_size
        return self

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[tuple[int, Generation]]:
        """Runs one planned batch in pieces of `batch_size`, longest prompts first; see `Engine`."""
        order = sorted(range(len(requests)), key=lambda i: (-len(requests[i].prompt_ids), i))
        for start in range(0, len(order), self.batch_size):
            piece = order[start : start + self.batch_size]
            yield from zip(piece, self._decode([requests[i] for i in piece], decoding), strict=True)

    def score(self, sequences: list[tuple[list[int], int]], k: int) -> Iterator[Scored]:
        """See `Engine`; one sequence at a time, so that nothing depends on its neighbours."""
        for ids, start in sequences:
            logprobs = self.full_logprobs(ids, start)
            best = logprobs.topk(min(k, logprobs.shape[-1]))
            token_logprobs = logprobs.gather(1, torch.tensor(ids[start:])[:, None])[:, 0]
            yield Scored(token_logprobs.tolist(), best.values.tolist(), best.indices.tolist())

    @torch.inference_mode()
    def full_logprobs(self, ids: list[int], start: int) -> Float[Tensor, "tokens vocab"]:
        """Log-probabilities over the whole vocabulary, in float32, of the tokens from position `start` (> 0) on."""
        tokens = torch.tensor([ids], device=self.device)
        output = self._model(input_ids=tokens, use_cache=False, logits_to_keep=len(ids) - start + 1)
        return output.logits[0, :-1].float().cpu().log_softmax(-1)

    def settings(self) -> dict[str, Any]:
        return {"name": "transformers", "dtype": self.dtype, "batch_size": self.batch_size}

    def close(self) -> None:
        """Lets go of the model."""
        self.__dict__.pop("_model", None)

    def __enter__(self) -> "TransformersEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @torch.inference_mode()
    def _decode(self, requests: list[Request], decoding: Decoding) -> list[Generation]:
        from transformers import DynamicCache

        rows = len(requests)
        longest = max(len(request.prompt_ids) for request in requests)
        pads = [longest - len(request.prompt_ids) for request in requests]
        # Padding is told by the mask, never by the pad id, which is the end-of-turn id in some vocabularies.
        tokens = torch.tensor([[0] * pad + r.prompt_ids for pad, r in zip(pads, requests, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads])
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        draws = [torch.Generator().manual_seed(request.seed) for request in requests]
        cache = DynamicCache(config=self._model.config)
        ids: list[list[int]] = [[] for _ in requests]
        chosen: list[list[float]] = [[] for _ in requests]
        top: list[list[list[float]]] = [[] for _ in requests]
        reasons, limits = [""] * rows, [request.limit(decoding) for request in requests]
        for _ in range(max(limits)):
            output = self._model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits = output.logits[:, -1].float().cpu()
            logprobs = logits.log_softmax(-1)
            best = logprobs.topk(min(decoding.logprobs, logprobs.shape[-1])).values
            following = _choose(logits, decoding, draws)
            picked = logprobs.gather(1, following[:, None])[:, 0]
            for row in range(rows):
                if reasons[row]:
                    continue
                ids[row].append(int(following[row]))
                chosen[row].append(float(picked[row]))
                top[row].append(best[row].tolist())
                if (
                    ids[row][-1] in self._stop_ids
                    or decoding.stop
                    and ends_with_stop(self.tokenizer, ids[row], decoding.stop)
                ):
                    reasons[row] = "stop"
                elif decoding.repetition is not None and repeats(ids[row], decoding.repetition):
                    reasons[row] = "repetition"
                elif len(ids[row]) == limits[row]:
                    reasons[row] = "length"
            if all(reasons):
                break
            tokens = following[:, None].to(self.device)
            mask = torch.cat([mask, mask.new_ones(rows, 1)], dim=1)
            positions = positions[:, -1:] + 1
        return [
            to_generation(
                self.tokenizer,
                ids[row],
                chosen[row],
                top[row],
                reasons[row],
                self._stop_ids,
                self.vocabulary,
                decoding,
            )
            for row in range(rows)
        ]


def _choose(
    logits: Float[Tensor, "rows vocab"], decoding: Decoding, draws: list[torch.Generator]
) -> Int[Tensor, " rows"]:
    """The next token of every row: the argmax, or a draw after temperature, top-k and top-p."""
    if decoding.heat == 0:
        return logits.argmax(-1)
    scaled = logits / decoding.heat
    if decoding.top_k:
        kth = scaled.topk(min(decoding.top_k, scaled.shape[-1])).values[:, -1:]
        scaled = scaled.masked_fill(scaled < kth, -torch.inf)
    if decoding.top_p < 1.0:
        values, order = scaled.sort(descending=True)
        before = values.softmax(-1).cumsum(-1) - values.softmax(-1)  # mass in front of each token
        values = values.masked_fill(before >= decoding.top_p, -torch.inf)
        scaled = torch.full_like(scaled, -torch.inf).scatter(1, order, values)
    probabilities = scaled.softmax(-1)
    picks = [torch.multinomial(p, 1, generator=draw) for p, draw in zip(probabilities, draws, strict=True)]
    return torch.cat(picks)
