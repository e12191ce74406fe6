"""Every benchmark asks what the harness asks: first prompts as committed ones, and as the harness renders them itself.

`DANTE_GOLDEN=write pytest tests/test_benchmark_prompts.py` writes the committed ones anew.
"""

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from dante.evaluate.benchmarks.code.suite import Programs
from dante.evaluate.benchmarks.task import Benchmark, Said
from dante.evaluate.harness.definitions import Definitions, hub_set
from dante.evaluate.harness.quiet import contained
from dante.run.parts import build
from tests.benchmark_sets import own_task, write_sets
from tests.test_config import composed

GOLDEN = Path(__file__).parent / "fixtures" / "benchmark_prompts.json"
CARDS = ("dante_card", "kai_card", "laguna_card", "dasd_paper")


def suite_nodes() -> dict[str, dict[str, Any]]:
    """Every benchmark of the cards by name."""
    nodes: dict[str, dict[str, Any]] = {}
    for card in CARDS:
        nodes |= composed("+experiment=sft", "scale=smoke", f"suite=[{card}]")["eval"]["suites"]
    return nodes


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def suites(sets: Path) -> dict[str, Benchmark]:
    place = {"_target_": "dante.testsets.benchmarks.sets", "benchmarks": "folder", "folder": str(sets)}
    return {
        name: build(node | {"common": node["common"] | {"sets": place}}, name=name)
        for name, node in suite_nodes().items()
    }


def made(suite: Benchmark, leaf: str) -> Any:
    """A task object of the harness's, as the suite asks it."""
    known = suite.definition(leaf)
    random.seed(42)  # as the suite does: some definitions shuffle options
    return suite.task_of(known, suite.found(known, {}), Said())


def first_requests(task: Any) -> list[Any]:
    """What a model is asked of a task's first item."""
    with contained():
        task.set_fewshot_seed(seed=42)
        task.build_all_requests(limit=1)
    return [list(request.args) for request in task.instances]


def shown(task: Any) -> list[Any]:
    """The same, as it is committed: where the harness brings worked examples of a set, by hash and end alone."""
    requests = first_requests(task)
    if not task.fewshot_cfg.samples:
        return requests
    return [
        [{"sha256": hashlib.sha256(prompt.encode()).hexdigest(), "ends": prompt[-120:]}, *rest]
        for prompt, *rest in requests
    ]


def test_first_prompts_are_the_committed_ones(suites: dict[str, Benchmark]) -> None:
    found = {}
    for name, suite in suites.items():
        with contained():
            leaf = suite.definitions.leaves(suite.task)[0]
            task = made(suite, leaf)
        found[name] = {"task": leaf, "requests": shown(task)}
    if os.environ.get("DANTE_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def own_rendering(suite: Benchmark, sets: Path, tmp_path: Path) -> list[Any]:
    """The harness's own: a YAML that includes its definition and names files of items."""
    from lm_eval.tasks import TaskManager

    leaf = suite.definitions.leaves(suite.task)[0]
    written = own_task(tmp_path, suite, leaf, sets, leaf)
    with contained():
        loaded = TaskManager(include_defaults=False).load([str(written)])
    return shown(loaded["tasks"][leaf])


@pytest.mark.parametrize(
    "name",
    ["hellaswag_10shot", "hellaswag_5shot", "arc_challenge_25shot", "arc_challenge_5shot", "piqa_5shot", "mmlu_5shot",
     "mmlu_pro_5shot", "gsm8k_cot_8shot", "gsm8k_8shot", "gsm8k_0shot", "aime24", "aime25"],
)  # fmt: skip
def test_prompts_are_what_the_harness_renders(
    name: str, suites: dict[str, Benchmark], sets: Path, tmp_path: Path
) -> None:
    committed = json.loads(GOLDEN.read_text(encoding="utf-8"))
    own, ours = own_rendering(suites[name], sets, tmp_path), committed[name]["requests"]
    if suites[name].sampling:  # how answers are drawn is ours: the harness is greedy there
        own, ours = ([request[0] for request in requests] for requests in (own, ours))
    assert own == ours


def test_the_card_s_mmlu_pro_is_what_its_harness_rendered(suites: dict[str, Benchmark]) -> None:
    """`mmlu_pro_0_4_5.txt` is what lm-eval 0.4.5's own `utils.py` and `samplers.py` make of the same items."""
    with contained():
        task = made(suites["mmlu_pro_5shot_v1"], "mmlu_pro_biology")
    ((prompt, _),) = first_requests(task)
    assert prompt == GOLDEN.with_name("mmlu_pro_0_4_5.txt").read_text(encoding="utf-8")


def test_every_benchmark_of_the_cards_is_compared(suites: dict[str, Benchmark]) -> None:
    compared = set(json.loads(GOLDEN.read_text(encoding="utf-8")))
    assert compared == set(suites)


@pytest.mark.parametrize("name", ["humaneval", "humaneval_plus", "mbpp_3shot"])
def test_programs_are_asked_for_as_the_harness_does(name: str, suites: dict[str, Benchmark], sets: Path) -> None:
    """Its modules fetch a metric when they are imported: its templates are filled here by jinja alone."""
    from jinja2 import Environment, StrictUndefined

    suite = suites[name]
    assert isinstance(suite, Programs)
    known = suite.definitions.read(suite.task, functions=False)
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    doc = json.loads((sets / hub_set(known) / "test.jsonl").read_text().splitlines()[0])
    with contained():
        task = made(suite, suite.task)
    ((prompt, how),) = first_requests(task)
    shots = task.fewshot_cfg.samples if suite.shots else []
    rendered = [
        environment.from_string(known["doc_to_text"]).render(**one)
        + (environment.from_string(known["doc_to_target"]).render(**one) + "\n\n" if place < len(shots) else "")
        for place, one in enumerate([*shots[: suite.shots], doc])
    ]
    assert prompt == "".join(rendered)
    assert how == {**known["generation_kwargs"]}
    assert len(shots[: suite.shots]) == suite.shots


def test_a_changed_definition_is_noticed(suites: dict[str, Benchmark]) -> None:
    """The committed prompts are no copy of what is rendered: another number of examples is another prompt."""
    suite = suites["hellaswag_10shot"]
    with contained():
        task = made(suite, "hellaswag")
    task.set_config(key="num_fewshot", value=9)
    assert first_requests(task) != json.loads(GOLDEN.read_text(encoding="utf-8"))["hellaswag_10shot"]["requests"]


def test_definitions_lie_in_one_folder_of_the_harness() -> None:
    assert Definitions("mmlu/default").leaves("mmlu_stem") == sorted(Definitions("mmlu/default").leaves("mmlu_stem"))
    assert len(Definitions("mmlu/default").leaves("mmlu")) == 57
