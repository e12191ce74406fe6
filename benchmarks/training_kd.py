"""What distillation needs in `training.py`: a small student, live teachers some times its size, and kept logits.

Student and teachers are llamas with random weights and the tokenizer of the model that the benchmark has: weights do
not change what a step takes. A teacher of k times the size is k times as wide and has a k-th of the layers, which is k
times the weights in the blocks and in the LM head alike, so that its forward is k thirds of what the student computes.
Kept logits are the model's own, not random ones: how many tokens differ among the draws is what a step pays for.
"""

from pathlib import Path
from typing import Any

from gemm import skeleton
from omegaconf import OmegaConf

from dante.cache.sparse.making.make import Order, make
from dante.run.parts import build
from dante.students.load import count_parameters
from dante.teachers.teacher import Teacher, sha256_of_weights
from dante.text.tokenizer import load_tokenizer

CONF = Path(__file__).resolve().parents[1] / "conf"
KINDS = ("random_sampling", "topk_tail")
HEAD_WIDTH = 64
WIDTH_TO_MLP = 8 / 3


def student(folder: Path, model: Path, layers: int, width: int) -> Path:
    """A llama with random weights, and the vocabulary and tokenizer of `model`; heads as SmolLM2 has them."""
    import torch
    from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

    theirs = AutoConfig.from_pretrained(str(model))
    heads = max(1, width // HEAD_WIDTH)
    config = LlamaConfig(
        vocab_size=theirs.vocab_size,
        hidden_size=width,
        intermediate_size=round(width * WIDTH_TO_MLP),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 3 if heads % 3 == 0 else heads,
        max_position_embeddings=theirs.max_position_embeddings,
        tie_word_embeddings=True,
        **{name: getattr(theirs, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    load_tokenizer(str(model)).save_pretrained(folder)
    return folder


def teacher(step: Path, model: Path, times: int) -> dict[str, Any]:
    """A finished teacher step of `times` the size of `model`; its shape and parameters."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(model))
    layers, width = max(1, round(config.num_hidden_layers / times)), config.hidden_size * times
    folder = student(step / "model", model, layers, width)
    Teacher(f"{times} x", "model", True, None, "none", sha256_of_weights(folder), chat_template=True).write(step)
    return {"layers": layers, "width": width, **sizes(folder)}


def sizes(model: str | Path) -> dict[str, int]:
    """Parameters: of everything, of the blocks, of the LM head."""
    shape = skeleton(model)
    head = shape.get_output_embeddings().weight.numel()  # type: ignore[operator]
    return {
        "parameters": count_parameters(shape),
        "body": count_parameters(shape, embeddings=False),
        "head": head,
    }


def kept_logits(out: Path, cache: Path, model: Path, threads: int) -> dict[str, float]:
    """Files of both kinds for the records of a cache, as the command makes them; ids per token of each."""
    author = out / "author"
    Teacher("author", str(model.resolve()), True, None, "unknown", None, chat_template=True).write(author)
    found = {}
    for kind in KINDS:
        settings = OmegaConf.load(CONF / "kept" / f"{kind}.yaml")
        node = {**OmegaConf.load(CONF / "engine" / "transformers.yaml"), "dtype": "float32", "device": "cpu"}
        order = Order(cache, author, kind, settings.size, settings.seed)
        logits = make(order, build(node), {"threads": threads}, out, lambda line: None)
        rows = [logits.for_record(record).ids for record in _records(cache)]
        found[kind] = sum(int((ids >= 0).sum()) for ids in rows) / sum(len(ids) for ids in rows)
    return found


def _records(cache: Path) -> list[Any]:
    from dante.cache import read_records

    return read_records(cache, "train")
