"""Greedy answers to held-out prompts: does the model stop, does it loop, how long are its answers."""

from dataclasses import asdict
from pathlib import Path

from dante.cache.grading import is_correct
from dante.evaluate import items
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import Item, Measurement, Metric, Suite
from dante.evaluate.suites.greedy import choose, greedy
from dante.text.repetition import RepetitionLimit


class Generation(Suite):
    """What greedy decoding shows, which bits per byte cannot.

    Args:
        prompts: how many held-out prompts are answered; 0: none.
        max_new_tokens: limit of every answer.
        loop: when an answer counts as looping and is ended.
        name: of the suite.
    """

    heading = "greedy answers to held-out prompts"
    counts = "prompts"
    contrasts = (("student", "teacher"),)  # where the teacher was asked, too

    def __init__(self, prompts: int, max_new_tokens: int, loop: RepetitionLimit, name: str = "") -> None:
        super().__init__(name)
        self.prompts, self.max_new_tokens, self.loop = prompts, max_new_tokens, loop
        how = f"greedy, max_new_tokens={max_new_tokens}, loops ended"
        self.metrics = {
            "stop_share": Metric(
                "share that stops by itself", True, "higher", "answers that end their turn within the limit", how
            ),
            "right_share": Metric(
                "share that is right", True, "higher", "answers to prompts with one right answer that end with it", how
            ),
            "loop_share": Metric(
                "share that loops", True, "lower", "answers that were ended because they repeated themselves", how
            ),
            "repetition": Metric("repetition", True, "lower", "4-grams of an answer that it has already written", how),
            "length_ratio": Metric(
                "length",
                meaning="bytes of its answers over bytes of the teacher's; 1 is as long",
                decoding=how,
            ),
        }

    def measure(self, subject: Subject, out: Path, bars: Bars) -> Measurement | None:
        if not self.prompts:
            return None
        asked = choose(subject.records, self.prompts)
        advance = bars.add("greedy answers", len(asked))
        prompted = [record.prompt for record in asked]
        answers = greedy(subject.model, subject.renderer, prompted, self.max_new_tokens, self.loop, advance)
        measured_items = [
            Item(
                record.id,
                items.text_hash(record),
                {
                    "stop_share": (float(answer.stopped), 1.0),
                    "loop_share": (float(answer.looped), 1.0),
                    "repetition": (float(answer.repetition), 1.0),
                    "length_ratio": (float(len(answer.text.encode())), float(len(record.teacher_text.encode()))),
                    # Rows are of what every item has: prompts without a right answer leave it out.
                    **(
                        {"right_share": (float(is_correct(answer.text, record.reference)), 1.0)}
                        if record.reference
                        else {}
                    ),
                },
            )
            for record, answer in zip(asked, answers, strict=True)
        ]
        lines = [{"id": record.id} | asdict(answer) for record, answer in zip(asked, answers, strict=True)]
        return Measurement(
            measured_items, details={"max_new_tokens": self.max_new_tokens, "loop": asdict(self.loop)}, answers=lines
        )
