"""Where a divergence is taken: at the tokens of the answers and at the end of the turn, not before and not behind."""

from pathlib import Path

import torch

from dante.cache import CacheWriter, Record
from dante.data.curriculum import Shuffled
from dante.data.datamodule import DistillData
from dante.losses.distillation.divergences import ForwardKL
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SupervisedTokens, TeacherSide
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.projection import Projection
from dante.losses.vocabulary.teacher import HiddenLogits
from dante.text.chat import ChatRenderer
from tests.test_data import renderer as chatml

renderer = chatml  # a fixture
ANSWERS = ["Jupiter.", "It is 60.", "no"]


def test_a_divergence_is_taken_at_every_token_of_the_answers_and_at_the_end_of_the_turn(
    tmp_path: Path, renderer: ChatRenderer
) -> None:
    """A teacher that differs from the student at one place of the row alone: the loss sees the places that predict."""
    records = [Record(f"id-{i}", f"Question {i}?", text, 1.0) for i, text in enumerate(ANSWERS)]
    CacheWriter(tmp_path / "cache").add(records).seal()
    data = DistillData(
        tmp_path / "cache", renderer, tmp_path / "tokens", curriculum=Shuffled(), steps=1,
        batch={"unit": "records", "size": 3}, max_tokens=256, accumulate=1, overlong="error", seed=0, rank=0,
        world_size=1,
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    (row,) = next(iter(data.train_dataloader())).micro_batches
    vocabulary = len(renderer.tokenizer)
    torch.manual_seed(0)
    hidden = torch.randn(row.input_ids.shape[1], 8)
    head = Head(torch.randn(vocabulary, 8))
    loss = LogitDistillation(Constant(1.0), ForwardKL(), 1.0, name="kl")

    def seen(place: int) -> float:
        """The loss when the teacher says something else at one place of the row."""
        other = hidden.clone()
        other[place] += 1.0
        logits = HiddenLogits(Projection(head, None, hidden.dtype), other[row.positions])
        tokens = SupervisedTokens(
            row.labels, row.record, row.fields, len(row.labels), 3, TeacherSide(maybe_logits=logits)
        )
        return float(vocabulary_pass(hidden[row.positions], head, [loss], {"kl": 1.0}, tokens, torch.float32, 8).total)

    predicted = {place + 1 for place in range(row.input_ids.shape[1]) if seen(place) > 1e-4}
    ids = row.input_ids[0].tolist()
    answers, start = [], None
    for place in sorted(predicted):
        if start is None or place != answers[-1][-1] + 1:
            answers.append([place])
        else:
            answers[-1].append(place)
        start = place
    texts = [renderer.tokenizer.decode([ids[place] for place in span]) for span in answers]
    ends = renderer.tokenizer.convert_ids_to_tokens(renderer.end_of_turn_id)
    assert sorted(texts) == sorted(f"{answer}{ends}" for answer in ANSWERS)
