"""MMLU-Pro as lm-eval 0.4.5 asked it, whose number the DANTE card has [C].

Its template calls itself version 1.0 and its group 2.0. What has changed since, and moves scores: answers end at 256
new tokens and at `Q:` (today 2,048, `Question:`), a worked example is one text with its answer in it, in chats as
well, and options keep their white space. A number of this version is no number of today's.
"""

from collections.abc import Mapping
from typing import Any

from dante.evaluate.benchmarks.task import Benchmark
from dante.evaluate.harness.definitions import Definition

VERSION = "1.0"
LETTERS = "ABCDEFGHIJ"
_THINK = "Let's think step by step."


class MmluProV1(Benchmark):
    """The harness's MMLU-Pro with that version's prompts and limits."""

    def definition(self, name: str) -> Definition:
        known = super().definition(name)
        return known | {
            "doc_to_text": question,
            "fewshot_config": {"sampler": "first_n", "doc_to_text": worked_example, "doc_to_target": ""},
            "generation_kwargs": {
                "until": ["</s>", "Q:", "<|im_end|>"],
                "max_gen_toks": 256,
                "do_sample": False,
                "temperature": 0.0,
            },
            "metadata": {"version": VERSION},
        }


def question(doc: Mapping[str, Any]) -> str:
    """What is asked."""
    return f"{_options(doc)}Answer: {_THINK}"


def worked_example(doc: Mapping[str, Any]) -> str:
    """A question with its answer, and the empty line in front of the next one."""
    return f"{_options(doc)}{doc['cot_content'].replace(f'A: {_THINK}', f'Answer: {_THINK}')}\n\n"


def _options(doc: Mapping[str, Any]) -> str:
    lines = [f"{letter}. {option}\n" for letter, option in zip(LETTERS, doc["options"], strict=False)]
    return f"Question:\n{doc['question']}\nOptions:\n{''.join(lines)}"
