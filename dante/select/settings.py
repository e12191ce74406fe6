"""What the steps of a selection may be told."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dante.run.config.schema import Count, Index, Strict, Target

Beta = Literal["auto"] | Annotated[float, Field(gt=0, lt=1)]


class LikelihoodSettings(Strict):
    """How a student reads a cache's answers.

    Attributes:
        precision: of weights and products.
        batch_records: records of one file: what an interruption costs at most.
        chat: variables of the student's template.
    """

    precision: Literal["auto", "bf16", "fp32"]
    batch_records: Count
    chat: dict[str, Any]


class SelectSettings(Strict):
    """How one of several answers to a prompt is kept.

    Attributes:
        selector: the rule.
        beta: how far apart two probabilities of a sentence are for it to be somebody's; `auto`: from the answers.
        seed: of selectors that draw.
    """

    selector: Target
    beta: Beta
    seed: Index
