"""The model that suites measure, and what they may ask of it. What takes time is made when first asked for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from dante.cache import Record, read_records
from dante.cache.asked import asked_without_system_prompt
from dante.cache.records.reader import first_answers
from dante.cache.records.record import Split
from dante.evaluate import items
from dante.models.outside import model_identity
from dante.models.pretrained import Source, read_config
from dante.run.precision import dtype_of
from dante.students.load import load_student
from dante.students.scoring import context_of
from dante.text.chat import ChatRenderer
from dante.text.system_prompt import with_system_prompt
from dante.text.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Subject:
    """The model that is measured, and what it is measured beside.

    Attributes:
        name: `teacher`, `init` or `student`.
        folder: Hugging Face folder.
        seed: that results carry.
        cache: finished cache directory.
        precision: of weights and activations, `bf16` or `fp32`.
        heldout: at most so many held-out records; None: all.
        draw_seed: of whatever a suite draws: the same for every model.
        chat: variables of the chat template.
        kept: folder of what is kept for good, such as answers to benchmarks.
        teacher_scores: the teacher's finished directory of scores, or None.
        teacher_folder: its Hugging Face folder, or None.
    """

    name: str
    folder: Path
    seed: int
    cache: Path
    precision: str
    heldout: int | None
    draw_seed: int
    chat: dict[str, Any]
    kept: Path
    teacher_scores: Path | None = None
    teacher_folder: Path | None = None

    @property
    def is_teacher(self) -> bool:
        return self.name == "teacher"

    @property
    def is_student(self) -> bool:
        """It is what the run has trained."""
        return self.name == "student"

    @property
    def device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def dtype(self) -> torch.dtype:
        return dtype_of(self.precision)

    @cached_property
    def config(self) -> PreTrainedConfig:
        """Its config; no weights are loaded."""
        return read_config(Source(str(self.folder), "model"))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What it is, wherever it lies: its files, or of a hub id the commit that is read."""
        if self.folder.is_dir():
            return model_identity(self.folder)
        return {"id": str(self.folder), "commit": getattr(self.config, "_commit_hash", None)}

    @property
    def context(self) -> int | None:
        """Tokens that it reads at most, where its config says so."""
        return context_of(self.config)

    @cached_property
    def opened(self) -> dict[str, Any]:
        """Models of other programs that have been opened of it, by what runs them."""
        return {}

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer; a teacher's template inserts what it was asked with, and a base model has none."""
        tokenizer = load_tokenizer(self.folder)
        if self.is_teacher and asked_without_system_prompt(self.cache):
            tokenizer.chat_template = with_system_prompt(tokenizer, "", self.chat, "cache.source.system_prompt")
        return tokenizer

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model on its device, in evaluation mode."""
        return torch.nn.Module.to(load_student(self.folder, dtype=self.dtype), self.device).eval()

    @cached_property
    def renderer(self) -> ChatRenderer:
        """Its tokenizer and chat template."""
        return ChatRenderer(self.tokenizer, **self.chat)

    @cached_property
    def records(self) -> list[Record]:
        """The held-out records that are scored, the same for every model that shares the cache."""
        return items.select(self.read("heldout"), self.heldout)

    def read(self, split: Split) -> list[Record]:
        """Records of one split of the cache: of a held-out prompt the answer that was sampled first."""
        records = read_records(self.cache, split)
        return records if split == "train" else first_answers(records)
