"""Where model and teacher part, token by token: every token is in one bin, and what is kept of an answer is it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from dante.errors import DanteError
from dante.evaluate.items import by_hash
from dante.evaluate.suites.heldout.agreement import ENTROPIES_NATS, POSITIONS, agreement
from dante.evaluate.suites.heldout.suite import Heldout
from dante.run.step import Step
from dante.students.scoring import Beside, Scores
from dante.text.tokens.offsets import token_texts
from tests.test_evaluate_fidelity import tiny
from tests.test_evaluate_stage import HELDOUT, SHOWN, evaluated, lines, per_item, result

MODELS = ("init", "student")


@pytest.fixture(scope="module")
def related(tmp_path_factory: pytest.TempPathFactory) -> Step:
    """A finished eval step whose models share one vocabulary, in which characters are split."""
    models = {"teacher/model": (262, 0), "init/model": (262, 1), "release": (262, 2)}
    return evaluated(tmp_path_factory.mktemp("related"), models, {"choices": 0, "retention": False, "generations": 0})


def slow(related: Step, record: Any) -> list[dict[str, Any]]:
    """Per supervised token of the student's, from whole logits in float64."""
    (teacher, renderer), (student, _) = tiny(262, 0), tiny(262, 2)
    item = renderer.render(record.prompt, record.teacher_text)
    ids = torch.tensor([item.input_ids])
    with torch.no_grad():
        log_p, log_q = (m.double()(input_ids=ids).logits[0].log_softmax(-1) for m in (teacher, student))
    found = []
    for place in [i for i, target in enumerate(item.supervised) if target]:
        token, p, q = item.input_ids[place], log_p[place - 1], log_q[place - 1]
        found.append({
            "id": token, "kl": float((p.exp() * (p - q)).sum()), "log_p": float(q[token]),
            "entropy": float(-(p.exp() * p).sum()), "teacher": int(p.argmax()), "teacher_p": float(p.max().exp()),
            "model": int(q.argmax()), "model_p": float(q.max().exp()),
        })  # fmt: skip
    return found


@pytest.mark.parametrize("table", ["position", "entropy"])
@pytest.mark.parametrize("model", MODELS)
def test_every_token_is_in_one_bin(related: Step, model: str, table: str) -> None:
    bins = result(related)["details"]["heldout"][model]["agreement"][table]
    for metric, key in (("teacher_agreement", "agreement"), ("kl_nats", "kl_nats")):
        above, below = map(sum, zip(*per_item(related, model, metric).values(), strict=True))
        assert sum(one["tokens"] for one in bins) == below
        assert sum(one["tokens"] * one[key] for one in bins if one["tokens"]) == pytest.approx(above)
    assert sum(one["tokens"] > 0 for one in bins) > 1
    assert all(one["high"] == after["low"] for one, after in zip(bins, bins[1:], strict=False))
    assert bins[-1]["high"] is None


def test_bins_are_those_of_position_and_of_the_teachers_entropy(related: Step) -> None:
    tables = result(related)["details"]["heldout"]["student"]["agreement"]
    tokens = [(place, token) for r in HELDOUT for place, token in enumerate(slow(related, r), start=1)]
    for name, starts in (("position", POSITIONS), ("entropy", ENTROPIES_NATS)):
        for low, high, found in zip(starts, [*starts[1:], np.inf], tables[name], strict=True):
            chosen = [t for place, t in tokens if low <= (place if name == "position" else t["entropy"]) < high]
            assert found["tokens"] == len(chosen), (name, low)
            if chosen:
                assert found["kl_nats"] == pytest.approx(np.mean([t["kl"] for t in chosen]), rel=1e-4)
                assert found["agreement"] == pytest.approx(np.mean([t["teacher"] == t["model"] for t in chosen]))


