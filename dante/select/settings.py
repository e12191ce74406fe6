"""What the steps of a selection may be told."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dante.run.config.schema import Beta, Count, Index, NonNegative, Strict, Target


class LikelihoodSettings(Strict):
    """How a student reads a cache's answers.

    Attributes:
        temperature: at which answers were sampled that are read; None: all.
        prompts: answers to how many prompts are read, drawn by the seed; None: all.
        precision: of weights and products.
        batch_records: records of one file: what an interruption costs at most.
        chat: variables of the student's template.
    """

    temperature: NonNegative | None
    prompts: Count | None = None
    precision: Literal["auto", "bf16", "fp32"]
    batch_records: Count
    chat: dict[str, Any]
    seed: Index = 0


class SentencesSettings(Strict):
    """What is looked at in a cache's candidates, sentence by sentence.

    Attributes:
        temperatures: at which answers were sampled, one after the other.
        prompts: answers to how many prompts are looked at after training: those that were read then.
        beta: see `SelectSettings`.
        alpha: how near three probabilities are for a sentence to be shared; None: as far as β [I].
        compared: selectors whose choices are put side by side, by name.
        compared_seed: of those that draw: the run's, so that they draw what its selections draw.
        examples: answers that are kept sentence by sentence.
        bootstrap: resamples of prompts.
        seed: of draws.
    """

    temperatures: Annotated[list[NonNegative], Field(min_length=1)]
    prompts: Count | None
    beta: Beta
    alpha: Beta | None
    compared: dict[str, Target]
    compared_seed: Index
    examples: Index
    bootstrap: Count
    seed: Index


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
