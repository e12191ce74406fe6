"""The schema of a composed config: every key that it may hold. Defaults live in `conf/`, so no field here has one."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dante.run.parts import is_target
from dante.run.stages import stage_error


def _is_target(value: Any) -> Any:
    if not is_target(value):
        raise ValueError("a node with a `_target_` is needed here, and this one has none")
    return value


def _is_stage(name: str) -> str:
    error = stage_error(name)
    if error:
        raise ValueError(error)
    return name


def _is_gguf(name: str) -> str:
    if not name.endswith(".gguf"):
        raise ValueError("a GGUF file ends in .gguf; a folder is named with teacher=local or student=local")
    return name


GgufFile = Annotated[str, AfterValidator(_is_gguf)]
Target = Annotated[dict[str, Any], AfterValidator(_is_target)]
StageName = Annotated[str, AfterValidator(_is_stage)]


Count = Annotated[int, Field(strict=True, gt=0)]


Index = Annotated[int, Field(strict=True, ge=0)]


Share = Annotated[float, Field(ge=0, le=1)]


Positive = Annotated[float, Field(gt=0)]


NonNegative = Annotated[float, Field(ge=0)]


Confidence = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
Losses = Annotated[dict[str, Target], Field(min_length=1)]
# What a loss needs of the teacher besides its text → the part that provides it.
Supervision = dict[Literal["blocks", "span_logits", "sparse", "teacher_logits"], Target]
Suites = Annotated[dict[str, Target | None], Field(min_length=1)]  # null: not measured


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Experiment(Strict):
    name: Text
    title: Text
    hypothesis: Text
    source: Text


class Run(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=,-]*$")]
    dir: Text


class Where(Strict):
    scale: Text


class Anchor(Strict):
    reduction: Literal["frobenius_sum", "row_mean", "relative"]
    calibrate: bool


class Fidelity(Strict):
    name: Literal["sound", "card"]
    master_weights: bool
    clip: Literal["per_loss", "global"]
    decay: Literal["matrices", "all"]
    anchor: Anchor


class ComputeBudget(Strict):
    unit: Literal["tokens", "flops", "epochs"]
    amount: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @property
    def counts_compute(self) -> bool:
        """Whether the teacher's part is paid out of it: epochs only say how often records are drawn."""
        return self.unit != "epochs"


class TeacherParameters(Strict):
    teacher: Positive | None
    cache: Positive | None


class Budget(Strict):
    name: Literal["default", "study", "tokens", "flops", "epochs"]
    steps: Count | None
    compute: ComputeBudget | None


class BudgetSteps(Strict):
    steps: Count


class Batch(Strict):
    unit: Literal["records", "packs", "tokens"]
    size: Count


class Spike(Strict):
    window: Annotated[int, Field(strict=True, ge=2)]
    deviations: Positive


class Batches(Strict):
    """What decides the batches of a fit."""

    steps: Count | None
    compute: ComputeBudget | None
    max_tokens: Count
    accumulate: Count | None
    batch: Batch
    overlong: Literal["error", "drop"]
    curriculum: Target
    rendering: Literal["chat", "raw"]
    mask_prefix: bool


class Fit(Batches):
    teacher_parameters: TeacherParameters
    lr: Positive
    min_lr_ratio: Share
    warmup: Share
    betas: tuple[Share, Share]
    eps: Positive
    weight_decay: NonNegative
    clip: Positive
    precision: Literal["auto", "bf16", "fp32"]
    attention: Literal["auto", "documents", "sdpa", "flex", "flash_attention_2"]
    attention_dropout: Share | None
    gradient_checkpointing: Literal["none", "selective", "full"]
    compile: bool
    tile_tokens: Count | None
    checkpoint_every_steps: Count
    keep_checkpoints: Index | Literal["all"]
    log_every_steps: Count
    nonfinite_patience: Count
    spike: Spike


class Trainer(Strict):
    name: Text
    accelerator: Literal["cpu", "gpu", "auto"]
    devices: Count
    num_nodes: Count
    strategy: Literal["auto", "ddp", "fsdp2"]
    shard_size: Count | None
    gradient_sync: Literal["last", "every"]
    checkpoints: Literal["full", "sharded"]
    background_checkpoints: bool
    timeout_s: Positive
    precision: Literal["auto", "bf16", "fp32"]
    threads: Count | None
    workers: Index
    device_name: Text
    peak_tflops: Positive | None
    teacher_weights: Literal["sharded", "whole"]
    teacher_device: str | None
    expected_mfu: Annotated[float, Field(gt=0, le=1)]
    memory_gib: Positive


class Teacher(Strict):
    name: Text
    gguf: GgufFile | None = None  # of teacher=gguf: what `make` refers to
    make: Target
    parameters: Positive | None
    resident: Positive | None
    python: str | None


class Expected(Strict):
    records: Count | None
    tokens_per_record: Count | None
    supervised_per_record: Count | None
    answers_per_prompt: Count | None = None


