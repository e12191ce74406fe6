"""Generation worker: runs vLLM in whatever interpreter it is started with and talks JSON lines over its own pipe.

Started by path (`PYTHON dante/teachers/engines/vllm_worker.py`), so that vLLM never has to share the lab's environment:
this file imports only the standard library and vLLM. It decides nothing and computes nothing: prompts arrive as token
ids, what goes back are token ids and log-probabilities; text, offsets and entropies are the lab's business.

Protocol, one JSON object per line:
    in   {"model", "engine": {…arguments of vllm.LLM…}}
    out  {"type": "ready", "version", "vocabulary"}
    in   {"type": "generate", "requests": [{"prompt_ids", "seed"}…], "sampling": {…SamplingParams…}}
    out  {"type": "generation", "index", "token_ids", "logprobs", "top_logprobs", "finish_reason"}   as each one ends
    out  {"type": "end"}
    in   {"type": "score", "sequences": [{"ids", "start"}…], "k"}
    out  {"type": "score", "index", "logprobs", "top_logprobs", "top_ids"} …, {"type": "end"}
    out  {"type": "error", "message"}   and the worker exits
The end of its input ends the worker. vLLM's own output goes to standard error.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

CPU_BATCHED_TOKENS = 4096


def main() -> int:
    """Serves requests until standard input closes."""
    # vLLM and its compiled parts print to descriptor 1, so the protocol keeps a private copy and 1 becomes 2.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def send(message: dict) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        serve(send)
    except Exception as error:
        traceback.print_exc()
        send({"type": "error", "message": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def serve(send: Callable[[dict], None]) -> None:
    """Loads the engine named by the first line, then answers every further line."""
    setup = json.loads(sys.stdin.readline())
    import vllm
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        # A prompt that is read in two pieces has a sampled token thrown away and its generator set back, which a CPU's
        # generator cannot do: the whole engine dies of one seeded request (vLLM 0.32).
        longest = setup["engine"]["max_model_len"]
        setup["engine"] |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(longest, CPU_BATCHED_TOKENS)}
    llm = vllm.LLM(model=setup["model"], **setup["engine"])
    send({"type": "ready", "version": vllm.__version__, "vocabulary": llm.llm_engine.model_config.get_vocab_size()})
    serial = 0
    for line in sys.stdin:
        message = json.loads(line)
        serial = {"generate": generate, "score": score}[message["type"]](vllm, llm, message, serial, send)
        send({"type": "end"})


def generate(vllm: Any, llm: Any, message: dict, serial: int, send: Callable[[dict], None]) -> int:
    """Runs one batch and sends every generation as it ends."""
    index_of = {}
    fields = dict(message["sampling"])
    if "repetition_detection" in fields:
        fields["repetition_detection"] = vllm.sampling_params.RepetitionDetectionParams(
            **fields["repetition_detection"]
        )
    for index, request in enumerate(message["requests"]):
        serial += 1
        index_of[str(serial)] = index
        # Text is the lab's business, unless a stop string has to be found in it.
        own = {"seed": request["seed"], "max_tokens": request["max_tokens"]}
        sampling = vllm.SamplingParams(**fields, **own, detokenize="stop" in fields)
        llm.llm_engine.add_request(str(serial), {"prompt_token_ids": request["prompt_ids"]}, sampling)
    parent = os.getppid()
    while llm.llm_engine.has_unfinished_requests():
        if os.getppid() != parent:  # the lab was killed: nobody reads this any more
            sys.exit(1)
        for output in llm.llm_engine.step():
            if output.finished:
                completion = output.outputs[0]
                ids = list(completion.token_ids)
                chosen, top, _ = compact(ids, completion.logprobs, message["sampling"]["logprobs"])
                send(
                    {
                        "type": "generation",
                        # vLLM may append a suffix of its own to the id that it was given.
                        "index": index_of[output.request_id.split("-")[0]],
                        "token_ids": ids,
                        "logprobs": chosen,
                        "top_logprobs": top,
                        "finish_reason": completion.finish_reason,
                    }
                )
    return serial


def score(vllm: Any, llm: Any, message: dict, serial: int, send: Callable[[dict], None]) -> int:
    """Log-probabilities of given sequences from position `start` on, at temperature 1."""
    sampling = vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=message["k"])
    for index, sequence in enumerate(message["sequences"]):
        output = llm.generate([{"prompt_token_ids": sequence["ids"]}], sampling, use_tqdm=False)[0]
        start = sequence["start"]
        chosen, top, ids = compact(sequence["ids"][start:], output.prompt_logprobs[start:], message["k"])
        send({"type": "score", "index": index, "logprobs": chosen, "top_logprobs": top, "top_ids": ids})
    return serial


def compact(ids: list, logprobs: list, k: int) -> tuple:
    """Per token: the chosen token's log-probability, the k largest ones in falling order, and whose they are."""
    chosen = [round(entries[token].logprob, 5) for token, entries in zip(ids, logprobs, strict=True)]
    best = [
        sorted(
            ((round(entry.logprob, 5), token) for token, entry in entries.items()), key=lambda pair: (-pair[0], pair[1])
        )[:k]
        for entries in logprobs
    ]
    return chosen, [[value for value, _ in row] for row in best], [[token for _, token in row] for row in best]


if __name__ == "__main__":
    sys.exit(main())
