"""The fit stage itself on a tiny model and a few records: the precision of weights, and what the seed decides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dante.cache import CacheWriter, Record
from dante.fit import stage
from dante.fit.record.accounting import MACHINE_KEYS
from dante.run import pipeline
from dante.run.step import Step
from tests.test_config import composed
from tests.test_evaluate_fidelity import tiny

WORDS = ["così", "ab", "Zwölf", "jagen", "Viktor", "Perché"]
Fit = Callable[..., Path]


def records(count: int = 24) -> list[Record]:
    rng = np.random.default_rng(0)
    return [
        Record(
            f"r{i}",
            f"Say {i}",
            " ".join(rng.choice(WORDS, size=int(rng.integers(2, 9)))),
            float(rng.uniform(0.1, 3)),
            split="train",
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student before training, a cache and a teacher's handle, as the stages before the fit leave them."""
    root = tmp_path_factory.mktemp("inputs")
    model, renderer = tiny(270, 0)
    model.save_pretrained(root / "init" / "model")
    renderer.tokenizer.save_pretrained(root / "init" / "model")
    CacheWriter(root / "cache").add(records()).seal()
    (root / "teacher").mkdir()
    return {name: root / name for name in ("init", "cache", "teacher")}


@pytest.fixture
def planned(tmp_path: Path, inputs: dict[str, Path]) -> Callable[..., Step]:
    """The fit step that the command line makes of overrides, reading `inputs`."""

    def make(*overrides: str) -> Step:
        small = ["fit.steps=4", "fit.batch.size=6", "fit.max_tokens=128", "logger=none"]
        cfg = composed("scale=smoke", f"run.dir={tmp_path}/run", *small, *overrides)
        (tmp_path / "run").mkdir(exist_ok=True)
        recipe = pipeline._Recipe(cfg, pipeline.plan_steps(cfg))
        step = recipe._materialise(recipe.by_label["fit"])
        out = tmp_path / step.out.name
        out.mkdir(exist_ok=True)
        return Step(**{**vars(step), "inputs": inputs, "out": out})

    return make


@pytest.fixture
def fit(planned: Callable[..., Step]) -> Fit:
    def run(*overrides: str) -> Path:
        step = planned(*overrides)
        stage.run(step)
        return step.out

    return run


def losses(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in MACHINE_KEYS} for row in rows]


def share_in_bf16(weights: dict[str, torch.Tensor]) -> float:
    """How many of the trained numbers are ones that bf16 can hold."""
    fits = [(weight.bfloat16().float() == weight).flatten() for weight in weights.values()]
    return float(torch.cat(fits).double().mean())


def test_sound_trains_fp32_masters_and_card_bf16_weights(fit: Fit, inputs: dict[str, Path]) -> None:
    """Updates of 1e-5 of a weight: an fp32 master takes them all, a bf16 weight (steps of 4e-3 of it) next to none."""
    before = load_file(inputs["init"] / "model" / "model.safetensors")
    common = ["+experiment=dante_mosaic", "fit.precision=bf16", "fit.lr=1e-6", "fit.weight_decay=0.0"]
    sound = load_file(fit(*common, "fidelity=sound") / "student.safetensors")
    card = load_file(fit(*common, "fidelity=card") / "student.safetensors")
    assert share_in_bf16(card) == 1.0
    assert share_in_bf16(sound) < 0.2
    name = "model.layers.0.mlp.up_proj.weight"
    assert (sound[name] != before[name]).double().mean() > 0.95
    assert (card[name] != before[name].bfloat16().float()).double().mean() < 0.2


def test_the_seed_of_the_command_line_decides_what_every_step_is_shown(fit: Fit) -> None:
    shown = {seed: losses(fit("+experiment=sft", f"seed={seed}")) for seed in (1, 2)}
    assert [row["loss"] for row in shown[1]] != [row["loss"] for row in shown[2]]
    assert [row["supervised_tokens"] for row in shown[1]] != [row["supervised_tokens"] for row in shown[2]]


CURRICULA = {
    "shuffled": ["fit.curriculum._target_=dante.data.curriculum.Shuffled"],
    "bucketed": ["fit.curriculum._target_=dante.data.curriculum.BucketedShuffle", "+fit.curriculum.buckets=3"],
    "competence": [
        "fit.curriculum._target_=dante.data.curriculum.Competence",
        *("+fit.curriculum.initial=0.2", "+fit.curriculum.full_at=0.5", "+fit.curriculum.power=2"),
    ],
}


@pytest.mark.parametrize("curriculum", CURRICULA)
def test_seeds_have_orders_of_their_own_and_one_seed_always_the_same(
    planned: Callable[..., Step], curriculum: str
) -> None:
    def order(seed: int) -> list[int]:
        step = planned("+experiment=sft", f"seed={seed}", *CURRICULA[curriculum])
        data = stage._data(step, stage._asked(step, step.inputs["init"] / "model"))
        data.prepare_data()
        data.setup()
        assert data.plan is not None
        return data.plan.rows.tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
