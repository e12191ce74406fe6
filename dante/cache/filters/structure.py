"""Answers that lack what a thinking student needs: a thinking part and an answer, and no tools (DASD §3 [C])."""

import re

from dante.cache.filters.base import OneByOne
from dante.cache.records.record import Record
from dante.text.thinking import normalise_thinking, split_thinking

TOOL_CALL = re.compile(
    r"<tool_call>|<\|tool_call|<function_calls?>|\[TOOL_CALLS\]|<\|python_tag\|>|<｜tool▁call"
    r"|<\|channel\|>\w+ to=|<\|start\|>assistant to="  # harmony names the tool on either side of the channel
)


class Structure(OneByOne):
    """Leaves out answers without the parts that are wanted; native thinking delimiters count like rewritten ones.

    Args:
        require_thinking: leave out answers that lack the thinking part or the answer after it.
        forbid_tool_calls: leave out answers that call tools.
    """

    name = "structure"

    def __init__(self, require_thinking: bool, forbid_tool_calls: bool) -> None:
        self.require_thinking, self.forbid_tool_calls = require_thinking, forbid_tool_calls

    def reason(self, record: Record) -> str | None:
        if self.forbid_tool_calls and TOOL_CALL.search(record.teacher_text):
            return "tool call"
        if not self.require_thinking:
            return None
        thinking, answer = split_thinking(normalise_thinking(record.teacher_text))
        if thinking is None or not thinking.strip():
            return "no thinking"
        return None if answer.strip() else "no answer"
