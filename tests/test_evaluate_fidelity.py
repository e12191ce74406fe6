"""Bits per byte against a slow reference that shares no code with it: whole logits, float64, one record at a time."""

import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dante.errors import DanteError
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.scoring import Reference
from dante.students import scoring
from dante.students.scoring import score
from dante.text.chat import ChatRenderer, Rendered
from dante.text.raw import plain

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = [("Ciao?", "Perché è così."), ("Say ab", "ab"), ("x" * 30, "Zwölf Boxkämpfer jagen Viktor " * 4), ("1+1", "2")]


def tiny(vocab_size: int, seed: int, context: int = 1024) -> tuple[LlamaForCausalLM, ChatRenderer]:
    """A random model with a byte-level tokenizer of its own; another `vocab_size` merges other pairs."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([answer for _, answer in TEXTS] * 3 + ["user assistant"], trainer)
    words = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|im_end|>", additional_special_tokens=special[1:]
    )
    words.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=context, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval(), ChatRenderer(words)


@torch.no_grad()
def reference_bits(model: LlamaForCausalLM, renderer: ChatRenderer, prompt: str, answer: str) -> tuple[float, int]:
    """Bits of the answer and its <|im_end|>, and its bytes, from text alone: no mask of ours is used."""
    answer = answer.strip()  # white space at the ends is not part of an answer
    head = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    context = renderer.tokenizer(head, add_special_tokens=False)["input_ids"]
    target = renderer.tokenizer(answer + "<|im_end|>", add_special_tokens=False)["input_ids"]
    logits = model.double()(input_ids=torch.tensor([context + target])).logits[0]
    log_p = logits.double().log_softmax(-1)
    nats = -sum(float(log_p[len(context) + k - 1, token]) for k, token in enumerate(target))
    return nats / math.log(2), len(answer.encode("utf-8"))


@pytest.mark.parametrize(("vocab_size", "seed"), [(260, 0), (300, 1)])
def test_bits_are_those_of_a_slow_reference(vocab_size: int, seed: int) -> None:
    model, renderer = tiny(vocab_size, seed)
    scores = score(model, [renderer.render(*text) for text in TEXTS])
    expected = [reference_bits(model, renderer, *text) for text in TEXTS]
    assert scores.bits == pytest.approx([bits for bits, _ in expected], rel=1e-5)
    assert scores.text_bytes.tolist() == [size for _, size in expected]


def test_tokenizers_differ_and_bytes_do_not() -> None:
    """What makes models with other tokenizers comparable."""
    (one, a), (other, b) = tiny(260, 0), tiny(300, 1)
    left, right = (score(m, [r.render(*t) for t in TEXTS]) for m, r in ((one, a), (other, b)))
    assert left.tokens.tolist() != right.tokens.tolist()
    assert left.text_bytes.tolist() == right.text_bytes.tolist()


def test_a_uniform_model_needs_log2_vocabulary_bits_per_token() -> None:
    model, renderer = tiny(280, 0)
    torch.nn.init.zeros_(model.lm_head.weight)
    scores = score(model, [renderer.render(*text) for text in TEXTS])
    assert scores.bits == pytest.approx(scores.tokens * math.log2(model.config.vocab_size), rel=1e-6)


def test_company_in_a_batch_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, renderer = tiny(280, 2)
    rendered = [renderer.render(*text) for text in TEXTS]
    together = score(model, rendered)
    done: list[int] = []
    monkeypatch.setitem(scoring.BATCH_TOKENS, "cpu", 1)
    alone = score(model, rendered, done.append)
    assert together.bits == pytest.approx(alone.bits, rel=1e-5)
    assert done == [1, 1, 1, 1]


def test_bf16_is_close_to_fp32() -> None:
    model, renderer = tiny(280, 3)
    rendered = [renderer.render(*text) for text in TEXTS]
    exact = score(model, rendered).bits
    assert score(model.bfloat16(), rendered).bits == pytest.approx(exact, rel=0.03)


def test_a_record_longer_than_the_context_is_refused() -> None:
    model, renderer = tiny(260, 0, context=512)
    with pytest.raises(DanteError, match="context of 512"):
        score(model, [renderer.render("a", "long " * 400)])


def test_a_record_without_supervised_tokens_is_refused() -> None:
    model, _ = tiny(260, 0)
    with pytest.raises(DanteError, match="no supervised token"):
        score(model, [Rendered([1, 2, 3], [False] * 3, 5)])


def test_hits_and_confidence_belong_to_their_tokens() -> None:
    """Per token, in the records' order, whatever order the batches had."""
    model, renderer = tiny(280, 4)
    rendered = [renderer.render(*text) for text in TEXTS]
    scores = score(model, rendered)
    place = 0
    with torch.no_grad():
        for row, item in enumerate(rendered):
            p = model(input_ids=torch.tensor([item.input_ids])).logits[0].softmax(-1)
            for position in [i for i, target in enumerate(item.supervised) if target]:
                assert scores.record[place] == row
                assert scores.confidence[place] == pytest.approx(float(p[position - 1].max()), rel=1e-4)
                entropy = float(-(p[position - 1].double() * p[position - 1].double().log()).sum())
                assert scores.entropy[place] == pytest.approx(entropy, rel=1e-4)
                assert scores.correct[place] == (int(p[position - 1].argmax()) == item.input_ids[position])
                place += 1
    assert place == len(scores.nats)
    assert scores.ratios()["entropy_nats"].value == pytest.approx(scores.entropy.mean())


