"""Puzzles with one right answer, made and scored by the package `reasoning-gym`.

No model can have seen them: they are made anew from a seed. The package's own scorer decides, which for some puzzles
accepts any right answer, and for most gives a part of a point to an answer with more around it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import transformers

from dante.cache.prompts.reasoning_gym import package, puzzles_of
from dante.errors import DanteError
from dante.evaluate.harness.kept import kept_of
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import Item, Measurement, Metric, NotMeasured, Suite
from dante.evaluate.suites.greedy import BATCH_PROMPTS, greedy
from dante.system.files import fingerprint
from dante.system.jsonl import write_lines
from dante.text.repetition import RepetitionLimit

HARNESS = "reasoning-gym"


class Puzzles(Suite):
    """Greedy answers in the chat template, read out of `<answer>` tags.

    Args:
        tasks: by name in the package what each is told, `{}`: its own level.
        count: puzzles of each.
        seed: of the puzzles.
        prompt: which of the package's system prompts asks for the tags.
        max_new_tokens: limit of every answer.
        loop: when an answer counts as looping and is ended.
        name: of the suite.
    """

    heading, counts = "puzzles of reasoning-gym", "puzzles"

    def __init__(
        self,
        tasks: dict[str, dict[str, Any]],
        count: int,
        seed: int,
        prompt: str,
        max_new_tokens: int,
        loop: RepetitionLimit,
        name: str = "",
    ) -> None:
        super().__init__(name)
        self.tasks, self.count, self.seed, self.prompt = tasks, count, seed, prompt
        self.max_new_tokens, self.loop = max_new_tokens, loop
        how = f"greedy, chat template, max_new_tokens={max_new_tokens}, loops ended"
        self.metrics = {
            "right": Metric("share that is right", True, "higher", "the package gives the whole point", how),
            "score": Metric("score", True, "higher", "the package's points, parts of one included", how),
            "answered": Metric("share with an answer", True, "higher", "something stands in <answer> tags", how),
        }

    def measure(self, subject: Subject, out: Path, bars: Bars) -> Measurement | None:
        if not self.count:
            return None
        where = f"eval.suites.{self.name}"
        try:
            version = str(package(where).__version__)
        except DanteError as error:
            raise NotMeasured(f"{self.name} was not measured: {error.what}. {error.fix}.") from error
        from reasoning_gym.utils import SYSTEM_PROMPTS, extract_answer

        made = {task: puzzles_of(task, told, self.count, self.seed, where) for task, told in self.tasks.items()}
        asked = [(task, place, entry) for task, puzzles in made.items() for place, entry in enumerate(puzzles)]
        system = {"role": "system", "content": SYSTEM_PROMPTS[self.prompt]}
        prompts = [[system, {"role": "user", "content": entry["question"]}] for _, _, entry in asked]
        answers = self._answers(subject, prompts, bars)
        items, lines = [], []
        for (task, place, entry), answer in zip(asked, answers, strict=True):
            said = extract_answer(answer["text"])
            points = float(made[task].score_answer(said, entry)) if said is not None else 0.0
            values = {"right": float(points == 1.0), "score": points, "answered": float(said is not None)}
            items.append(
                Item(
                    f"{task}/{place}",
                    fingerprint(entry["question"]),
                    {key: (value, 1.0) for key, value in values.items()},
                    (f"task={task}",),
                )
            )
            lines.append({"id": f"{task}/{place}", "question": entry["question"], "right": entry["answer"], **answer})
        write_lines(out / "samples.jsonl", lines)
        return Measurement(
            items,
            slices=[f"task={task}" for task in made] if len(made) > 1 else [],
            details={"tasks": self.tasks, "seed": self.seed},
            harness=HARNESS,
            harness_version=version,
            protocol={"task_version": version, "split": f"seed {self.seed}", "limit": None,
                      "chat": True, "said": "made by reasoning-gym"},
        )  # fmt: skip

    def _answers(self, subject: Subject, prompts: Sequence[Any], bars: Bars) -> list[dict[str, Any]]:
        advance = bars.add(self.name, len(prompts))
        kept = kept_of(subject, transformers.__version__)
        answers: list[dict[str, Any]] = []
        for start in range(0, len(prompts), BATCH_PROMPTS):
            batch = prompts[start : start + BATCH_PROMPTS]

            def answer(batch: Sequence[Any] = batch) -> list[dict[str, Any]]:
                given = greedy(subject.model, subject.renderer, batch, self.max_new_tokens, self.loop)
                return [asdict(one) for one in given]

            answers += kept.get(["greedy", self.max_new_tokens, asdict(self.loop), list(batch)], answer)
            advance(len(batch))
        return answers
