"""Batches: labels belong to their positions, packed records do not see each other, and resuming changes nothing."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from dante.cache import Record
from dante.data.batch import MicroBatch, StepBatch, assemble
from dante.data.curriculum import Shuffled, SortedOnceRepeat
from dante.data.datamodule import DistillData
from dante.errors import DanteError
from dante.text.chat import ChatRenderer

torch.set_num_threads(1)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["assistant user the answer is"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = CHATML
    return ChatRenderer(tokenizer)


def records(count: int = 30) -> list[Record]:
    rng = np.random.default_rng(0)
    return [
        Record(f"r{i}", f"question {i}", "answer " * int(rng.integers(1, 6)) + str(i), float(rng.random()))
        for i in range(count)
    ]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write_cache(tmp_path / "cache", records())
    return tmp_path / "cache"


def write_cache(directory: Path, items: list[Record]) -> None:
    directory.mkdir(exist_ok=True)
    lines = [json.dumps(vars(item)) for item in items]
    (directory / "records-00000.jsonl").write_text("\n".join(lines) + "\n")


def data_of(cache: Path, renderer: ChatRenderer, **change: Any) -> DistillData:
    settings: dict[str, Any] = {
        "curriculum": Shuffled(),
        "steps": 6,
        "batch": {"unit": "records", "size": 8},
        "max_tokens": 128,
        "accumulate": None,
        "overlong": "error",
        "seed": 3,
    }
    data = DistillData(cache, renderer, cache.parent / "tokens", **{**settings, **change})
    data.prepare_data()
    data.setup()
    return data


def steps_of(cache: Path, renderer: ChatRenderer, **change: Any) -> list[StepBatch]:
    return list(data_of(cache, renderer, **change).train_dataloader())


def same(first: MicroBatch, second: MicroBatch) -> bool:
    names = ("input_ids", "position_ids", "positions", "labels", "record")
    equal = all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)
    fields = all(
        torch.equal(first.fields[name].nan_to_num(), second.fields[name].nan_to_num()) for name in first.fields
    )
    return equal and fields and first.record_ids == second.record_ids


def test_a_row_holds_its_records_with_shifted_labels(cache, renderer):
    by_id = {record.id: record for record in records()}
    for step in steps_of(cache, renderer):
        seen = 0
        for batch in step.micro_batches:
            pieces, entropies = [], []
            for name in batch.record_ids:
                rendered = renderer.render(by_id[name].prompt, by_id[name].teacher_text)
                pieces.append(rendered)
                entropies.append(by_id[name].output_entropy)
            ids = [token for piece in pieces for token in piece.input_ids]
            supervised = [flag for piece in pieces for flag in piece.supervised]
            assert batch.input_ids.tolist() == [ids]
            assert batch.position_ids.tolist() == [[i for piece in pieces for i in range(len(piece.input_ids))]]
            assert (batch.positions + 1).tolist() == [i for i, flag in enumerate(supervised) if flag]
            assert batch.labels.tolist() == [token for token, flag in zip(ids, supervised, strict=True) if flag]
            counts = torch.bincount(batch.record, minlength=len(pieces))
            assert counts.tolist() == batch.fields["supervised_tokens"].tolist() == [sum(p.supervised) for p in pieces]
            assert batch.fields["answer_bytes"].tolist() == [piece.answer_bytes for piece in pieces]
            torch.testing.assert_close(batch.fields["output_entropy"], torch.tensor(entropies))
            assert batch.fields["self_consistency"].isnan().all()
            # A target is predicted inside its own record: the position before it is not the one of another record.
            assert (batch.position_ids[0, batch.positions + 1] == batch.position_ids[0, batch.positions] + 1).all()
            seen += len(batch.labels)
        assert seen == step.supervised_tokens
        assert sum(len(batch.record_ids) for batch in step.micro_batches) == step.records == 8


def test_resuming_yields_what_an_uninterrupted_run_would(cache, renderer):
    whole = steps_of(cache, renderer)
    resumed = steps_of(cache, renderer, start_step=4)
    assert [step.step for step in resumed] == [4, 5]
    for first, second in zip(whole[4:], resumed, strict=True):
        assert all(same(a, b) for a, b in zip(first.micro_batches, second.micro_batches, strict=True))


def test_worker_processes_yield_the_same_steps(cache, renderer):
    data = data_of(cache, renderer, steps=2)
    own = list(data.train_dataloader())
    data.workers = 1
    for first, second in zip(own, data.train_dataloader(), strict=True):
        assert all(same(a, b) for a, b in zip(first.micro_batches, second.micro_batches, strict=True))


@pytest.mark.parametrize("accumulate", [None, 2])
def test_ranks_share_a_step_and_agree_on_its_totals(cache, renderer, accumulate):
    alone = steps_of(cache, renderer)
    ranks = [steps_of(cache, renderer, rank=rank, world_size=3, accumulate=accumulate) for rank in range(3)]
    for step, parts in zip(alone, zip(*ranks, strict=True), strict=True):
        assert {(part.supervised_tokens, part.records) for part in parts} == {(step.supervised_tokens, step.records)}
        assert len({len(part.micro_batches) for part in parts}) == 1
        shown = [name for part in parts for batch in part.micro_batches for name in batch.record_ids]
        assert sorted(shown) == sorted(name for batch in step.micro_batches for name in batch.record_ids)
        assert sum(len(batch.labels) for part in parts for batch in part.micro_batches) == step.supervised_tokens


def test_an_empty_row_can_be_run():
    batch = assemble([])
    assert batch.input_ids.shape == (1, 1)
    assert len(batch.labels) == len(batch.positions) == len(batch.record_ids) == 0
    logits = tiny("llama", "sdpa")(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits
    assert logits[0, batch.positions].shape[0] == 0


def test_the_table_is_reused_until_records_or_template_change(cache, renderer):
    tokens = cache.parent / "tokens"
    data_of(cache, renderer)
    (path,) = tokens.iterdir()
    written = path.stat().st_mtime_ns
    data_of(cache, renderer, seed=4, max_tokens=200)
    assert [item.stat().st_mtime_ns for item in tokens.iterdir()] == [written]
    data_of(cache, ChatRenderer(renderer.tokenizer, unused=True))
    assert len(list(tokens.iterdir())) == 2
    write_cache(cache, records(29))
    assert len(data_of(cache, renderer).rows) == 29


def test_a_failing_record_is_named_and_leaves_no_table(cache, renderer):
    write_cache(cache, [*records(3), Record("bad", "Hi", "yes<|im_end|>", 0.1)])
    with pytest.raises(DanteError, match=r"special token.*record bad"):
        data_of(cache, renderer)
    assert list((cache.parent / "tokens").iterdir()) == []


def test_only_training_records_are_trained_on(cache, renderer):
    marked = [replace(r, split="heldout" if i % 3 == 0 else "train") for i, r in enumerate(records())]
    write_cache(cache, marked)
    shown = {n for step in steps_of(cache, renderer) for batch in step.micro_batches for n in batch.record_ids}
    assert shown == {record.id for record in marked if record.split == "train"}


def test_records_that_are_too_long_are_errors_or_dropped_and_counted(cache, renderer):
    items = [Record(f"long{i}", "Hi", "answer " * 200, 0.1) for i in range(2)] + records(20)
    write_cache(cache, items)
    with pytest.raises(DanteError, match=r"record long0 has \d+ tokens, a pack holds 128 \(2 records"):
        data_of(cache, renderer)
    data = data_of(cache, renderer, overlong="drop")
    assert data.summary()["dropped_overlong"] == 2
    assert data.summary()["train_records"] == 22
    batches = [batch for step in data.train_dataloader() for batch in step.micro_batches]
    assert {name for batch in batches for name in batch.record_ids} == {item.id for item in records(20)}
    assert max(batch.input_ids.shape[1] for batch in batches) <= 128


def test_a_record_as_long_as_a_pack_fits(cache, renderer):
    longest = max(len(renderer.render(record.prompt, record.teacher_text).input_ids) for record in records())
    assert len(data_of(cache, renderer, max_tokens=longest).rows) == len(records())
    with pytest.raises(DanteError, match=f"has {longest} tokens, a pack holds {longest - 1}"):
        data_of(cache, renderer, max_tokens=longest - 1)


def test_a_sorted_curriculum_reaches_the_batches(cache, renderer):
    steps = steps_of(cache, renderer, curriculum=SortedOnceRepeat(), steps=5)
    levels = [torch.cat([batch.fields["output_entropy"] for batch in step.micro_batches]) for step in steps]
    assert all(a.max() <= b.min() for a, b in zip(levels, levels[1:], strict=False))


def test_a_trainer_that_would_split_steps_among_ranks_is_refused(cache, renderer):
    data = data_of(cache, renderer)
    connector = SimpleNamespace(use_distributed_sampler=True)
    data.trainer = SimpleNamespace(global_rank=1, world_size=2, _accelerator_connector=connector)  # type: ignore[assignment]
    with pytest.raises(DanteError, match="use_distributed_sampler=False"):
        data.train_dataloader()
    connector.use_distributed_sampler = False
    assert next(iter(data.train_dataloader())).records == 8


class Listener(LightningModule):
    """Notes what a trainer hands it."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.heard: list[StepBatch] = []

    def training_step(self, batch: StepBatch) -> None:
        self.heard.append(batch)

    def configure_optimizers(self) -> None:
        return None