def test_divergence_from_kept_hidden_states_is_that_of_whole_logits() -> None:
    teacher, renderer = tiny(280, 5)
    student, _ = tiny(280, 6)
    rendered = [renderer.render(*text) for text in TEXTS]
    kept = score(teacher, rendered, keep_hidden=True).hidden
    assert kept is not None
    beside = Reference(Head.of(teacher), kept)
    scores = score(student, rendered, reference=beside)
    expected = []
    with torch.no_grad():
        for item in rendered:
            ids = torch.tensor([item.input_ids])
            log_p, log_q = (m(input_ids=ids).logits[0].double().log_softmax(-1) for m in (teacher, student))
            kl = (log_p.exp() * (log_p - log_q)).sum(-1)
            expected.append(sum(float(kl[i - 1]) for i, target in enumerate(item.supervised) if target))
    assert scores.beside is not None
    assert scores.per_item(scores.beside.kl) == pytest.approx(expected, rel=1e-4)
    assert scores.ratios()["kl_nats"].value == pytest.approx(sum(expected) / len(scores.nats), rel=1e-4)
    own = score(teacher, rendered, reference=beside)
    assert own.beside is not None
    assert own.beside.agrees.all()
    # The teacher beside itself: both sides of a token are one.
    for name in ("argmax", "confidence", "entropy"):
        np.testing.assert_allclose(getattr(own.beside, name), getattr(own, name), rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(getattr(own.beside, name), getattr(scores.beside, name), err_msg=name)


def test_a_plain_text_is_scored_whole() -> None:
    model, renderer = tiny(280, 7)
    item = plain(renderer.tokenizer, "Zwölf Boxkämpfer")
    assert renderer.tokenizer.decode(item.input_ids[1:]) == "Zwölf Boxkämpfer"
    assert item.answer_bytes == len("Zwölf Boxkämpfer".encode())
    with torch.no_grad():
        log_p = model(input_ids=torch.tensor([item.input_ids])).logits[0].double().log_softmax(-1)
    nats = -sum(float(log_p[i, token]) for i, token in enumerate(item.input_ids[1:]))
    assert score(model, [item]).bits == pytest.approx([nats / math.log(2)], rel=1e-5)


def test_dtype_of_sums_is_float64() -> None:
    model, renderer = tiny(260, 0)
    assert score(model, [renderer.render(*TEXTS[0])]).bits.dtype == np.float64
