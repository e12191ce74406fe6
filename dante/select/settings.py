"""What the steps of a selection may be told."""

from typing import Any, Literal

from dante.run.config.schema import Beta, Count, Index, NonNegative, Strict, Target


class LikelihoodSettings(Strict):
    """How a student reads a cache's answers.

    Attributes:
        temperature: at which answers were sampled that are read; None: all.
        precision: of weights and products.
        batch_records: records of one file: what an interruption costs at most.
        chat: variables of the student's template.
    """

    temperature: NonNegative | None
    precision: Literal["auto", "bf16", "fp32"]
    batch_records: Count
    chat: dict[str, Any]


class SelectSettings(Strict):
    """How one of several answers to a prompt is kept.

    Attributes:
        temperature: at which answers were sampled that are chosen from; None: all.
        selector: the rule.
        beta: how far apart two probabilities of a sentence are for it to be somebody's; `auto`: from the answers.
        seed: of selectors that draw.
    """

    temperature: NonNegative | None
    selector: Target
    beta: Beta
    seed: Index
