"""Greedy answers to held-out prompts, and what they say of a model: does it stop, does it loop, how long is it.

Nothing is repaired: no repetition penalty, no sampling, no trimming. An answer that has run into a loop is ended there,
by the same test that ends a teacher's answers when a cache is written: greedy decoding would repeat it until the limit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from dante.cache import Record
from dante.evaluate.items import by_hash
from dante.text.chat import ChatRenderer
from dante.text.repetition import RepetitionLimit, repeats

# Prompts decoded together: few enough that the longest answer of a batch holds up little, and that the cache of keys
# and values, which is copied at every token, stays small.
BATCH_PROMPTS = 16
NGRAM = 4


@dataclass(frozen=True)
class Generation:
    """One answer of one model.

    Attributes:
        text: the answer without its end-of-turn token.
        tokens: new tokens, the end-of-turn token included.
        stopped: the model ended its turn within the limit.
        looped: the answer was ended because it repeated itself.
        repetition: share of the answer's 4-grams of tokens that occurred in it before (seq-rep-4, Welleck et al. 2020).
    """

    text: str
    tokens: int
    stopped: bool
    looped: bool
    repetition: float


class Loops(StoppingCriteria):
    """Ends the rows whose answer has run into a loop.

    Args:
        prompt_tokens: where answers begin.
        limit: what counts as a loop.
    """

    def __init__(self, prompt_tokens: int, limit: RepetitionLimit) -> None:
        self.prompt_tokens, self.limit = prompt_tokens, limit

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        longest = self.limit.max_tokens * self.limit.count
        answers = input_ids[:, self.prompt_tokens :][:, -longest:].tolist()
        return torch.tensor([repeats(answer, self.limit) for answer in answers], device=input_ids.device)


def choose(records: Sequence[Record], count: int) -> list[Record]:
    """`count` records from as many different domains as there are: round robin over domains, fixed for a cache."""
    queues: dict[str, list[Record]] = {}
    for record in by_hash(records):
        queues.setdefault(record.domain or "", []).append(record)
    turns = [(turn, domain, record) for domain, queue in queues.items() for turn, record in enumerate(queue)]
    return [record for _, _, record in sorted(turns, key=lambda item: item[:2])][:count]


def greedy(
    model: PreTrainedModel,
    renderer: ChatRenderer,
    prompts: Sequence[Any],
    max_new_tokens: int,
    loop: RepetitionLimit,
    advance: Callable[[int], object] = lambda answers: None,
) -> list[Generation]:
    """Greedy answers to all prompts, in the prompts' order.

    Args:
        model: a causal language model in evaluation mode.
        renderer: its tokenizer and chat template.
        prompts: strings or chat messages.
        max_new_tokens: limit of every answer.
        loop: when an answer counts as looping and is ended.
        advance: called with the number of answers finished, for a progress bar.
    """
    rows = [renderer.prompt_ids(prompt) for prompt in prompts]
    order = sorted(range(len(rows)), key=lambda row: (len(rows[row]), row))
    answers: dict[int, Generation] = {}
    for start in range(0, len(order), BATCH_PROMPTS):
        chosen = order[start : start + BATCH_PROMPTS]
        batch = _decode(model, renderer, [rows[row] for row in chosen], max_new_tokens, loop)
        answers |= dict(zip(chosen, batch, strict=True))
        advance(len(chosen))
    return [answers[row] for row in range(len(rows))]


def repetition(token_ids: Sequence[int]) -> float:
    """Share of 4-grams that occurred before in the same answer; 0 for an answer shorter than that."""
    grams = [tuple(token_ids[start : start + NGRAM]) for start in range(len(token_ids) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _decode(
    model: PreTrainedModel, renderer: ChatRenderer, rows: list[list[int]], max_new_tokens: int, loop: RepetitionLimit
) -> Iterator[Generation]:
    """One left-padded batch."""
    end = renderer.end_of_turn_id
    length = max(len(row) for row in rows)
    ids_BT = torch.full((len(rows), length), end)
    mask_BT = torch.zeros_like(ids_BT)
    for index, row in enumerate(rows):
        ids_BT[index, length - len(row) :] = torch.tensor(row)
        mask_BT[index, length - len(row) :] = 1
    with torch.inference_mode():
        output = model.generate(  # type: ignore[operator]
            input_ids=ids_BT.to(model.device),
            attention_mask=mask_BT.to(model.device),
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
            max_new_tokens=max_new_tokens,
            eos_token_id=end,
            pad_token_id=end,
            use_cache=True,
            stopping_criteria=StoppingCriteriaList([Loops(length, loop)]),
        )
    for new in output[:, length:].tolist():
        yield _generation(new, renderer, loop)


def _generation(new: list[int], renderer: ChatRenderer, loop: RepetitionLimit) -> Generation:
    """An answer from its row, in which everything after the first end-of-turn token is padding.

    A row that was ended for looping is padded with that very token: a loop in front of it tells the two apart.
    """
    end = renderer.end_of_turn_id
    padded = end in new
    kept = new[: new.index(end)] if padded else new
    looped = repeats(kept, loop)
    stopped = padded and not looped
    text = str(renderer.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return Generation(text, len(kept) + stopped, stopped, looped, repetition(kept))
