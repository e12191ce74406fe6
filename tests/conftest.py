"""Shape and dtype annotations are executed: every function of the lab is checked by beartype while the tests run."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

import dante  # noqa: F401  before torch: it says how OpenMP's threads wait

# Models of the tests are tiny: a second thread only waits, and waits long when the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "offline")

install_import_hook("dante", "beartype.beartype")

# The same examples every time, so that a commit passes or fails; `--hypothesis-profile=explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile("repeatable")

# Files that hold whole runs, longest first: begun last, one worker would finish them alone.
LONG = (
    "test_sweep", "test_kill", "test_sweep_launchers", "test_durability", "test_sharded", "test_run", "test_guards",
    "test_generation_kill", "test_accounting", "test_precision", "test_evaluate_stage", "test_compute", "test_dual_run",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files of most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture(params=["mkl", "without mkl"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a CPU multiplies bf16 operands into fp32 results: by MKL, and as it does where that is absent."""
    from dante.losses.vocabulary import mkl

    if request.param == "mkl" and not mkl.available():
        pytest.skip("this torch carries no MKL with bf16 products")
    monkeypatch.setenv(mkl.CHOICE, "mkl" if request.param == "mkl" else "torch")
    return str(request.param)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with SmolLM2's traps: a default system message, `<|im_start|>` as BOS, pad == end of turn.

    Whoever changes it copies it first: it is everybody's.
    """
    from dante.teachers.smoke import SmokeTeacher

    root = tmp_path_factory.mktemp("model")
    SmokeTeacher(seed=0, train_steps=20).make(root)
    return root / "model"
