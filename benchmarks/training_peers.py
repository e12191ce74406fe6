"""The peers of `training.py`: TRL's SFTTrainer and HF's Trainer, as their documentation has them run fast on a CPU.

Both are given tokens and labels that the lab rendered (TRL: "a dataset that already provides a labels column is left
as is"), fp32 weights, bf16 autocast where that is the precision (`bf16=True`), fused AdamW, no gradient checkpointing
(TRL's default is on, and slower), no logging, no saving, no evaluation.
"""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from training_job import LEARNING_RATE, Job, Pace
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from dante.data.table import rows_of, tokenised_train_records
from dante.students.load import count_parameters, load_student
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer

_IGNORED = -100


class _Turns(TrainerCallback):
    """An epoch is a block."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self._steps_before = pace, 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._steps_before = state.global_step
        self.pace.begin()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.pace.end(state.global_step - self._steps_before)


class _Counting:
    """Counts what a trainer's loss is given; costs a few sums of integers."""

    pace: Pace

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels, mask = inputs["labels"], inputs.get("attention_mask")
        supervised = int((labels[..., 1:] != _IGNORED).sum())
        positions = inputs["input_ids"].numel()
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        self.pace.step(
            positions if mask is None else int(mask.sum()), supervised, positions, loss.detach() * supervised
        )
        return loss


class _Sft(_Counting, SFTTrainer):
    pass


class _Hf(_Counting, Trainer):
    pass


def _shared(job: Job) -> dict[str, Any]:
    return {
        "output_dir": str(Path(job.out) / "peer"),
        "num_train_epochs": job.blocks,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "bf16": job.precision == "bf16",
        "optim": "adamw_torch_fused",
        "max_grad_norm": 1.0,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 42,
    }


def trl_packing(job: Job, pace: Pace) -> None:
    """TRL with `packing=True` (best-fit decreasing), one pack a step."""
    _sft(job, pace, packing=True, per_device_train_batch_size=1, gradient_checkpointing=False)


def trl_tuned(job: Job, pace: Pace) -> None:
    """As `trl_packing`, with a switch of torch's that TRL does not mention: fp32 products with bf16 operands.

    TRL's loss multiplies bf16 values that it has cast to fp32, so its numbers stay the same.
    """
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    trl_packing(job, pace)


def trl_padded(job: Job, pace: Pace) -> None:
    """TRL's default batches: padded rows."""
    _sft(job, pace, per_device_train_batch_size=job.rows, gradient_checkpointing=False)


def trl_shipped(job: Job, pace: Pace) -> None:
    """TRL's default batches with its default gradient checkpointing: slower, less memory."""
    _sft(job, pace, per_device_train_batch_size=job.rows)


def hf_padded(job: Job, pace: Pace) -> None:
    """HF's Trainer, padded rows, the model's own loss on whole logits."""
    args = TrainingArguments(per_device_train_batch_size=job.rows, **_shared(job))
    tokenizer = load_tokenizer(job.model)
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=_IGNORED)
    _train(_Hf(model=load_student(job.model), args=args, train_dataset=_data(job), data_collator=collator), pace)


def _sft(job: Job, pace: Pace, **settings: Any) -> None:
    args = SFTConfig(max_length=job.max_tokens, **settings, **_shared(job))
    tokenizer = load_tokenizer(job.model)
    model = load_student(job.model)
    _train(_Sft(model=model, args=args, train_dataset=_data(job), processing_class=tokenizer), pace)


def _train(trainer: Any, pace: Pace) -> None:
    trainer.pace = pace
    pace.parameters = count_parameters(trainer.model)
    trainer.add_callback(_Turns(pace))
    trainer.train()
    pace.finish()


def _data(job: Job) -> Dataset:
    """The block's records as the lab renders them: every token, and labels where the answer is."""
    renderer = ChatRenderer(load_tokenizer(job.model))
    table = tokenised_train_records(Path(job.cache), renderer, Path(job.out) / "tokens", "error")
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for row in rows_of(table, range(len(table))):
        ids = row["input_ids"].tolist()
        columns["input_ids"].append(ids)
        columns["labels"].append([i if on else _IGNORED for i, on in zip(ids, row["supervised"], strict=True)])
    return Dataset.from_dict(columns)
