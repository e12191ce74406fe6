"""A benchmark's answers: as the harness's own model gives them, kept as they come, and its command line's numbers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlamaConfig
from transformers.cache_utils import DynamicLayer

from dante.errors import DanteError
from dante.evaluate.benchmarks.backends.transformers import TransformersBackend
from dante.evaluate.benchmarks.backends.vllm import VllmBackend
from dante.evaluate.benchmarks.draw import drawn
from dante.evaluate.benchmarks.task import Benchmark, Common
from dante.evaluate.harness.prefixes import PrefixSharingLM, _beginning
from dante.evaluate.harness.quiet import contained
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import NotMeasured
from dante.statistics.ratio import mean
from dante.testsets.benchmarks import FolderSets
from tests.benchmark_sets import own_task, write_sets


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"), items=6)


def subject(model: Path, kept: Path) -> Subject:
    return Subject("student", model, 0, Path("none"), "fp32", None, 0, {}, kept)


def benchmark(
    name: str, sets: Path, *, folder: str, shots: int, metrics: list[str], limit: int | None = None
) -> Benchmark:
    common = Common(FolderSets(str(sets)), TransformersBackend(4), 42, 2)
    return Benchmark(name, folder, shots, metrics, limit, False, common)


CHOICE = ["acc_norm", "acc"]
NUMBER = ["exact_match_strict", "exact_match_flexible"]
TASKS: dict[str, dict[str, Any]] = {
    "hellaswag": {"folder": "hellaswag", "shots": 10, "metrics": CHOICE},
    "arc_challenge": {"folder": "arc", "shots": 25, "metrics": CHOICE},
    "piqa": {"folder": "piqa", "shots": 5, "metrics": CHOICE},
    "mmlu_virology": {"folder": "mmlu/default", "shots": 5, "metrics": ["acc"]},
    "gsm8k_cot": {"folder": "gsm8k", "shots": 8, "metrics": NUMBER},
    "gsm8k": {"folder": "gsm8k", "shots": 8, "metrics": NUMBER},
}


def pairs(length: int) -> list[tuple[tuple[str, str], list[int], list[int]]]:
    """Requests that share a beginning, that share all but the last token, that share nothing, and one too long."""
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> list[int]:
        return torch.randint(5, 100, (count,), generator=generator).tolist()

    shots, question, other = some(60), some(7), some(9)
    return [
        (("", ""), shots + question, some(3)),
        (("", ""), shots + question, some(5)),
        (("", ""), shots + question, [11]),
        (("", ""), shots + question, [12]),
        (("", ""), shots + other, some(4)),
        (("", ""), some(20), some(2)),
        (("", ""), some(1), some(1)),
        (("", ""), some(length), some(6)),
        (("", ""), shots[:40], shots[40:]),
    ]


def test_what_is_shared_is_read_once_and_scores_are_the_harness_s(model: Path, tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    one = subject(model, tmp_path)
    with contained():
        arguments: dict[str, Any] = {"pretrained": one.model, "tokenizer": one.renderer.tokenizer, "batch_size": 4}
        ours, theirs = PrefixSharingLM(**arguments), HFLM(**arguments)
        asked = pairs(theirs.max_length + 10)
        read: list[int] = []
        handle = one.model.base_model.register_forward_pre_hook(
            lambda module, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        found = ours._loglikelihood_tokens(asked)
        handle.remove()
        expected = theirs._loglikelihood_tokens(asked)
    assert [best for _, best in found] == [best for _, best in expected]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-3)
    each = sum(len(before) + len(behind) - 1 for _, before, behind in asked[:5])
    assert sum(read) < each + 2 * theirs.max_length  # five that share 60 tokens, and the others


def test_the_last_token_alone_is_predicted_from_one_row(model: Path, tmp_path: Path) -> None:
    one = subject(model, tmp_path)
    with contained():
        ours = PrefixSharingLM(pretrained=one.model, tokenizer=one.renderer.tokenizer)
        rows: list[int] = []
        handle = one.model.base_model.register_forward_pre_hook(
            lambda module, args, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
        )
        ours._loglikelihood_tokens([(("", ""), [5, 6, 7, 8], [token]) for token in (9, 10, 11, 12)])
        handle.remove()
    assert rows == [1]


def measured(name: str, sets: Path, one: Subject, out: Path, **changes: Any) -> Any:
    out.mkdir(parents=True, exist_ok=True)
    with Bars("student") as bars:
        found = benchmark(name, sets, **(TASKS[name] | changes)).measure(one, out, bars)
    assert found is not None
    return found


def values(found: Any) -> dict[str, float]:
    """Metric → mean over items."""
    return {
        metric: sum(item.values[metric][0] for item in found.items) / len(found.items)
        for metric in found.items[0].values
    }


def command_line(names: list[str], sets: Path, model: Path, chosen: dict[str, list[int]], out: Path) -> dict[str, Any]:
    """What `lm_eval` prints of the same items of the same model: its own definitions, on files."""
    for name in names:
        own_task(out, benchmark(name, sets, **TASKS[name]), name, sets, f"own_{name}")
    arguments = {"pretrained": str(model), "dtype": "float32", "softmax_dtype": "float32"}
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", json.dumps(arguments)]
    command += ["--tasks", ",".join(f"own_{name}" for name in names), "--include_path", str(out), "--device", "cpu"]
    command += ["--batch_size", "3", "--seed", "42", "--output_path", str(out / "results")]
    command += ["--samples", json.dumps({f"own_{name}": chosen[name] for name in names})]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = (out / "results").rglob("results_*.json")
    results: dict[str, Any] = json.loads(found.read_text())["results"]
    return {name: results[f"own_{name}"] for name in names}


def test_numbers_are_those_of_the_command_line(model: Path, sets: Path, tmp_path: Path) -> None:
    one, names = subject(model, tmp_path / "kept"), list(TASKS)
    found = {name: measured(name, sets, one, tmp_path / name, limit=4) for name in names}
    chosen = {name: found[name].details["items"][name] for name in names}
    (tmp_path / "cli").mkdir()
    printed = command_line(names, sets, model, chosen, tmp_path / "cli")
    keys = {"acc": "acc,none", "acc_norm": "acc_norm,none", "exact_match_strict": "exact_match,strict-match",
            "exact_match_flexible": "exact_match,flexible-extract"}  # fmt: skip
    for name in names:
        for metric, value in values(found[name]).items():
            key = keys[metric]
            assert value == printed[name][key], (name, metric)
            stderr = mean(torch.tensor([item.values[metric][0] for item in found[name].items]).double().numpy()).stderr
            assert stderr == pytest.approx(printed[name][key.replace(",", "_stderr,")], abs=1e-12)
        assert found[name].protocol["limit"] == 4
        assert found[name].harness_version.count(".") == 2
    assert any(0 < value < 1 for name in names for value in values(found[name]).values())  # numbers that could differ


def test_answers_are_kept_and_nothing_is_asked_twice(model: Path, sets: Path, tmp_path: Path) -> None:
    first = measured("arc_challenge", sets, subject(model, tmp_path / "kept"), tmp_path / "one")
    (folder,) = (tmp_path / "kept").iterdir()
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(kept) == 3  # six items, two at a time
    last = max(kept, key=lambda path: kept[path])
    last.unlink()  # as if it had been killed in its last batch
    again = subject(model, tmp_path / "kept")
    second = measured("arc_challenge", sets, again, tmp_path / "two")
    assert second == first
    assert {path: path.stat().st_mtime_ns for path in kept if path != last} == {
        path: time for path, time in kept.items() if path != last
    }
    assert last.is_file()
    third = subject(model, tmp_path / "kept")
    assert measured("arc_challenge", sets, third, tmp_path / "three") == first
    assert "model" not in vars(third)  # never loaded
    other = measured("arc_challenge", sets, subject(model, tmp_path / "kept"), tmp_path / "four", shots=3)
    assert len(list(folder.iterdir())) == 6  # other prompts have answers of their own
    assert other.n_shot == 3


def test_items_are_drawn_alike_and_from_all_tasks() -> None:
    sizes = {"a": 100, "b": 300, "c": 1}
    chosen = drawn(sizes, 40, 42)
    assert chosen == drawn(sizes, 40, 42)
    assert chosen != drawn(sizes, 40, 43)
    assert sum(len(places) for places in chosen.values()) == 40
    assert all(places == sorted(set(places)) for places in chosen.values())
    assert drawn(sizes, None, 0) == {"a": list(range(100)), "b": list(range(300)), "c": [0]}
    assert drawn(sizes, 1000, 0) == drawn(sizes, None, 0)
    counts = [len(drawn(sizes, 40, seed).get("b", [])) for seed in range(50)]
    assert 27 < sum(counts) / len(counts) < 33  # three quarters of them


def test_a_group_is_a_mean_over_its_items_with_its_parts(model: Path, sets: Path, tmp_path: Path) -> None:
    found = measured_group(model, sets, tmp_path)
    assert len(found.items) == 20
    assert set(found.slices) <= {
        "part=mmlu_stem",
        "part=mmlu_other",
        "part=mmlu_social_sciences",
        "part=mmlu_humanities",
    }
    assert {part for item in found.items for part in item.slices} == set(found.slices)
    assert found.protocol["split"] == "test"
    lines = (tmp_path / "out" / "samples.jsonl").read_text().splitlines()
    assert len(lines) == 20
    assert {"doc_id", "prompt_hash", "resps", "values"} <= set(json.loads(lines[0]))


def measured_group(model: Path, sets: Path, tmp_path: Path) -> Any:
    (tmp_path / "out").mkdir()
    suite = benchmark("mmlu", sets, folder="mmlu/default", shots=5, metrics=["acc"], limit=20)
    with Bars("student") as bars:
        return suite.measure(subject(model, tmp_path / "kept"), tmp_path / "out", bars)


def test_a_base_model_needs_no_chat_template(model: Path, sets: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(model, base)
    (base / "chat_template.jinja").unlink()
    assert measured("piqa", sets, subject(base, tmp_path / "kept"), tmp_path / "out").items
    suite = benchmark("piqa", sets, **TASKS["piqa"])
    suite.chat = True
    with Bars("student") as bars, pytest.raises(NotMeasured, match="has no chat template"):
        suite.measure(subject(base, tmp_path / "kept"), tmp_path, bars)


def test_a_metric_that_a_task_has_not_is_an_error(model: Path, sets: Path, tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="no metric 'acc_norm'") as caught:
        measured("mmlu_virology", sets, subject(model, tmp_path), tmp_path / "out", metrics=["acc", "acc_norm"])
    assert "acc (none)" in str(caught.value.allowed)


def test_prompts_that_a_model_has_no_room_for_are_counted(model: Path, sets: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(model, short)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 60}))
    found = measured("piqa", sets, subject(short, tmp_path / "kept"), tmp_path / "out", limit=3)
    assert any("3 prompts were longer than student reads" in note for note in found.notes)
    whole = measured("piqa", sets, subject(model, tmp_path / "kept"), tmp_path / "whole", limit=3)
    assert not any("longer" in note for note in whole.notes)


def test_a_model_is_opened_once_for_all_benchmarks(model: Path, sets: Path, tmp_path: Path) -> None:
    one = subject(model, tmp_path / "kept")
    measured("piqa", sets, one, tmp_path / "a", limit=2)
    measured("arc_challenge", sets, one, tmp_path / "b", limit=2)
    assert len(one.opened) == 1


def test_models_of_the_hub_have_answers_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no files to be told apart by: name and commit do it."""

    def config(source: Any) -> LlamaConfig:
        found = LlamaConfig()
        found._commit_hash = f"commit of {source.name}"
        return found

    monkeypatch.setattr("dante.evaluate.subject.read_config", config)
    ours, theirs = (subject(Path(name), tmp_path).identity for name in ("somebody/one", "somebody/other"))
    assert ours == {"id": "somebody/one", "commit": "commit of somebody/one"}
    assert theirs != ours


def test_a_beginning_is_only_shared_where_keys_and_values_are_all_that_is_kept() -> None:
    """A recurrent state cannot be copied row by row like those."""

    class Recurrent(DynamicLayer):
        pass

    class Model:
        device = torch.device("cpu")

        def base_model(self, **kwargs: Any) -> Any:
            cache = DynamicCache()
            cache.layers = [Recurrent()]
            return type("Output", (), {"past_key_values": cache})

    assert _beginning(Model(), [1, 2, 3], 2) is None


def test_a_context_longer_than_the_model_s_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="max_context=2048 is longer.*max_context=1024"):
        VllmBackend(1, 2048, True, {}).open(subject(model, tmp_path))
