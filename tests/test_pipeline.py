"""Steps, fingerprints, the shared store: on the smoke recipe's own first steps."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dante.errors import DanteError
from dante.run import pipeline, store
from dante.system.files import STEP_FILE, fingerprint
from tests.test_config import composed


@pytest.fixture
def smoke(tmp_path: Path) -> dict[str, Any]:
    return composed("+experiment=sft", "scale=smoke", "only=teacher", f"run.dir={tmp_path}/run")


def _teacher(cfg: dict[str, Any]) -> pipeline.PlannedStep:
    return pipeline.plan_steps(cfg)[0]


def test_fingerprints_ignore_the_order_of_keys_and_nothing_else() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})


def test_a_step_is_made_once_and_linked(smoke: dict[str, Any]) -> None:
    run_dir = pipeline.run(smoke)
    step = _teacher(smoke)
    assert step.complete
    assert not step.partial.exists()
    assert os.readlink(run_dir / "teacher") == f"../.steps/{step.directory.name}"
    first = (step.directory / STEP_FILE).stat().st_mtime_ns
    pipeline.run(smoke)
    assert (step.directory / STEP_FILE).stat().st_mtime_ns == first
    manifest = json.loads((run_dir / "manifest.json").read_text())
    assert manifest["steps"]["teacher"] == manifest["steps"]["teacher"] | {"complete": True, "stage": "teacher"}
    assert manifest["steps"]["fit"]["complete"] is False


def test_a_changed_file_is_found_and_the_step_made_again(smoke: dict[str, Any]) -> None:
    pipeline.run(smoke)
    victim = _teacher(smoke).directory / "teacher.json"
    original = victim.read_text()
    victim.write_text(original + " ")
    assert store.damage(_teacher(smoke).directory, thorough=False) == ["teacher.json"]
    pipeline.run(smoke)
    assert victim.read_text() == original


def test_overwrite_redoes_and_error_stops(smoke: dict[str, Any]) -> None:
    pipeline.run(smoke)
    made = (_teacher(smoke).directory / STEP_FILE).stat().st_mtime_ns
    pipeline.run({**smoke, "on_existing": "overwrite"})
    assert (_teacher(smoke).directory / STEP_FILE).stat().st_mtime_ns > made
    with pytest.raises(DanteError, match="exists"):
        pipeline.run({**smoke, "on_existing": "error"})


def test_a_run_of_another_configuration_says_which_keys_differ(smoke: dict[str, Any], tmp_path: Path) -> None:
    pipeline.run(smoke)
    stored = (tmp_path / "run" / "config.yaml").read_text()
    other = composed("+experiment=sft", "scale=smoke", "only=teacher", f"run.dir={tmp_path}/run", "teacher.make.seed=1")
    with pytest.raises(DanteError, match=r"teacher\.make\.seed: 0 → 1.*teacher finished with it"):
        pipeline.run(other)
    assert (tmp_path / "run" / "config.yaml").read_text() == stored
    hardware = {**smoke, "trainer": {**smoke["trainer"], "threads": 2}}
    pipeline.run(hardware)


def test_a_configuration_binds_only_what_was_finished_with_it(
    smoke: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong value of a later step may be corrected under the same name, as the fix of its error says."""
    pipeline.run(smoke)
    capsys.readouterr()
    same = ("+experiment=sft", "scale=smoke", "only=teacher", f"run.dir={tmp_path}/run")
    pipeline.run(composed(*same, "cache.source.heldout=4"))
    said = " ".join(capsys.readouterr().out.split())
    assert "no finished step of this run depends on what has changed" in said
    assert "cache.source.heldout: 4" in said or "→ 4" in said
    assert "heldout: 4" in (tmp_path / "run" / "config.yaml").read_text()
    # What is finished under the new value is bound to it in turn.
    (tmp_path / "run" / "cache").symlink_to("../.steps/cache-of-another-configuration")
    (tmp_path / ".steps" / "cache-of-another-configuration").mkdir()
    with pytest.raises(DanteError, match="cache finished with it"):
        pipeline.run(composed(*same, "cache.source.heldout=5"))


def test_inputs_must_be_complete(smoke: dict[str, Any]) -> None:
    with pytest.raises(DanteError, match="needs 'teacher', which is not complete"):
        pipeline.run({**smoke, "only": "init"})
