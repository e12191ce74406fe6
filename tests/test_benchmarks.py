"""Benchmarks run end to end at tiny size, and count what they say they count."""

import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import loss_pass  # noqa: E402
import loss_pass_child  # noqa: E402
import measuring  # noqa: E402
import training  # noqa: E402
from gemm import Product, seconds_of, step_products  # noqa: E402
from turns import Player  # noqa: E402

from dante.cache import read_records  # noqa: E402
from dante.cache.shipped import POCKET  # noqa: E402
from dante.cost.compute import model_flops  # noqa: E402
from dante.teachers.smoke import SmokeTeacher  # noqa: E402
from dante.text.chat import ChatRenderer  # noqa: E402
from dante.text.tokenizer import load_tokenizer  # noqa: E402

RECORDS, ROWS, REPEATS = 8, 4, 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp("model")
    SmokeTeacher(seed=0, train_steps=0).make(out)
    return out / "model"


def run(script, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARKS / script), "--threads", "1", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=400)


def run_training(model, systems, folder, *more, section="training"):
    (folder / "README.md").write_text(f"before\n<!-- {section} -->\nold\n<!-- /{section} -->\nafter\n")
    sizes = ("--records", RECORDS, "--rows", ROWS, "--repeats", REPEATS, "--max-tokens", 4096, "--gemm-size", 64)
    arguments = ("--model", model, "--systems", ",".join(systems), "--out", "t.json", "--fill", "README.md", *sizes)
    done = run("training.py", *arguments, *more, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "t.json").read_text()), (folder / "README.md").read_text()


def expected_lengths(model):
    """Tokens and supervised tokens of the chosen records, rendered here once more."""
    renderer = ChatRenderer(load_tokenizer(model))
    chosen = random.Random(0).sample(read_records(POCKET), RECORDS)
    rendered = [renderer.render(record.prompt, record.teacher_text) for record in chosen]
    return [len(one.input_ids) for one in rendered], [sum(one.supervised) for one in rendered]


def check_accounting(result, model, systems):
    lengths, supervised = expected_lengths(model)
    parameters = LlamaForCausalLM.from_pretrained(model).num_parameters()
    assert list(result["systems"]) == systems
    for name, found in result["systems"].items():
        assert len(found["blocks"]) == REPEATS + 1
        for block in found["blocks"]:
            assert (block["tokens"], block["supervised_tokens"]) == (sum(lengths), sum(supervised)), name
            assert block["positions"] >= block["tokens"]
        block = found["blocks"][-1]
        assert found["start"]["parameters"] == parameters
        assert found["beyond_bytes"]["max"] == max(
            b["peak_bytes"] - found["start"]["baseline_bytes"] - 16 * parameters for b in found["blocks"][1:]
        )
        rates = [b["supervised_tokens"] / b["seconds"] for b in found["blocks"][1:]]
        assert found["supervised_tokens_per_s"]["min"] == min(rates)
    return lengths


def test_our_training_runs_through_the_benchmark_and_is_counted_right(model, tmp_path):
    result, readme = run_training(model, ["ours_ce"], tmp_path)
    check_accounting(result, model, ["ours_ce"])
    for block in result["systems"]["ours_ce"]["blocks"]:
        assert block["steps"] == RECORDS // ROWS
        assert block["positions"] == block["tokens"], "our rows have no padding"
    losses = [block["loss_nats"] for block in result["systems"]["ours_ce"]["blocks"]]
    assert max(losses) - min(losses) < 1e-3 * losses[0], "no weight may move"
    assert readme.startswith("before\n<!-- training -->\n")
    assert readme.endswith("<!-- /training -->\nafter\n")
    assert "old" not in readme
    assert "| ours, CE |" in readme
    assert str(tmp_path) not in readme, "no paths of this machine"


