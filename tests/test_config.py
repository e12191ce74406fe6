"""Every experiment composes and is planned at every scale, without weights and without a network."""

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from dante.cost.estimate import estimate
from dante.errors import DanteError
from dante.run import pipeline
from dante.run.config.check import check
from dante.system.files import GIB

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
EXPERIMENTS = sorted(p.stem for p in (CONF / "experiment").glob("*.yaml"))
SCALES = sorted(p.stem for p in (CONF / "scale").glob("*.yaml"))


# Steps that only some recipes have, and which of them an experiment has at a scale.
_DENSE = {"calibration", "release-padded"}
_MADE = dict.fromkeys(("smoke", "pocket"), _DENSE | {"dense", "footprint"})
_MADE |= {"gpu1": {"calibration", "footprint"}, "a100x8": _DENSE}
_MATCHED = {"release-matched", "eval-matched"}
_ROUNDS = {
    "likelihood", "select-low", "select-high", "release-high", "samples", "mixed", "likelihood-after", "sentences",
}  # fmt: skip
RECIPES_OWN: dict[str, dict[str, set[str]]] = {
    "raw_kd": dict.fromkeys(SCALES, {"texts"}),
    "cached_kd": dict.fromkeys(SCALES, {"logits"}),
    "moe_chat_kd": _MADE,
    "laguna_dense": {scale: own | _MATCHED for scale, own in _MADE.items()},
    "dante_coder": {"smoke": {"origin"}},
    "alm_coder": {"smoke": {"origin"}},
    "uld_coder": {"smoke": {"origin"}},
    "dasd_thinking": dict.fromkeys(SCALES, _ROUNDS)
    | {"pocket": _ROUNDS | {"cache-before", "pruned"}, "a100x8": _ROUNDS | {"cache-high", "likelihood-high"}},
}
OWN_STEPS = {label for by_scale in RECIPES_OWN.values() for own in by_scale.values() for label in own}