class Cache(Strict):
    source: Target
    store: str | None
    teacher_parameters: Positive | None
    seed: Index
    expected: Expected


class CacheBefore(Strict):
    source: Target
    seed: Index
    expected: Expected


class Texts(Strict):
    """Raw texts that a fit reads in place of answers; further keys are parts that `source` refers to."""

    model_config = ConfigDict(extra="allow")

    source: Target
    seed: Index
    expected: Expected


class Kept(Strict):
    """What is kept of the teacher's distributions, where a recipe has a step that does."""

    kind: Literal["topk_tail", "random_sampling"]
    size: Annotated[int, Field(strict=True, gt=0, le=255)]
    seed: Index
    engine: Target


class Calibration(Strict):
    """What a teacher's experts are asked about, where a recipe has a step that does."""

    tokens: Count
    inputs: Count
    max_tokens: Count
    seed: Index
    precision: Literal["bf16", "fp32", "auto"]


class Matching(Strict):
    """What a fit of blocks has of its own, where a recipe has one."""

    lr: Positive


class Student(Strict):
    name: Text
    gguf: GgufFile | None = None  # of student=gguf: what `source` refers to
    source: Text
    revision: str | None
    init: Target
    dtype: Literal["float32", "bfloat16"]
    licence: Text
    chat: dict[str, Any]
    system_prompt: str | None
    architecture: dict[str, Any] | None


class Asked(Strict):
    prompts: Count


class Eval(Strict):
    """What is measured: `suites`, and the keys of theirs that are typed often and that `conf/suite` refers to."""

    suites: Suites
    seed: Index
    precision: Literal["auto", "bf16", "fp32"]
    heldout: Count | None
    validation: bool
    retention: bool
    generations: Index
    init_generations: Index
    teacher_generation: Asked | None
    max_new_tokens: Count
    loop: Target
    choices: Index
    choice_characters: Count
    bins: Count
    bootstrap: Count
    confidence: Confidence
    limit: Index | None
    allow_code_execution: bool
    program_limits: Target
    benchmarks: Target


class Data(Strict):
    """Where the items of benchmarks lie."""

    benchmarks: Literal["package", "hub", "folder"]
    folder: Text | None


class Report(Strict):
    generations: Index
    scale: Text
    seed: Index
    published: dict[str, Any] | None  # the root's node by interpolation, checked there


class Logger(Strict):
    mode: Literal["none", "offline", "online"]
    project: Text


class Settled(Strict):
    start: Share
    end: Share


class StepConfig(Strict):
    """One step of a recipe.

    Attributes:
        changes: merged over `settings`: what this step has of its own, where steps share a node.
        share: of a fit: its part of the run's budget; needed where a recipe has several fits.
    """

    stage: StageName
    inputs: dict[str, str] = {}
    settings: dict[str, Any]
    changes: dict[str, Any] = {}
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    resources: dict[str, Any] = {}


Beta = Literal["auto"] | Annotated[float, Field(gt=0, lt=1)]


class Selection(Strict):
    selector: Target
    beta: Beta
    batch_records: Count
    precision: Literal["auto", "bf16", "fp32"]
    alpha: Beta | None
    temperatures: Annotated[list[NonNegative], Field(min_length=2, max_length=2)]
    after_prompts: Count | None
    compared: dict[str, Target]


class Mixed(Strict):
    engine: Target
    student_engine: Target
    prompts: Count | None
    temperature: NonNegative
    top_p: Positive
    cap: Positive
    cut: Annotated[float, Field(ge=0, lt=1)]
    off_policy: NonNegative
    mask_prefix: bool
    decoding: Target
    filters: dict[str, Target | None]
    normalise_thinking: bool
    delimiters: dict[Literal["open", "close"], str] | None
    batch_requests: Count
    expected: Count | None


class Published(Strict):
    source: Text
    gpu_hours: Positive
    gpu: Text
    cache_gpu_hours: NonNegative
    teacher_vocabulary: Count


class Config(Strict):
    """Every key that a composed config may hold."""

    experiment: Experiment
    control: bool
    seed: Index
    run: Run
    only: str | list[str] | None
    on_existing: Literal["resume", "overwrite", "error"]
    dry_run: bool
    where: Where
    fidelity: Fidelity
    budget: Budget
    budgets: dict[str, BudgetSteps]
    fit: Fit
    losses: Losses
    supervision: Supervision
    teacher: Teacher
    dense: Teacher | None  # what the teacher is made of, where a recipe makes one
    student: Student
    cache: Cache
    selection: Selection | None
    mixed: Mixed | None
    cache_before: CacheBefore | None
    texts: Texts | None
    kept: Kept | None
    calibration: Calibration | None
    matching: Matching | None
    trainer: Trainer
    data: Data
    eval: Eval
    report: Report
    logger: Logger
    prompts: Target | None
    engine: Target | None
    chat: dict[str, Any]
    settled: Settled
    decided: dict[str, str]
    steps: dict[str, StepConfig]
    published: Published | None
    contradictions: list[str]