@pytest.mark.slow
def test_all_systems_train_on_the_same_tokens(model, tmp_path):
    pytest.importorskip("trl")
    systems = ["trl_packing", "trl_tuned", "trl_padded", "trl_shipped", "hf_padded", "ours_ce", "ours_dante"]
    result, readme = run_training(model, systems, tmp_path)
    if result["settings"]["precision"] == "fp32":
        systems.remove("trl_tuned")  # it computes in bf16
    lengths = check_accounting(result, model, systems)
    blocks = {name: found["blocks"][-1] for name, found in result["systems"].items()}
    assert blocks["trl_packing"]["positions"] == sum(lengths), "packs have no padding"
    assert blocks["trl_padded"]["positions"] > sum(lengths), "padded rows have padding"
    assert blocks["hf_padded"]["positions"] >= max(lengths) * ROWS
    losses = [block["loss_nats"] for block in blocks.values()]
    assert max(losses) - min(losses) < 2e-3 * min(losses)
    assert "ours, CE / TRL SFTTrainer, packing (bfd): supervised tokens/s" in readme


@pytest.mark.slow
def test_distillation_is_measured_on_the_same_tokens_from_files_and_beside_live_teachers(model, tmp_path):
    systems = ["ours_ce", "ours_rs", "ours_topk", "ours_live_4x", "ours_live_10x"]
    shape = ("--student", "20x64")
    result, readme = run_training(model, systems, tmp_path, *shape, section="distillation")
    lengths, supervised = expected_lengths(model)
    for name, found in result["systems"].items():
        for block in found["blocks"]:
            assert (block["tokens"], block["supervised_tokens"]) == (sum(lengths), sum(supervised)), name
            assert block["positions"] == block["tokens"]
    vocabulary, student = 512, result["parameters"]
    assert student["head"] == vocabulary * 64
    for times, teacher in zip((4, 10), result["distillation"]["teachers"].values(), strict=True):
        assert teacher["head"] == times * student["head"]
        assert teacher["body"] == pytest.approx(times * student["body"], rel=0.02), "norms are no matrices"
    kept = result["distillation"]["kept"]
    assert 1 < kept["random_sampling"] < kept["topk_tail"] == 50
    seconds = {name: found["s_per_step"]["median"] for name, found in result["systems"].items()}
    ratio = f"{seconds['ours_live_4x'] / seconds['ours_rs']:.2f}"
    assert f"live teacher of 4 x its size / RS-KD from files: s per step | **{ratio}**" in readme
    flops = {
        name: found["flops_per_s"]["max"] * min(block["seconds"] for block in found["blocks"][1:])
        for name, found in result["systems"].items()
    }
    assert flops["ours_live_10x"] == pytest.approx(flops["ours_ce"] * (1 + 10 / 3), rel=0.02)
    assert flops["ours_rs"] == pytest.approx(flops["ours_ce"])


def test_a_system_with_another_mask_or_other_numbers_is_refused():
    block = {"tokens": 10, "supervised_tokens": 5, "loss_nats": 2.0}
    training._check_same_work({"a": [block], "b": [{**block, "loss_nats": 2.001}]})
    with pytest.raises(RuntimeError, match="supervised_tokens"):
        training._check_same_work({"a": [block], "b": [{**block, "supervised_tokens": 6}]})
    with pytest.raises(RuntimeError, match="same loss"):
        training._check_same_work({"a": [block], "b": [{**block, "loss_nats": 2.1}]})


def test_the_bare_products_are_the_model_s_own():
    """Six FLOPs per weight and token, as the lab's own count has it, tied head included."""
    config = LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    products = step_products(model, tokens=20, supervised_tokens=7)
    matrices = sum(layer.weight.numel() for layer in model.model.modules() if isinstance(layer, torch.nn.Linear))
    assert sum(p.flops for p in products) == model_flops(matrices, 96 * 32, 20, 7)
    assert seconds_of([Product(8, 4, 6, "a"), Product(8, 4, 6, "b", 2)], torch.float32) > 0