def unchecked(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("train", overrides=overrides)


def composed(*overrides: str) -> dict[str, Any]:
    return check(unchecked(list(overrides)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_is_planned_at_every_scale(experiment: str, scale: str, tmp_path: Path) -> None:
    cfg = composed(f"+experiment={experiment}", f"scale={scale}", f"run.dir={tmp_path}/run")
    steps = pipeline.plan_steps(cfg)
    cost = estimate(cfg, steps)
    fits = ["fit"] * len(cost.fits)
    labels = [step.label for step in steps]
    assert all(labels.index(read) < place for place, step in enumerate(steps) for read in step.inputs.values())
    every = sorted(["teacher", "cache", "init", *fits, "release", "score", "score", "eval", "report"])
    assert sorted(step.stage for step in steps if step.label not in OWN_STEPS) == every
    assert OWN_STEPS.intersection(labels) == set(RECIPES_OWN.get(experiment, {}).get(scale, ()))
    assert cost.parameters > 0
    assert cost.compute.total.flops > 0
    assert not any(tmp_path.iterdir())


def test_kept_logits_are_of_the_kind_that_is_read() -> None:
    with pytest.raises(DanteError, match=r"'topk_tail' reads topk_tail logits.*keeps random_sampling.*kept=topk_tail"):
        composed("+experiment=cached_kd", "loss=[topk_tail]")
    composed("+experiment=cached_kd", "loss=[topk_tail]", "kept=topk_tail")
    composed("+experiment=cached_kd", "loss=[ce]")  # nothing reads what is kept, which harms nobody


def test_the_published_scale_is_the_card_s_recipe(tmp_path: Path) -> None:
    cfg = composed("+experiment=dante_mosaic", "scale=a100x8", "fidelity=card")
    cost = estimate(cfg, pipeline.plan_steps(cfg))
    assert round(cost.parameters / 1e9, 3) == 3.075
    assert cost.vocabulary == 128256
    assert (cfg["fit"]["steps"], cfg["fit"]["batch"]["size"], cfg["fit"]["max_tokens"]) == (2000, 128, 4096)
    assert (cfg["fit"]["lr"], cfg["fit"]["warmup"], cfg["seed"]) == (2e-5, 0.1, 42)
    assert (cfg["losses"]["tea"]["reduction"], cfg["losses"]["tea"]["calibrate"]) == ("frobenius_sum", False)
    assert cfg["fidelity"]["master_weights"] is False
    assert cost.epochs == pytest.approx(5.885, abs=0.001)
    assert any("5.9 epochs" in note for note in cost.notes)
    assert any("82% MFU" in note for note in cost.notes)


def test_the_laguna_card_s_run_has_its_tokens_and_both_sizes() -> None:
    cfg = composed("+experiment=laguna_dense", "scale=a100x8")
    cost = estimate(cfg, pipeline.plan_steps(cfg))
    assert (cost.parameters, cost.padded_parameters) == (2_996_758_567, 3_855_462_400)
    matching, distillation = cost.fits
    assert matching.tokens == pytest.approx(90e6, rel=0.01)  # every token of a text is matched
    assert distillation.supervised_tokens == pytest.approx(22e6, rel=0.01)  # the answers'
    assert all(fit.memory.total / GIB < 40 and fit.memory.teacher for fit in cost.fits)  # beside the teacher, sharded
    assert any("2.997 B" in note and "3.86 B" in note for note in cost.notes)


def test_steps_are_shared_by_what_does_not_change_them() -> None:
    def by_label(*overrides: str) -> dict[str, str]:
        cfg = composed(*overrides)
        return {s.label: s.fingerprint for s in pipeline.plan_steps(cfg)}

    base = by_label("+experiment=dante_mosaic")
    seed = by_label("+experiment=dante_mosaic", "seed=7")
    control = by_label("+experiment=sft")
    hardware = by_label("+experiment=dante_mosaic", "trainer.threads=1", "logger=none")
    for other in (seed, control):
        assert {k: v for k, v in other.items() if k in ("teacher", "cache", "init")} == {
            k: v for k, v in base.items() if k in ("teacher", "cache", "init")
        }
        assert other["fit"] != base["fit"]
        assert other["eval"] != base["eval"]
    assert hardware == base


def test_experiments_differ_in_what_they_say_and_in_nothing_else() -> None:
    dante, control, scratch = (composed(f"+experiment={name}") for name in ("dante_mosaic", "sft", "scratch"))
    assert list(control["losses"]) == ["ce"]
    assert control["fit"]["curriculum"] == {"_target_": "dante.data.curriculum.Shuffled"}
    assert {**control["fit"], "curriculum": None} == {**dante["fit"], "curriculum": None}
    assert control["student"] == dante["student"]
    init = scratch["student"]["init"]
    assert (init["_target_"].rpartition(".")[2], init["seed"]) == ("DrawAnew", scratch["seed"])
    assert (scratch["losses"], scratch["fit"]) == (dante["losses"], dante["fit"])


ENGINES = sorted(p.stem for p in (CONF / "engine").glob("*.yaml"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cache_can_be_generated_with_every_engine(engine: str) -> None:
    cfg = composed("+experiment=sft", "cache=generated", f"engine={engine}")
    assert cfg["cache"]["source"]["engine"]["_target_"].startswith(("dante.teachers.", "dante.densify.mixture."))


@pytest.mark.parametrize("prompts", sorted(p.stem for p in (CONF / "prompts").glob("*.yaml")))
def test_a_cache_can_be_generated_from_every_source_of_prompts(prompts: str) -> None:
    given = ["prompts.path=mine"] if "path: ???" in (CONF / "prompts" / f"{prompts}.yaml").read_text() else []
    cfg = composed("+experiment=sft", "cache=generated", f"prompts={prompts}", *given)
    assert cfg["cache"]["source"]["prompts"]["_target_"].startswith("dante.cache.")


def test_the_cards_cache_is_generated_as_the_card_says() -> None:
    cfg = composed("+experiment=dante_mosaic", "scale=a100x8", "cache=kimi_k2_generated", "prompts.path=mine.jsonl")
    source = cfg["cache"]["source"]
    assert (source["decoding"]["temperature"], source["decoding"]["max_new_tokens"]) == (0.0, 512)
    assert source["engine"]["tensor_parallel_size"] == 16


@pytest.mark.parametrize("teacher", sorted(p.stem for p in (CONF / "teacher").glob("*.yaml")))
def test_every_teacher_composes(teacher: str) -> None:
    named = {"gguf": ["teacher.gguf=mine.gguf"], "local": ["teacher.make.model=org/mine"]}.get(teacher, [])
    cfg = composed("+experiment=sft", f"teacher={teacher}", *named)
    assert cfg["teacher"]["make"]["_target_"].startswith(("dante.teachers.", "dante.densify.mixture."))


@pytest.mark.parametrize(
    ("typed", "wrong", "fix"),
    [
        ("++steps.eval.settings.generation=3", "unknown key 'steps.eval.settings.generation'", "'suites.generation'"),
        ("++steps.fit.settings.fit.lrr=1", "unknown key 'steps.fit.settings.fit.lrr'", "'lr'"),
        ("++steps.release.settings.dtype=bf16", "steps.release.settings.dtype='bf16'", "steps.release.settings.dtype"),
        ("~steps.fit.settings.seed", "steps.fit.settings.seed is missing", "steps.fit.settings.seed=VALUE"),
        ("~steps.eval-init.settings.seed", "steps.eval-init.settings.seed is missing", "settings.seed=VALUE"),
        ("~eval.suites.generation.prompts", "eval.suites.generation.prompts is missing", "prompts=VALUE"),
    ],
)
def test_a_step_s_own_settings_are_checked_like_every_other(typed: str, wrong: str, fix: str) -> None:
    with pytest.raises(DanteError) as caught:
        composed("+experiment=dante_mosaic", "scale=smoke", typed)
    assert caught.value.what.startswith(wrong)
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("teacher.gguf=mine.gguf", "teacher.gguf belongs to teacher=gguf.*teacher=gguf teacher.gguf=VALUE"),
        ("student=gguf student.gguf=mine", "student.gguf='mine' is not accepted.*student=local"),
        ("student=gguf student.gguf=mine.gguf", "there is no file 'mine.gguf'.*package:NAME/FILE"),
        ("student=gguf", "student.gguf has no value"),
    ],
)
def test_a_file_of_a_model_is_named_where_it_is_read(typed: str, said: str, tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "+experiment=sft", "scale=smoke", "dry_run=true", f"run.dir={tmp_path}"]
    done = subprocess.run([*command, *typed.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert re.search(said, " ".join((done.stdout + done.stderr).split()))


def test_what_stages_may_be_told_is_known_without_loading_torch() -> None:
    code = "import sys; from dante.run.stages import STAGES; [s.settings_class() for s in STAGES.values()]"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_length_in_epochs_says_how_often_records_are_drawn(tmp_path: Path) -> None:
    words = ("+experiment=sft", "scale=smoke", "budget=epochs", "budget.compute.amount=2", f"run.dir={tmp_path}/run")
    cfg = composed(*words)
    (fit,) = estimate(cfg, pipeline.plan_steps(cfg)).fits
    assert fit.records is not None
    assert fit.steps == math.ceil(2 * fit.records / cfg["fit"]["batch"]["size"])
    with pytest.raises(DanteError, match="contradict each other"):
        composed(*words, "fit.steps=5")
