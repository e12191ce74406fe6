"""What templates insert by themselves: found, replaced, taken away, and nothing else of a conversation changed."""

import copy
from typing import Any

import pytest

from dante.errors import DanteError
from dante.teachers.smoke import smoke_tokenizer
from dante.teachers.smoke_other import other_tokenizer
from dante.text.chat import ChatRenderer
from dante.text.system_prompt import inserted, with_system_prompt

QWEN = (
    "{%- if tools %}{{- '<|im_start|>system\\n' }}tools{{- '<|im_end|>\\n' }}{%- else %}"
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}{%- endif %}{%- endif %}"
    "{%- for message in messages %}{%- if message.role != 'system' or not loop.first %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
LLAMA = (
    "{{- bos_token }}{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NONE = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}[{{ m['role'] }}]{{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"  # noqa: E501
CHAT = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}, {"role": "user", "content": "?"}]
SYSTEM = [{"role": "system", "content": "Mine."}, *CHAT]


def tokenizer(template: str | None = None) -> Any:
    made = smoke_tokenizer()
    if template is not None:
        made.chat_template = template
    return made


def written(made: Any, messages: list[dict[str, str]], **variables: Any) -> str:
    return str(made.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables))


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (tokenizer(), "You are a small model."), (tokenizer(QWEN), "You are Qwen."), (tokenizer(LLAMA), None),
        (tokenizer(NONE), None), (other_tokenizer(), None),
    ],
    ids=["smollm", "qwen", "llama", "refuses", "none"],
)  # fmt: skip
def test_what_is_inserted_is_found(made: Any, text: str | None) -> None:
    assert inserted(made, {}) == text


@pytest.mark.parametrize("template", [None, QWEN, LLAMA], ids=["smollm", "qwen", "llama"])
def test_another_one_or_none(template: str | None) -> None:
    plain = tokenizer(template)
    said, dropped = copy.deepcopy(plain), copy.deepcopy(plain)
    said.chat_template = with_system_prompt(plain, 'Be "brief".\n{{ x }}', {}, "student.system_prompt")
    dropped.chat_template = with_system_prompt(plain, "", {}, "student.system_prompt")
    assert inserted(dropped, {}) is None
    for changed in (said, dropped):
        assert written(changed, SYSTEM) == written(plain, SYSTEM)  # a message of one's own stays
    own = [{"role": "system", "content": 'Be "brief".\n{{ x }}'}, *CHAT]
    assert written(said, CHAT) == written(plain, own)
    turn = written(plain, SYSTEM)
    text = written(dropped, CHAT)
    assert "ystem" not in text
    assert turn.endswith(text.removeprefix(str(plain.bos_token)) if template == LLAMA else text)
    assert text.count(str(plain.bos_token)) == (1 if template == LLAMA else 4)
    for changed in (said, dropped):
        ChatRenderer(changed).render(CHAT, "Yes.")  # masks stay exact


def test_a_template_that_refuses_system_messages() -> None:
    made = tokenizer(NONE)
    assert with_system_prompt(made, "", {}, "x") == NONE
    with pytest.raises(DanteError, match=r"refuses system messages.*x=null"):
        with_system_prompt(made, "Be brief.", {}, "x")
