"""Four-way choice of the teacher's continuation, by lm-evaluation-harness: `choices.py` makes it, `harness.py` runs it.

In its folder: the task as the harness's command line runs it, and `choices.jsonl`, what the model picked.
"""

from dataclasses import asdict
from pathlib import Path

from dante.errors import DanteError
from dante.evaluate import items
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import Item, Measurement, Metric, NotMeasured, Stated, Suite
from dante.evaluate.suites.continuation.choices import OPTIONS, choice_items
from dante.evaluate.suites.continuation.harness import DECODING, HARNESS, TASK, run_choices, write_task
from dante.system.jsonl import write_lines

# Options in a forward pass of lm-eval, which pads them to the longest.
_BATCH = 8


class Continuation(Suite):
    """Does a model's answer depend on the question?

    Args:
        choices: most items; 0: none.
        characters: at most this many in an option.
        name: of the suite.
    """

    heading = "choosing the true continuation"
    contrasts = ()

    def __init__(self, choices: int, characters: int, name: str = "") -> None:
        super().__init__(name)
        self.choices, self.characters = choices, characters
        self.metrics = {
            "acc_norm": Metric(
                "length-normalised accuracy", True, "higher", "the same, per character of the continuation", DECODING
            ),
            "acc": Metric("accuracy", True, "higher", "the true continuation has the highest likelihood", DECODING),
        }

    def measure(self, subject: Subject, out: Path, bars: Bars) -> Measurement | None:
        if not self.choices:
            return None
        try:
            asked = choice_items(
                subject.records,
                subject.read("train"),
                self.choices,
                subject.draw_seed,
                characters=self.characters,
            )
        except DanteError as error:  # a cache too small or too uniform for them can still be measured otherwise
            raise NotMeasured(f"No four-way choices: {error.what}.") from error
        write_task(out / TASK, asked.items)
        result = run_choices(
            subject.folder,
            out / TASK,
            batch_size=_BATCH,
            dtype=subject.dtype,
            device=subject.device,
            chat=subject.chat,
            advance=bars.add("four-way choices", OPTIONS * len(asked.items)),
        )
        write_lines(out / "choices.jsonl", [asdict(answer) for answer in result.answers])
        texts = {record.id: items.text_hash(record) for record in subject.records}
        return Measurement(
            items=[
                Item(
                    answer.id,
                    texts[answer.id],
                    {
                        "acc_norm": (float(answer.picked_norm == answer.gold), 1.0),
                        "acc": (float(answer.picked == answer.gold), 1.0),
                    },
                )
                for answer in result.answers
            ],
            # The harness's own numbers.
            stated=[
                Stated("acc_norm", result.acc_norm, result.acc_norm_stderr, result.n),
                Stated("acc", result.acc, result.acc_stderr, result.n),
            ],
            command=result.command,
            decoding=result.decoding,
            n_shot=result.n_shot,
            harness=HARNESS,
            harness_version=result.harness_version,
        )
