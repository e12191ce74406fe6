"""`keep`: a teacher's scores beside its cache, so that runs without its weights have its rows."""

import argparse
from pathlib import Path
from typing import Any

from dante import console
from dante.evaluate.kept_scores.keep import FOLDER, keep


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser("keep", description=__doc__)
    parser.add_argument("step", type=Path, metavar="STEP", help="a run's eval-teacher")
    parser.add_argument("cache", type=Path, metavar="CACHE", help="folder of the teacher's cache")


def run(options: argparse.Namespace) -> int:
    """Copies what was measured and says where it lies."""
    suites = keep(options.step, options.cache)
    console.info(f"kept {', '.join(suites)}")
    console.info(f"wrote {options.cache / FOLDER}")
    return 0
