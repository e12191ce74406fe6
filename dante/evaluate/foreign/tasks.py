"""The table of canonical task names: a harness's task, its shots, its version and its prompt → one name.

Two results are of one task only where prompt, shots and questions are the same, so what tells two protocols apart is in
the name. A task that the table does not have keeps the harness's own name, with its shots behind it.
"""

from dataclasses import dataclass

from dante.evaluate.foreign.result import Result

_ANY = (float("-inf"), float("inf"))


@dataclass(frozen=True)
class Canonical:
    """A row of the table; the first one that fits is taken.

    Attributes:
        tasks: the harnesses' names.
        name: ours; `{k}` stands for the shots.
        heading: of tables and cards.
        main: its main metric; empty: the one that the harness names first.
        versions: of the task, the first one included and the last one not; None: also where it is unknown.
        shots: whether the harness has to know a number of shots; None: either.
        chat: whether a chat template has to have written the prompt; None: either.
    """

    tasks: tuple[str, ...]
    name: str
    heading: str
    main: str = ""
    versions: tuple[float, float] | None = None
    shots: bool | None = None
    chat: bool | None = None


# MMLU-Pro's version 1 cut answers at 256 tokens and gave shots as text: no score of it stands beside one of version 2.
# MBPP of lm-eval has three worked examples; bigcode and evalplus have none, and evalplus has other questions.
TABLE = (
    Canonical(("hellaswag",), "hellaswag_{k}shot", "HellaSwag", "acc_norm"),
    Canonical(("arc_challenge",), "arc_challenge_{k}shot", "ARC-Challenge", "acc_norm"),
    Canonical(("piqa",), "piqa_{k}shot", "PIQA", "acc_norm"),
    Canonical(("mmlu",), "mmlu_{k}shot", "MMLU", "acc"),
    Canonical(("mmlu_pro",), "mmlu_pro_{k}shot", "MMLU-Pro", "exact_match", versions=(2.0, _ANY[1])),
    Canonical(("mmlu_pro",), "mmlu_pro_{k}shot_v1", "MMLU-Pro, version 1", "exact_match", versions=(_ANY[0], 2.0)),
    Canonical(("mmlu_pro",), "mmlu_pro_{k}shot_unknown_version", "MMLU-Pro, of an unknown version", "exact_match"),
    Canonical(("gsm8k_cot",), "gsm8k_cot_{k}shot", "GSM8K, chain of thought", "exact_match_strict"),
    Canonical(("gsm8k",), "gsm8k_{k}shot", "GSM8K", "exact_match_strict"),
    Canonical(("humaneval",), "humaneval_chat", "HumanEval, as a chat", "pass_at_1", chat=True),
    Canonical(("humaneval_instruct",), "humaneval_instruct", "HumanEval, begun for a chat model", "pass_at_1"),
    Canonical(("instruct-humaneval",), "humaneval_chat", "HumanEval, as a chat", "pass_at_1"),
    Canonical(("humaneval",), "humaneval", "HumanEval", "pass_at_1"),
    Canonical(("humaneval_plus", "humanevalplus"), "humaneval_plus", "HumanEval+", "pass_at_1"),
    Canonical(("mbpp",), "mbpp_{k}shot", "MBPP", "pass_at_1", shots=True),
    Canonical(("mbpp",), "mbpp", "MBPP", "pass_at_1"),
    Canonical(("mbpp_plus",), "mbpp_plus_{k}shot", "MBPP+", "pass_at_1", shots=True),
    Canonical(("mbpp_plus", "mbppplus"), "mbpp_plus", "MBPP+", "pass_at_1"),
    Canonical(("livecodebench",), "livecodebench", "LiveCodeBench", "pass_at_1"),
)


@dataclass(frozen=True)
class Name:
    """What a result's task is called here.

    Attributes:
        task: canonical name.
        heading: of tables and cards.
        main: key of its main metric; empty: the first one.
    """

    task: str
    heading: str
    main: str = ""


def name_of(result: Result) -> Name:
    """The canonical name of a result's task."""
    row = next((row for row in TABLE if _fits(row, result)), None)
    shots = "" if result.n_shot is None else f", {result.n_shot}-shot"
    if row is None:
        suffix = "" if result.n_shot is None else f"_{result.n_shot}shot"
        return Name(_as_folder(result.task) + suffix, result.task + shots)
    counted = row.name if result.n_shot is not None else row.name.replace("_{k}shot", "")
    return Name(counted.format(k=result.n_shot), row.heading + ("{k}" in row.name) * shots, row.main)


def _fits(row: Canonical, result: Result) -> bool:
    return (
        result.task in row.tasks
        and row.shots in (None, result.n_shot is not None)
        and row.chat in (None, result.chat)
        and (row.versions is None or _within(row.versions, result.task_version))
    )


def _within(versions: tuple[float, float], version: str) -> bool:
    try:
        return versions[0] <= float(version) < versions[1]
    except ValueError:  # "", "N/A" or a word
        return False


def _as_folder(task: str) -> str:
    """A name that a folder can have: items are written to it."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in task).lstrip(".")
