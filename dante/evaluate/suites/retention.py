"""What a model could do before it learnt the teacher's answers: bits per byte of texts that no cache holds."""

import hashlib
from pathlib import Path

from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import Item, Measurement, Metric, Suite
from dante.students.scoring import score
from dante.testsets.retention import retention_texts
from dante.text.raw import plain


class Retention(Suite):
    """Natural languages and source code (`dante.testsets.retention`), as plain text.

    Args:
        wanted: false measures nothing.
        name: of the suite.
    """

    heading = "texts the cache does not hold"
    counts = "texts"

    def __init__(self, wanted: bool, name: str = "") -> None:
        super().__init__(name)
        self.wanted = wanted
        meaning = "what it needs to write the text down"
        self.metrics = {"bits_per_byte": Metric("bits per byte", False, "lower", meaning, "plain text")}

    def measure(self, subject: Subject, out: Path, bars: Bars) -> Measurement | None:
        if not self.wanted:
            return None
        texts = retention_texts()
        rendered = [plain(subject.renderer.tokenizer, text.text) for text in texts]
        scores = score(subject.model, rendered, bars.add("retention texts", len(texts)))
        items = [
            Item(
                text.id,
                hashlib.sha256(text.text.encode()).hexdigest()[:16],
                {"bits_per_byte": (float(bits), float(size))},
                (text.kind, f"{text.kind}={text.name}"),
            )
            for text, size, bits in zip(texts, scores.text_bytes, scores.bits, strict=True)
        ]
        return Measurement(items, slices=list(dict.fromkeys(part for item in items for part in item.slices)))
