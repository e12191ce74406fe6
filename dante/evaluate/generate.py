"""A few greedy answers side by side: the teacher's text, the initialisation, the student.

Nothing is repaired: no repetition penalty, no sampling, no trimming of loops. What a reader sees is what the model says
when it is asked plainly. `stopped` records whether it ended its turn by itself within the limit.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from dante.cache import Record
from dante.evaluate.heldout import by_hash
from dante.students.chat import ChatRenderer


@dataclass(frozen=True)
class Generation:
    """One answer of one model.

    Attributes:
        text: the answer without its end-of-turn token.
        tokens: new tokens, the end-of-turn token included.
        stopped: the model ended its turn within the limit.
    """

    text: str
    tokens: int
    stopped: bool


def choose(records: Sequence[Record], count: int) -> list[Record]:
    """`count` records from as many different domains as there are: round robin over domains, fixed for a cache."""
    queues: dict[str, list[Record]] = {}
    for record in by_hash(records):
        queues.setdefault(record.domain or "", []).append(record)
    turns = [(turn, domain, record) for domain, queue in queues.items() for turn, record in enumerate(queue)]
    return [record for _, _, record in sorted(turns, key=lambda item: item[:2])][:count]


def greedy(
    model: PreTrainedModel, renderer: ChatRenderer, prompts: Sequence[Any], max_new_tokens: int
) -> list[Generation]:
    """Greedy answers to all prompts in one batch, left-padded.

    Args:
        model: a causal language model in evaluation mode.
        renderer: its tokenizer and chat template.
        prompts: strings or chat messages.
        max_new_tokens: limit of every answer.
    """
    if not prompts:
        return []
    end = renderer.end_of_turn_id
    rows = [renderer.prompt_ids(prompt) for prompt in prompts]
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
        )
    answers = []
    for new in output[:, length:].tolist():
        stopped = end in new
        kept = new[: new.index(end)] if stopped else new
        text = str(renderer.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        answers.append(Generation(text=text, tokens=len(kept) + stopped, stopped=stopped))
    return answers


def side_by_side(records: Sequence[Record], answers: dict[str, list[Generation]]) -> list[dict[str, Any]]:
    """Rows of `generations.jsonl`: prompt and, per model, text, tokens and whether it stopped."""
    rows: list[dict[str, Any]] = []
    for index, record in enumerate(records):
        teacher = {"text": record.teacher_text, "tokens": None, "stopped": record.finish_reason == "stop"}
        models = {"teacher": teacher} | {name: asdict(texts[index]) for name, texts in answers.items()}
        rows.append({"id": record.id, "domain": record.domain, "language": record.language,
                     "prompt": record.prompt, "answers": models})  # fmt: skip
    return rows
