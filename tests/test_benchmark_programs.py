"""Programs out of answers, their judgement, and what a benchmark of programs makes of both."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from dante.errors import DanteError
from dante.evaluate.benchmarks.backends.transformers import TransformersBackend
from dante.evaluate.benchmarks.code.judged import verdicts
from dante.evaluate.benchmarks.code.problems import MBPP, HumanEval
from dante.evaluate.benchmarks.code.programs import Completion, Fenced, FreeAnswer, parsable
from dante.evaluate.benchmarks.code.suite import Programs
from dante.evaluate.benchmarks.task import Common, Sampling
from dante.evaluate.benchmarks.verifiers import MathVerify
from dante.evaluate.harness.kept import Kept
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import NotMeasured
from dante.sandbox.limits import Limits
from dante.statistics.pass_at_k import pass_at_k
from dante.testsets.benchmarks import FolderSets, PackageSets
from tests.benchmark_sets import humaneval, write_sets
from tests.test_sandbox import jailed

BEGINNING = "import math\nfrom typing import List\n\n\ndef helper(x):\n    return x\n\n\ndef area(r: float) -> float:\n    \"\"\"Of a circle.\"\"\"\n"  # fmt: skip  # noqa: E501
BODY = "    return math.pi * r ** 2\n"
FUNCTION = f"def area(r):\n{BODY}"
ANSWERS = {
    "a fence": f"Sure!\n\n```python\n{FUNCTION}```\nHope it helps.",
    "a fence without a language": f"```\n{FUNCTION}```",
    "a fence that never ends": f"Here:\n```python\n{FUNCTION}",
    "the second fence": f"```bash\npip install x\n```\nthen\n```python\n{FUNCTION}```",
    "tildes": f"~~~py\n{FUNCTION}~~~",
    "a fence in a list": f"1. So:\n   ```python\n{FUNCTION}   ```",
    "no fence": f"The function:\n{FUNCTION}\nThat is all.",
    "cut off": f"```python\n{FUNCTION}\n\nprint(area(",
    "tests behind it": f"```python\n{FUNCTION}\nassert area(0) == 0\n```",
    "a body alone": f"```python\n{BODY}```",
    "a body without indentation": "```python\nreturn math.pi * r ** 2\n```",
    "another name first": f"```python\ndef other():\n    pass\n```\n\n```python\n{FUNCTION}```",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_program_is_found_in_a_free_answer(answer: str) -> None:
    names: dict[str, Any] = {}
    exec(FreeAnswer().read(answer, BEGINNING, "area"), names)
    assert names["area"](1.0) == pytest.approx(3.14159, abs=1e-4)


def test_what_the_question_gives_stands_in_front() -> None:
    program = FreeAnswer().read(f"```python\n{FUNCTION}```", BEGINNING, "area")
    assert program == BEGINNING.partition("def area")[0] + FUNCTION
    assert FreeAnswer().read("```python\nx = 1\n```", "", None) == "x = 1\n"
    assert FreeAnswer().read("I cannot.", BEGINNING, "area").startswith(BEGINNING)


def test_a_completion_goes_on_and_a_fence_ends() -> None:
    assert Completion().read(BODY, BEGINNING, "area") == BEGINNING + BODY
    assert Fenced().read(f"{BODY}```\nThis returns …", BEGINNING, "area") == BEGINNING + BODY
    assert Fenced().read(BODY, BEGINNING, "area") == BEGINNING + BODY


def test_the_longest_beginning_that_is_a_program() -> None:
    assert parsable("a = 1\nb = (\n") == "a = 1\n"
    assert parsable("def f(") == "def f("


def test_problems_name_what_they_ask_for() -> None:
    problem = MBPP()
    doc = {"code": "def is_odd(x):\r\n  return x % 2 == 1", "test_list": ["assert is_odd(3) == True"]}
    assert problem.entry(doc) == "is_odd"
    wrapped = {"code": "def roots(x):\n  return x", "test_list": ["assert set(roots([1])) == {1}"]}
    assert problem.entry(wrapped) == "roots"
    assert HumanEval().entry(humaneval(3)[2]) == "plus_2"


def test_pass_at_k_is_the_share_of_draws_with_a_right_one() -> None:
    for n, c, k in ((4, 1, 2), (6, 2, 3), (5, 0, 2), (5, 5, 1), (7, 3, 7)):
        draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))
    for n, c, k in ((2, 1, 3), (2, 3, 1), (2, 1, 0)):
        with pytest.raises(ValueError, match="pass@"):
            pass_at_k(n, c, k)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


def programs(sets: Path, *, allowed: bool = True, **changes: Any) -> Programs:
    common = Common(FolderSets(str(sets)), TransformersBackend(4), 42, 2)
    settings: dict[str, Any] = {
        "task": "humaneval",
        "folder": "humaneval",
        "shots": 0,
        "k": [1],
        "limit": 2,
        "chat": False,
    }
    settings |= {"problem": HumanEval(), "program": Completion(), "limits": Limits(), "common": common}
    settings["changes"] = {"generation_kwargs": {"until": ["\ndef"], "max_gen_toks": 8, "do_sample": False}}
    return Programs(**(settings | changes), allowed=allowed)


def measured(suite: Programs, model: Path, folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    with Bars("student") as bars:
        return suite.measure(
            Subject("student", model, 0, Path("none"), "fp32", None, 0, {}, folder / "kept"), folder, bars
        )


def test_programs_are_run_only_where_that_is_allowed(sets: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match="eval.allow_code_execution=true"):
        measured(programs(sets, allowed=False), model, tmp_path)


def test_k_needs_as_many_draws(sets: Path) -> None:
    with pytest.raises(DanteError, match=r"k = \[1, 10\]"):
        programs(sets, k=[1, 10])


@jailed
def test_a_model_s_programs_are_judged_and_kept(sets: Path, model: Path, tmp_path: Path) -> None:
    drawn = Sampling(draws=2, temperature=1.0, top_p=1.0, max_new_tokens=6)
    found = measured(programs(sets, k=[1, 2], sampling=drawn), model, tmp_path)
    assert [sorted(item.values) for item in found.items] == [["pass_at_1", "pass_at_2"]] * 2
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [(line["draw"], line["outcome"]) for line in lines] == [(d, "failed") for d in (0, 0, 1, 1)]
    assert all(line["program"].startswith("import math") and line["why"] for line in lines)
    for place in {line["doc_id"] for line in lines}:  # the draws of one question differ
        assert len({line["resps"][0][0] for line in lines if line["doc_id"] == place}) == 2
    assert found.protocol["limit"] == 2
    assert measured(programs(sets, k=[1, 2], sampling=drawn), model, tmp_path) == found
    measured(programs(sets, k=[1, 2], sampling=drawn), model, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "samples.jsonl").read_bytes() == (tmp_path / "samples.jsonl").read_bytes()


@jailed
def test_right_programs_pass_and_others_do_not(tmp_path: Path) -> None:
    docs = humaneval(3)
    problem = HumanEval()
    right = [(doc["prompt"] + doc["canonical_solution"], problem.judged_by(doc)) for doc in docs]
    wrong = [(doc["prompt"] + "    return None\n", problem.judged_by(doc)) for doc in docs]
    found = verdicts([*right, *wrong], Limits(), Kept(tmp_path))
    assert [verdict.passed for verdict in found] == [True] * 3 + [False] * 3


@pytest.mark.slow
@jailed
def test_all_solutions_of_the_real_sets_pass(tmp_path: Path) -> None:
    sets = PackageSets()
    asked = (("openai/openai_humaneval", HumanEval(), 164), ("google-research-datasets/mbpp/full", MBPP(), 500))
    for name, problem, count in asked:
        splits = sets.find(name).splits
        assert splits is not None
        docs = splits["test"]
        solutions = [
            (problem.beginning(doc) + (doc.get("canonical_solution") or doc.get("code") or ""), problem.judged_by(doc))
            for doc in docs
        ]
        found = verdicts(solutions, Limits(), Kept(tmp_path))
        assert (len(docs), sum(verdict.passed for verdict in found)) == (count, count)


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [
        ("So the answer is 72.", "He has <<8*9=72>>72.\n#### 72", True),
        ("That makes \\boxed{\\frac{1}{2}}.", "0.5", True),
        ("It is $1,200$.", "1200", True),
        ("It is 71.", "#### 72", False),
        ("I do not know.", "3", False),
    ],
)
def test_values_are_compared_and_not_their_spelling(answer: str, target: str, right: bool) -> None:
    judge = MathVerify()
    if not judge.present:
        pytest.skip("math-verify is not installed")
    assert judge.right(answer, target) is right