@pytest.mark.parametrize("tokens", [64, 32])
def test_all_ways_through_the_vocabulary_agree_and_their_memory_is_counted(tokens):
    """With as many tokens as widths, too: logits then have the shape of the head, transposed."""
    job = loss_pass_child.Job(tokens, hidden=32, vocab=1000, device="cpu", precision="fp32", threads=1)
    own = [way for way in ("torch",) if loss_pass._missing(way, job, 1) is None]
    found = {way: loss_pass_child.Course(way, job).run() for way in ("ours", "naive", *own)}
    loss_pass._check_same({way: [facts] for way, facts in found.items()})
    assert found["naive"]["loss_nats"] == pytest.approx(found["ours"]["loss_nats"], rel=1e-5)
    assert found["naive"]["gradient_norms"] == pytest.approx(found["ours"]["gradient_norms"], rel=1e-4)
    assert loss_pass_child.Course("gemm", replace(job, precision="bf16")).run()["seconds"] > 0
    fp32 = 4
    assert found["ours"]["retained_bytes"] == tokens * 32 * fp32, "the hidden states' gradient"
    assert found["ours"]["retained_head_bytes"] == 1000 * 32 * fp32, "the head's own gradient"
    # Log-probabilities of every entry, and a scalar (the total weight of the labels).
    assert tokens * 1000 * fp32 <= found["naive"]["retained_bytes"] <= tokens * 1000 * fp32 + 16
    wrong = {"naive": [found["naive"]], "ours": [{**found["ours"], "loss_nats": found["ours"]["loss_nats"] * 1.1}]}
    with pytest.raises(RuntimeError, match="do not agree"):
        loss_pass._check_same(wrong)