def test_standard_errors_count_answers() -> None:
    """Two answers of four tokens each: the model agrees everywhere in the one, and nowhere in the other."""
    record = np.array([0] * 4 + [1] * 4)
    agrees = np.array([True] * 4 + [False] * 4)
    zeros = np.zeros(8)
    beside = Beside(kl=np.ones(8), agrees=agrees, argmax=zeros.astype(np.int64), confidence=zeros, entropy=zeros - 1e-9)
    scores = Scores(
        text_bytes=np.array([9, 9]), record=record, nats=zeros, argmax=zeros.astype(np.int64), confidence=zeros,
        entropy=zeros, vocabulary=5, correct=agrees, beside=beside, hidden=None,
    )  # fmt: skip
    tables = agreement(scores, beside)
    first, second = tables["position"][:2]
    assert (first["tokens"], first["answers"], first["agreement"]) == (8, 2, 0.5)
    # Two answers, values 1 and 0, equal weights: the standard error of their mean is 0.5.
    assert first["agreement_stderr"] == pytest.approx(0.5)
    assert first["kl_nats_stderr"] == 0.0
    assert (second["tokens"], second["agreement"], second["kl_nats_stderr"]) == (0, None, None)
    # A certain teacher whose entropy was rounded below zero is certain.
    assert tables["entropy"][0]["tokens"] == 8


def test_the_same_answers_are_kept_for_every_model_and_their_tokens_are_the_answer(related: Step) -> None:
    kept = lines(related, "heldout/tokens.jsonl")
    chosen = by_hash(HELDOUT)[:SHOWN]
    assert [line["id"] for line in kept] == [record.id for record in chosen]
    assert any("bytes" in token for line in kept for token in line["models"]["student"])  # characters were split
    for line, record in zip(kept, chosen, strict=True):
        assert set(line["models"]) == set(MODELS)
        assert line["prompt"] == record.prompt
        for tokens in line["models"].values():
            assert "".join(token["text"] for token in tokens) == record.teacher_text.strip() + "<|im_end|>"
        init, student = (line["models"][model] for model in MODELS)
        assert [(token["text"], token["teacher"]) for token in init] == [(t["text"], t["teacher"]) for t in student]


@pytest.mark.parametrize("model", MODELS)
def test_divergences_of_the_tokens_add_up_to_the_items(related: Step, model: str) -> None:
    items = per_item(related, model, "kl_nats")
    for line in lines(related, "heldout/tokens.jsonl"):
        tokens = line["models"][model]
        divergence, count = items[line["id"]]
        assert sum(token["kl_nats"] for token in tokens) == pytest.approx(divergence, abs=1e-6 * count)
        assert len(tokens) == count


def test_every_token_is_told_as_whole_logits_have_it(related: Step) -> None:
    _, renderer = tiny(262, 0)
    by_id = {record.id: record for record in HELDOUT}
    for line in lines(related, "heldout/tokens.jsonl"):
        for token, expected in zip(line["models"]["student"], slow(related, by_id[line["id"]]), strict=True):
            found = [token["kl_nats"], token["log_p"], token["teacher"]["entropy_nats"], token["teacher"]["p"],
                     token["model"]["p"]]  # fmt: skip
            assert found == pytest.approx(
                [expected[key] for key in ("kl", "log_p", "entropy", "teacher_p", "model_p")], rel=1e-3, abs=2e-6
            )
            told = token_texts(renderer.tokenizer, [expected["id"], expected["teacher"], expected["model"]])
            assert [token.get("bytes", token["text"]), token["teacher"]["token"], token["model"]["token"]] == told


def test_a_token_alone_is_its_text_or_its_bytes() -> None:
    _, renderer = tiny(262, 0)
    ids = renderer.tokenizer(" è<|im_end|>", add_special_tokens=False)["input_ids"]
    assert token_texts(renderer.tokenizer, ids) == [" ", "\\xc3", "\\xa8", "<|im_end|>"]
    pieces = Tokenizer(models.BPE({"▁ci": 0, "<0xC3>": 1, "<unk>": 2}, [], byte_fallback=True, unk_token="<unk>"))
    pieces.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    fallback = PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>")
    assert token_texts(fallback, [0, 1, 99]) == [" ci", "\\xc3", ""]


def test_without_a_reference_nothing_is_kept_and_a_note_says_why(tmp_path: Path) -> None:
    models = {"teacher/model": (300, 0), "init/model": (270, 1), "release": (270, 2)}
    step = evaluated(tmp_path, models, {"choices": 0, "retention": False, "generations": 0})
    assert not list(tmp_path.rglob("tokens.jsonl"))
    found = result(step)
    assert not any("agreement" in said for said in found["details"]["heldout"].values())
    assert "no agreement" in found["notes"][0]


def test_the_number_of_shown_answers_is_checked() -> None:
    with pytest.raises(DanteError, match="-1 answers"):
        Heldout(bins=5, validation=False, shown=-1)
