"""A third tokenizer that is really different: whole words with the space behind them, single characters else."""

from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_TRAINING = ["the leading and trailing in an of er function return def numbers text", "日本語 العربية é ß"] * 4


def words_tokenizer() -> Any:
    """Bytes below, words and their spaces above: as Qwen's splits differ from SmolLM2's."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\w+\s?|\d|\s+|[^\w\s]+"), "isolated"),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=1,
    )
    core.train_from_iterator(_TRAINING, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>")


WORDS = words_tokenizer()
