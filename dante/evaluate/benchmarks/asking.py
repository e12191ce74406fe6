"""Tasks of the harness's asked of a model: opened once, its answers kept, draw after draw."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dante.evaluate.benchmarks.backends.base import Backend
from dante.evaluate.harness.kept import Kept, KeptModel, kept_of
from dante.evaluate.harness.quiet import contained
from dante.evaluate.subject import Subject
from dante.system.files import fingerprint

Sample = Mapping[str, Any]


@dataclass
class AskedModel:
    """A model that tasks are asked of; the harness takes it for one of its own.

    Attributes:
        backend: what runs it.
        subject: the model.
        batch: items that are asked together.
        seed: of worked examples, and of what is sampled.
        chat: whether prompts are put into its chat template.
        cut: prompts that were longer than its context, and lost their beginning.
    """

    backend: Backend
    subject: Subject
    batch: int
    seed: int
    chat: bool
    cut: set[str] = field(default_factory=set)

    # What the harness asks of a model without asking it anything.
    rank, world_size, MULTIMODAL = 0, 1, False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.model, name)

    @cached_property
    def model(self) -> Any:
        """The harness's model: opened when something is asked that has no kept answer, and once for all suites."""
        key = fingerprint(self.backend.identity())
        if key not in self.subject.opened:
            self.subject.opened[key] = self.backend.open(self.subject)
        return self.subject.opened[key]

    @property
    def kept(self) -> Kept:
        """Where its answers are kept: by backend and harness, too."""
        from lm_eval import __version__

        return kept_of(self.subject, self.backend.identity(), __version__)

    def samples(
        self,
        tasks: Mapping[str, Any],
        chosen: Mapping[str, list[int]],
        draws: int,
        advance: Callable[[int], object],
    ) -> list[Sample]:
        """The harness's samples of all tasks, each with its `task` and `draw`.

        Args:
            tasks: task objects by name.
            chosen: places of the items that are asked, by task.
            draws: answers to a question.
            advance: called with the number of items finished.
        """
        samples: list[Sample] = []
        with contained():
            from lm_eval import evaluate

            for draw in range(draws):
                for one in tasks.values():
                    one.set_fewshot_seed(seed=self.seed)
                    self._draw(one.config, draw)
                evaluation = evaluate(
                    lm=KeptModel(self, self.kept, self.batch, advance, self._look, draw),
                    task_dict={"tasks": dict(tasks)},
                    samples=dict(chosen),
                    apply_chat_template=self.chat,
                    fewshot_as_multiturn=self.chat,
                    bootstrap_iters=0,
                )
                assert evaluation is not None
                found = [(name, sample) for name in tasks for sample in evaluation["samples"][name]]
                samples += [{**sample, "task": name, "draw": draw} for name, sample in found]
        return samples

    def _draw(self, config: Any, draw: int) -> None:
        """Puts a draw's own seed into what a task asks with, where the backend takes one."""
        if (config.generation_kwargs or {}).get("do_sample"):
            config.generation_kwargs = config.generation_kwargs | self.backend.sampling(self.seed + draw)

    def _look(self, prompt: str, behind: str | Mapping[str, Any]) -> None:
        """Notes a prompt that the model's context has no room for; the harness cuts it, and says so to nobody."""
        context = self.backend.context(self.subject)
        if context is None:
            return
        text = prompt + behind if isinstance(behind, str) else prompt
        new = 0 if isinstance(behind, str) else int(behind.get("max_gen_toks", 256))
        # No tokenizer makes a token of less than a byte: most prompts need not be counted.
        if len(text.encode()) + new <= context:
            return
        if len(self.subject.tokenizer(text, add_special_tokens=False)["input_ids"]) + new > context:
            self.cut.add(fingerprint(prompt))
