"""The harness's transformers model, with two differences that change no score beyond rounding.

Options of one question, and questions behind the same worked examples, begin alike: what they share is read once, and
the vocabulary is only looked at where an option's tokens are predicted. With 25 worked examples that is four times as
fast as a pass for each option. Everything else (tokens, truncation, generation, stop strings) is the harness's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.scoring import token_scores

# Rows that share a beginning and are read together: it bounds the cache of keys and values, which every row has.
ROWS = 16
# A beginning is read apart where it is at least this share of the longest row.
WORTH = 0.25

Request = tuple[tuple[str, str], list[int], list[int]]


@dataclass
class Row:
    """Tokens that are read, and what is asked of the positions at their end.

    Attributes:
        ids: read by the model.
        asked: index of a request → its continuation's tokens; the last of them is not read.
    """

    ids: tuple[int, ...]
    asked: dict[int, list[int]] = field(default_factory=dict)

    @property
    def behind(self) -> int:
        """How many of its first tokens may be read without looking at what they predict."""
        return len(self.ids) - max(len(tokens) for tokens in self.asked.values())


class PrefixSharingLM(HFLM):
    """`HFLM` that reads once what requests share."""

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        answers: dict[int, tuple[float, bool]] = {}
        with torch.inference_mode():
            for start, rows in groups(_rows(requests, self.max_length)):
                answers |= _read(self.model, start, rows)
        return [answers[index] for index in range(len(requests))]


def _rows(requests: Sequence[Request], context: int) -> list[Row]:
    """The different rows behind requests, truncated from the left as the harness does."""
    rows: dict[tuple[int, ...], Row] = {}
    for index, (_, before, continuation) in enumerate(requests):
        assert 0 < len(continuation) <= context  # as the harness has it
        ids = tuple((before + continuation)[-(context + 1) :][:-1])
        rows.setdefault(ids, Row(ids)).asked[index] = continuation
    return sorted(rows.values(), key=lambda row: row.ids)


def groups(rows: Sequence[Row]) -> Iterator[tuple[int, list[Row]]]:
    """Neighbours that begin alike, with the length of what they share.

    Args:
        rows: in the order of their tokens, so that what the first and the last of a group share, all do.
    """
    group: list[Row] = []
    for row in rows:
        if group and (len(group) == ROWS or not _worth(group, row)):
            yield _shared(group), group
            group = []
        group.append(row)
    if group:
        yield _shared(group), group


def _worth(group: Sequence[Row], row: Row) -> bool:
    longest = max(len(one.ids) for one in (*group, row))
    return _shared([*group, row]) >= WORTH * longest


def _shared(group: Sequence[Row]) -> int:
    """Tokens that all rows begin with, as far as nothing is asked of them; 0 for a row alone."""
    first, last = group[0], group[-1]
    if first is last:
        return 0
    same = next((place for place, (a, b) in enumerate(zip(first.ids, last.ids, strict=False)) if a != b), None)
    shared = min(len(first.ids), len(last.ids)) if same is None else same
    return max(0, min(shared, *(row.behind for row in group)))


def _beginning(model: Any, ids: Sequence[int], rows: int) -> Any:
    """Keys and values of what rows share, a copy for each; None of a model that keeps more than those."""
    past = model.base_model(input_ids=torch.tensor([ids], device=model.device), use_cache=True).past_key_values
    if not isinstance(past, DynamicCache) or any(type(layer) is not DynamicLayer for layer in past.layers):
        return None
    past.batch_repeat_interleave(rows)
    return past


def _read(model: Any, shared: int, rows: Sequence[Row]) -> dict[int, tuple[float, bool]]:
    """Request → log-likelihood of its continuation in nats, and whether every token of it is the most likely one."""
    device = model.device
    past = _beginning(model, rows[0].ids[:shared], len(rows)) if shared else None
    shared = shared if past is not None else 0
    longest = max(len(row.ids) for row in rows) - shared
    ids_BT = torch.zeros(len(rows), longest, dtype=torch.long)
    for place, row in enumerate(rows):
        ids_BT[place, : len(row.ids) - shared] = torch.tensor(row.ids[shared:])
    # No attention mask: padding stands on the right, where causal attention of the real tokens cannot see it.
    hidden_BTD = model.base_model(
        input_ids=ids_BT.to(device), past_key_values=past, use_cache=past is not None
    ).last_hidden_state
    asked = [
        (request, place, len(row.ids) - shared - len(tokens) + step, token)
        for place, row in enumerate(rows)
        for request, tokens in row.asked.items()
        for step, token in enumerate(tokens)
    ]
    request_N, place_N, step_N, token_N = zip(*asked, strict=True)
    scores = token_scores(
        Head.of(model), hidden_BTD[list(place_N), list(step_N)], torch.tensor(token_N, device=device), None
    )
    found: dict[int, tuple[float, bool]] = {}
    for request, log_p, best in zip(request_N, scores.log_probability.tolist(), scores.is_argmax.tolist(), strict=True):
        total, all_best = found.get(request, (0.0, True))
        found[request] = total + log_p, all_best and bool(best)
    return found