def test_a_trainer_hands_over_every_step_once_in_order(cache, renderer, tmp_path):
    expected = steps_of(cache, renderer)
    data, module = data_of(cache, renderer), Listener()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=data)
    assert [batch.step for batch in module.heard] == [0, 1, 2, 3, 4, 5]
    for heard, own in zip(module.heard, expected, strict=True):
        assert all(same(a, b) for a, b in zip(heard.micro_batches, own.micro_batches, strict=True))


TINY = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,  # large enough that attention to a neighbour would show
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}


def tiny(model_type: str, attention: str) -> torch.nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **TINY)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", ["llama", "smollm3", "qwen3"])
@torch.no_grad()
def test_packed_records_do_not_see_each_other(cache, renderer, model_type, attention):
    """Logits of a packed row equal those of each record alone; with positions that run on they do not."""
    model = tiny(model_type, attention)
    batch = steps_of(cache, renderer, steps=1)[0].micro_batches[0]
    lengths = np.diff(np.flatnonzero([*(batch.position_ids[0] == 0).tolist(), True]))
    assert len(lengths) == len(batch.record_ids) >= 3
    pieces = batch.input_ids[0].split(lengths.tolist())
    alone = torch.cat([model(input_ids=piece[None], use_cache=False).logits[0] for piece in pieces])

    def packed(position_ids: torch.Tensor) -> torch.Tensor:
        return model(input_ids=batch.input_ids, position_ids=position_ids, use_cache=False).logits[0]

    torch.testing.assert_close(packed(batch.position_ids), alone, atol=2e-5, rtol=1e-4)
    running = torch.arange(batch.input_ids.shape[1])[None]
    assert (packed(running) - alone)[lengths[0] :].abs().max() > 1e-2, "the test sees contamination"