@pytest.mark.parametrize("teacher_hidden", [24, 48])
def test_all_ways_to_the_kl_from_a_live_teacher_agree_and_their_memory_is_counted(teacher_hidden):
    """Gradients entry by entry; what is kept, to the byte."""
    tokens, hidden, vocab, fp32 = 64, 32, 1000, 4
    job = loss_pass_child.Job(tokens, hidden, vocab, "cpu", "fp32", 1, teacher_hidden)
    ways = [way for way in ("ours_kl", "naive_kl", "trl_kl") if loss_pass._missing(way, job, 1) is None]
    found, gradients = {}, {}
    for way in ways:
        course = loss_pass_child.Course(way, job)
        found[way] = course.run()
        loss = loss_pass_child.WAYS[way](job, course.hidden, course.weight, course.teacher)
        gradients[way] = torch.autograd.grad(loss, [course.hidden, course.weight])
    for way in ways[1:]:
        torch.testing.assert_close(gradients[way], gradients["naive_kl"], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(gradients["ours_kl"], gradients[way], rtol=1e-4, atol=1e-7)
    loss_pass._check_same({way: [facts] for way, facts in found.items()})
    assert found["ours_kl"]["retained_bytes"] == tokens * hidden * fp32, "the student's hidden states' gradient"
    assert found["ours_kl"]["retained_head_bytes"] == vocab * hidden * fp32, "its head's gradient; none of the teacher"
    # Log-probabilities of both models.
    assert 0 <= found["naive_kl"]["retained_bytes"] - 2 * tokens * vocab * fp32 <= 16
    if "trl_kl" in found:
        assert found["trl_kl"]["retained_bytes"] == 3 * tokens * fp32, "three numbers per token"
    gemm = loss_pass_child.Course("gemm", job)
    assert gemm.teacher is not None
    assert gemm.run()["processor_s"] >= 0


def test_gradients_of_equal_size_that_point_elsewhere_are_refused():
    facts = {"loss_nats": 2.0, "gradient_norms": [1.0, 3.0], "gradient_probes": [0.4, -2.0]}
    loss_pass._check_same({"a": [facts], "b": [{**facts, "gradient_probes": [0.4, -2.01]}]})
    with pytest.raises(RuntimeError, match="do not agree"):
        loss_pass._check_same({"a": [facts], "b": [{**facts, "gradient_probes": [0.4, 2.0]}]})


@pytest.mark.slow
def test_the_kl_from_a_live_teacher_is_measured_and_put_into_its_section(tmp_path):
    pytest.importorskip("trl")
    (tmp_path / "README.md").write_text(
        "<!-- loss pass -->\nother\n<!-- /loss pass -->\n<!-- loss kl -->\n<!-- /loss kl -->\n"
    )
    sizes = ("--precision", "fp32", "--tokens", 64, "--hidden", 16, "--vocab", 500, "--repeats", 2)
    arguments = ("--teacher-hidden", 24, *sizes, "--out", "l.json", "--fill", "README.md")
    done = run("loss_pass.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ways = json.loads((tmp_path / "l.json").read_text())["runs"][0]["ways"]
    assert list(ways) == ["gemm", "ours_kl", "naive_kl", "trl_kl"]
    readme = (tmp_path / "README.md").read_text()
    assert "other" in readme
    ours, trl = (
        float(re.search(rf"\| {way} \|[^|]+\|[^|]+\| ([\d.]+)", readme)[1])
        for way in ("ours", "TRL chunked divergence")
    )
    assert ours == pytest.approx(16 / 500, abs=5e-4)
    assert trl == pytest.approx(3 / 500, abs=5e-4)
    assert f"{ways['ours_kl']['seconds']['median'] / ways['trl_kl']['seconds']['median']:.2f}" in readme
    refused = run("loss_pass.py", *arguments[:2], "--ways", "ours", cwd=tmp_path)
    assert refused.returncode == 2
    assert "no --teacher-hidden" in refused.stderr


@pytest.mark.parametrize("vocabs", [(300,), pytest.param((300, 600, 900), marks=pytest.mark.slow)])
def test_the_loss_pass_is_measured_over_vocabularies_and_drawn(tmp_path, vocabs):
    ways = ("gemm", "ours") if len(vocabs) == 1 else ("gemm", "ours", "naive")
    # In bf16 a CPU without instructions for it leaves out what torch would emulate.
    sizes = ("--precision", "fp32", "--tokens", 32, "--hidden", 16, "--repeats", 2)
    chosen = ("--ways", ",".join([*ways, "liger"]))
    done = run("loss_pass.py", "--sweep", *vocabs, *sizes, *chosen, "--out", "l.json", "--plot", "l.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "l.json").read_text())
    assert [run["vocab"] for run in result["runs"]] == list(vocabs)
    for one in result["runs"]:
        assert set(one["ways"]) == set(ways)
        assert set(one["left_out"]) == {"liger"}, "Triton's kernels need a GPU"
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")


def test_a_peak_is_seen_and_can_be_reset():
    if not measuring.reset_peak():
        pytest.skip("this system does not reset the peak of a process")
    before = measuring.peak_resident_bytes()
    big = torch.ones(64 * measuring.MIB)  # 256 MiB
    del big
    assert measuring.peak_resident_bytes() - before > 200 * measuring.MIB
    measuring.reset_peak()
    assert measuring.peak_resident_bytes() - before < 100 * measuring.MIB


def test_a_child_works_only_in_its_turn_and_its_last_words_are_told(tmp_path):
    child = tmp_path / "child.py"
    child.write_text(
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "from turns import Table\n"
        "table = Table(); print('noise'); table.say(ready=True)\n"
        "table.say(asked=table.wait())\n"
        "table.wait(); raise ValueError('out of tokens')\n"
    )
    player = Player([sys.executable, str(child)], {}, tmp_path / "log")
    try:
        assert player.hear() == {"ready": True}
        assert player.turn("go") == {"asked": "go"}
        with pytest.raises(RuntimeError, match="(?s)exit code 1.*out of tokens"):
            player.turn()
        assert "noise" in (tmp_path / "log").read_text()
    finally:
        player.close()


def test_a_file_without_its_markers_is_not_filled(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("<!-- training -->\nno end\n")
    with pytest.raises(ValueError, match="markers"):
        measuring.fill(path, "training", "x")
    assert path.read_text() == "<!-- training -->\nno end\n"
