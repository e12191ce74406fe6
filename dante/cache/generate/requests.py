"""Prompts → what an engine is asked: rendered tokens, a seed, and a key under which the answer is kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dante.cache.asked import read_by
from dante.cache.generate.batches import Job
from dante.cache.prompts.pocket import Prompt
from dante.cache.records.conversation import Message, messages_of
from dante.cache.records.fields import SHOWN_CHARACTERS
from dante.cache.records.record import stable_hash
from dante.errors import DanteError
from dante.teachers.engines.base import Decoding, Request
from dante.teachers.teacher import SOURCE as TEACHER
from dante.text.system_prompt import inserted, with_system_prompt

# What decides an answer's text. `samples` only says how many there are, `logprobs` how exactly entropy is known.
NOT_IDENTITY = ("samples", "logprobs")
SYSTEM_PROMPT = "cache.source.system_prompt"


@dataclass(frozen=True)
class Asked:
    """One answer that a cache wants: to which prompt, how, which sample, and the job that gets it."""

    prompt: Prompt
    decoding: Decoding
    sample: int
    identity: str
    job: Job


class Renderer:
    """Renders prompts with the teacher's own chat template.

    Args:
        model: folder or hub id of the teacher.
        revision: hub revision, or None.
        system_prompt: put in front of conversations that have none; None leaves what the template inserts by itself,
            and an empty one takes that away.
        seed: of the sampling.
        chat: variables of the template, such as `enable_thinking`.

    Raises:
        DanteError: the teacher has no chat template.
    """

    def __init__(
        self, model: str, revision: str | None, system_prompt: str | None, seed: int, chat: Mapping[str, Any]
    ) -> None:
        from dante.text.tokenizer import load_tokenizer

        self.tokenizer: Any = load_tokenizer(model, revision, TEACHER)
        self.system_prompt, self.seed, self.chat = system_prompt, seed, dict(chat)
        # Now: a later call may leave its padding behind in what the tokenizer writes of itself.
        self._tokenizer_hash = stable_hash(self.tokenizer.backend_tokenizer.to_str())
        if self.tokenizer.chat_template is None:
            raise DanteError("the teacher has no chat template", where=model, fix="choose an instruct model")
        if system_prompt == "":
            self.tokenizer.chat_template = with_system_prompt(self.tokenizer, "", self.chat, SYSTEM_PROMPT)
        #: What the template puts in the place of a system message, where a conversation has none.
        self.inserted = inserted(self.tokenizer, self.chat)

    def identity(self) -> dict[str, Any]:
        """Hashes of tokenizer and template, and the variables that it reads: the provenance of what they render."""
        variables = read_by(str(self.tokenizer.chat_template), self.chat)
        return {
            "tokenizer": self._tokenizer_hash,
            "chat_template": stable_hash(self.tokenizer.chat_template),
            **({"chat": variables} if variables else {}),
        }

    def ask(self, prompts: Sequence[Prompt], decodings: Sequence[Decoding]) -> Iterator[Asked]:
        """Every answer that is wanted: decoding by decoding, so that a batch has one temperature."""
        rendered = [self._render(prompt) for prompt in prompts]
        for decoding in decodings:
            sampling = {k: v for k, v in decoding.as_dict().items() if k not in NOT_IDENTITY}
            for prompt, (messages, ids) in zip(prompts, rendered, strict=True):
                asked = prompt.prompt if messages is None else messages
                given = [prompt.prefix] if prompt.prefix else []
                for sample in range(decoding.samples):
                    identity = stable_hash(asked, sampling, sample, *given)
                    drawn = int(stable_hash(self.seed, identity)[:8], 16) if decoding.heat else 0
                    request = Request(ids, drawn, messages_of(asked), prompt.prefix, self.chat)
                    job = Job(stable_hash(identity, drawn), request, decoding)
                    yield Asked(self._with_system(prompt, messages), decoding, sample, identity, job)

    def keeps_white_space(self) -> bool:
        """Whether the template writes an assistant's message with the white space at its ends."""
        padded = " so \n"
        messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": padded}]
        variables = self.chat | {"add_generation_prompt": False, "continue_final_message": False}
        return padded in str(self.tokenizer.apply_chat_template(messages, tokenize=False, **variables))

    def _render(self, prompt: Prompt) -> tuple[list[Message] | None, list[int]]:
        """Messages where a system prompt was added (None where the prompt is asked as it is), and tokens."""
        messages = messages_of(prompt.prompt)
        added = bool(self.system_prompt) and messages[0]["role"] != "system"
        if self.system_prompt is not None and added:
            messages = [{"role": "system", "content": self.system_prompt}, *messages]
        text = self._written(messages)
        ids = self.tokenizer(text + prompt.prefix, add_special_tokens=False, verbose=False)["input_ids"]
        return messages if added else None, list(ids)

    def _written(self, messages: list[Message]) -> str:
        from jinja2 import TemplateError

        from dante.text.chat import fixed_date

        variables = {"strftime_now": fixed_date, **self.chat}
        try:
            return str(
                self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **variables)
            )
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise DanteError(
                f"the teacher's template refuses a conversation of the roles {roles}: {error}",
                where=f"the prompt that ends with {messages[-1]['content'][:SHOWN_CHARACTERS]!r}",
                fix="leave such prompts out, or write them as its template has them",
            ) from None

    def _with_system(self, prompt: Prompt, messages: list[Message] | None) -> Prompt:
        return prompt if messages is None else replace(prompt, prompt=messages)
