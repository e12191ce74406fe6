"""What the two steps of the mixed policy may be told."""

from typing import Annotated, Any

from pydantic import Field

from dante.run.config.schema import Count, Index, NonNegative, Positive, Strict, Target

Begun = Annotated[float, Field(ge=0, lt=1)]


class SamplesSettings(Strict):
    """How a trained student answers its cache's prompts once more.

    Attributes:
        engine: that runs it.
        temperature: of its answers.
        top_p: nucleus mass; 1.0 keeps everything.
        cap: longest answer, in lengths of the teacher's answer to the same prompt.
        prompts: how many are asked, drawn by the seed; None: all.
        batch_requests: requests per planned batch: what an interruption costs at most.
        chat: variables of the student's template.
        seed: of drawing and sampling.
    """

    engine: Target
    temperature: NonNegative
    top_p: Positive
    cap: Positive
    prompts: Count | None
    batch_requests: Count
    chat: dict[str, Any]
    seed: Index


class Delimiters(Strict):
    """What a teacher writes around its thinking, where that is not `<think>` and `</think>`."""

    open: str
    close: str


class MixedSettings(Strict):
    """How the teacher goes on with them, and what they are mixed with.

    Attributes:
        engine: that runs the teacher; one that cannot continue an answer exactly refuses.
        decoding: how it continues.
        cut: an answer is cut behind this share of its tokens, at a place that is drawn.
        off_policy: answers of the teacher's own per mixed one; fewer where there are no more.
        filters: what is left out besides empty answers, by name and in this order; None switches one off.
        normalise_thinking: rewrite native thinking delimiters to `<think>` and `</think>`.
        delimiters: the native ones, put back before the teacher goes on; None: it knows those of the student.
        batch_requests: requests per planned batch.
        chat: variables of the teacher's template.
        seed: of cutting, sampling and drawing.
    """

    engine: Target
    decoding: Target
    cut: Begun
    off_policy: NonNegative
    filters: dict[str, Target | None]
    normalise_thinking: bool
    delimiters: Delimiters | None
    batch_requests: Count
    chat: dict[str, Any]
    seed: Index
