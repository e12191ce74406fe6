"""The smoke teacher: a tiny llama made on the spot, so that every stage runs in seconds, without any download.

Its byte-level tokenizer is trained on the built-in text, with SmolLM2's traps kept: the pad id is the end-of-turn id,
and the ChatML template inserts a default system message. A few training steps on built-in questions and the first
sentences of their answers teach it to end its turns: random weights, and those of too few steps, answer every prompt
up to the token limit or run into a loop, and then no answer is left to train on.
"""

import json
import re
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import torch

from dante.system.threads import threads
from dante.teachers.teacher import Teacher, sha256_of_weights

VOCABULARY = 512
FIRST_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a small model.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class SmokeTeacher:
    """Makes a llama of 4 layers and width 64 under `out/model/`.

    Args:
        seed: of the weights and of the order of the pairs.
        train_steps: optimizer steps on the built-in pairs.
    """

    NAME: ClassVar[str] = "smoke"

    def __init__(self, seed: int, train_steps: int = 100) -> None:
        self.seed, self.train_steps = seed, train_steps

    def tokenizer(self) -> Any:
        """The tokenizer, with the chat template."""
        return smoke_tokenizer()

    def config(self, ids: dict[str, Any]) -> Any:
        """The architecture.

        Args:
            ids: `bos_token_id`, `eos_token_id` and `pad_token_id` of the tokenizer.
        """
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=2,  # heads of 32: the smallest that vLLM runs on a CPU
            num_key_value_heads=1,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            **ids,
        )

    def make(self, out: Path) -> Teacher:
        """Writes `model/` and `teacher.json` under `out`; the same seed gives the same weights."""
        folder = out / "model"
        shutil.rmtree(folder, ignore_errors=True)
        tokenizer = self.tokenizer()
        model = self._train(tokenizer)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        digest = sha256_of_weights(folder)
        teacher = Teacher(self.NAME, "model", True, None, "Apache-2.0", digest, chat_template=True)
        teacher.write(out)
        return teacher

    def _train(self, tokenizer: Any) -> Any:
        from transformers import AutoModelForCausalLM, GenerationConfig

        eos = tokenizer.eos_token_id
        special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": eos, "pad_token_id": eos}
        config = self.config(special)
        # One thread: layers of this size gain nothing from a second one, and beside other work it waits for the first.
        with threads(1), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = AutoModelForCausalLM.from_config(config)
            model.generation_config = GenerationConfig(**special)
            ids, targets = _pairs(tokenizer)
            optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
            mask = (torch.arange(ids.shape[1])[None] < (targets != -100).cumsum(1).argmax(1)[:, None] + 1).long()
            for _ in range(self.train_steps):
                rows = torch.randperm(len(ids))[:8]
                loss = model(input_ids=ids[rows], attention_mask=mask[rows], labels=targets[rows]).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        return model.eval()


def smoke_pairs() -> list[tuple[str, str]]:
    """The built-in questions and answers: the earlier exchanges of the dialogue prompts."""
    text = files("dante.cache.prompts.pocket").joinpath("topics", "dialogue.json").read_text(encoding="utf-8")
    topics = json.loads(text)
    return [(exchange[0], exchange[1]) for exchange in topics["exchanges"] + topics["exchanges_it"]]


def smoke_tokenizer() -> Any:
    """A byte-level BPE tokenizer of 512 entries, trained on the built-in pairs."""
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(cut, VOCABULARY, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=TEMPLATE,
    )


def byte_level_bpe(cut: Any, vocabulary: int, special: list[str]) -> Any:
    """The core of a byte-level BPE tokenizer, trained on the built-in pairs.

    Args:
        cut: how text is cut before pieces are merged.
        vocabulary: entries.
        special: those of them that are special tokens, which come first.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = cut
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([part for pair in smoke_pairs() for part in pair], trainer)
    return core


def _pairs(tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded token ids and targets [pairs, length]; only the answer and its end are targets."""
    rows = []
    for question, answer in smoke_pairs():
        sentence = FIRST_SENTENCE.match(answer)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        reply = tokenizer.encode(sentence[0] if sentence else answer, add_special_tokens=False) + [
            tokenizer.eos_token_id
        ]
        rows.append((prompt, reply))
    length = max(len(prompt) + len(reply) for prompt, reply in rows)
    ids = torch.full((len(rows), length), tokenizer.eos_token_id)
    targets = torch.full((len(rows), length), -100)
    for row, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        ids[row, :end] = torch.tensor(prompt + reply)
        targets[row, len(prompt) : end] = torch.tensor(reply)
    return ids, targets
