"""A tiny model of another family than the smoke teacher's: other tokens, another architecture, another end of turns."""

from typing import Any, ClassVar

from dante.teachers.smoke import SmokeTeacher, byte_level_bpe

VOCABULARY = 640
END = "<end_of_turn>"
TEMPLATE = (
    "{% for message in messages %}<start_of_turn>{{ message['role'] }}\n{{ message['content'] }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"
)


class OtherSmokeTeacher(SmokeTeacher):
    """Makes a qwen2 of 3 layers and width 48; arguments as of `SmokeTeacher`.

    Its tokens are words with the space behind them, where the smoke teacher's have it before them.
    """

    NAME: ClassVar[str] = "smoke-other"

    def tokenizer(self) -> Any:
        return other_tokenizer()

    def config(self, ids: dict[str, Any]) -> Any:
        from transformers import Qwen2Config

        return Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=3,
            num_key_value_heads=1,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            **ids,
        )


def other_tokenizer() -> Any:
    """A byte-level BPE tokenizer of 640 entries whose words carry the space that follows."""
    from tokenizers import Regex, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = pre_tokenizers.Split(Regex(r"\w+\s?|\s+|[^\w\s]+"), "isolated")
    cut = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(cut, VOCABULARY, ["<pad>", "<bos>", "<start_of_turn>", END]),
        bos_token="<bos>",
        eos_token=END,
        pad_token="<pad>",
        unk_token="<pad>",
        additional_special_tokens=["<start_of_turn>"],
        chat_template=TEMPLATE,
    )
