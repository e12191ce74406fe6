"""Compose → check → plan → run.

    python train.py +experiment=dante_mosaic                            all stages, on this machine
    python train.py +experiment=dante_mosaic scale=a100x8 dry_run=true  what it would cost
    python train.py +experiment=dante_mosaic only=eval                  one stage
    python train.py -m +experiment=dante_mosaic,sft seed=1,2,3          several runs, and their comparison
    python train.py +sweep=dante_ablation                               a named sweep

Everything else is in `conf/` (what) and `dante/` (how).
"""

import os
import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dante import console
from dante.errors import DanteError, PointsFailed, StepFailed
from dante.run import board, pipeline
from dante.run.config.check import check, is_chosen
from dante.run.config.hydra_errors import as_dante_error
from dante.run.precision import require_device
from dante.sweep import arguments
from dante.sweep.process import POINT, run_point, stop_with_parent
from dante.system import interrupt, os_errors
from dante.system.interrupt import Interrupted

# Hydra's own handler prints frames or half a message; every error ends in `main` instead.
os.environ["HYDRA_FULL_ERROR"] = "1"


SCRIPT = Path(__file__).resolve()
CONF = SCRIPT.parent / "conf"
failures: list[DanteError | StepFailed] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def compose_and_run(cfg: DictConfig) -> None:
    if POINT in os.environ:  # in a sweep, perhaps in a worker of a launcher
        own = HydraConfig.get().overrides
        found = [override for override in own.hydra if override.startswith("hydra.searchpath")]
        run_point(SCRIPT, [*found, *own.task], Path(cfg.run.dir), cfg.run.name)
        return
    # Caught here, so that Hydra adds no line of its own.
    try:
        open_screen(cfg)
        from dante.cost.estimate import estimate  # torch and transformers: seconds
        from dante.cost.shown import plan

        config = check(cfg)
        steps = pipeline.plan_steps(config)
        plan(config, steps, estimate(config, steps))
        if not config["dry_run"]:
            if any(step.stage == "fit" and not step.complete and is_chosen(config, step.label) for step in steps):
                require_device(config["trainer"]["accelerator"])
            console.quiet_libraries()
            console.done(pipeline.run(config))
    except StepFailed as error:  # a fault of the lab's, or of a library: its frames are needed
        traceback.print_exception(error.__cause__)
        fail(error)
    except DanteError as error:
        fail(error)
    except OSError as error:
        fail(os_errors.as_dante_error(error, "the plan", CONF) or DanteError(str(error)))


def open_screen(cfg: DictConfig) -> None:
    """Say what was asked for; what is wrong with it is for `check` to say."""
    keys = ("experiment.title", "experiment.hypothesis", "run.name", "fidelity.name")
    try:
        title, hypothesis, name, fidelity = (str(OmegaConf.select(cfg, key, throw_on_missing=True)) for key in keys)
    except OmegaConfBaseException:
        return
    if "experiment" in cfg:
        console.opening(title, hypothesis, name, fidelity)


def fail(error: DanteError | StepFailed) -> None:
    console.error(error)
    failures.append(error)


def main() -> int:
    arguments.take_over()
    try:
        with interrupt.handled(console.note):
            stop_with_parent()
            compose_and_run()
    except Interrupted as stop:
        console.note(str(stop))
        # What rank 0 started ends quietly: rank 0 has the exit code, and a child's would be taken for a crash.
        return 0 if board.started_by_rank_0() else stop.exit_code
    except PointsFailed:  # the sweep has told which, and why
        return 2
    except DanteError as error:
        console.error(error)
        return 2
    except Exception as error:
        known = as_dante_error(error, sys.argv[1:], CONF)
        if known is None:
            raise
        console.error(known)
        return 2
    return 2 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
