"""`measure`: suites of any model, without a run; by default real benchmarks.

What was measured before into the same folder stays, but for the suites that are measured again.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.table import Table

from dante.console import info, note, screen
from dante.errors import DanteError
from dante.look.metric import Metric
from dante.run import store
from dante.run.config.check import check
from dante.run.config.folder import CONF, check_folder
from dante.run.config.hydra_errors import as_dante_error
from dante.system import locks
from dante.system.files import read_json, write_json

IDENTITY, SCORES = "measured.json", "scores.json"
# What is not about the evaluation comes from an experiment that is at hand; nothing of it runs.
_BASE = ("+experiment=sft", "suite=[pocket_real]")
_TAKEN = ("eval.", "eval/", "suite=", "data.", "chat", "trainer.precision", "trainer.threads", "seed=", "scale=")


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("measure", description=__doc__)
    parser.add_argument("model", metavar="FOLDER_OR_ID", help="a folder that transformers loads, or a hub id")
    parser.add_argument("--name", help="of the model in tables; default: the folder's")
    parser.add_argument("--out", type=Path, help="default: runs/measured/NAME")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="suite=[dante_card] eval.limit=200 data.benchmarks=hub …"
    )


def run(args: argparse.Namespace) -> int:
    """Measures, writes `eval.json`, says where."""
    cfg = settings(args.overrides)
    from dante.evaluate.join import write_joined
    from dante.evaluate.measure import build_suites, measure
    from dante.evaluate.subject import Subject

    name = args.name or Path(args.model).resolve().name
    out = args.out or Path("runs") / "measured" / name
    subject = Subject(
        name=name,
        folder=Path(args.model).expanduser(),
        seed=cfg["seed"],
        cache=Path("no cache: suites of a run's answers need a run"),
        precision=cfg["eval"]["precision"],
        heldout=None,
        draw_seed=cfg["eval"]["seed"],
        chat=cfg["chat"],
        kept=Path("runs") / ".answers",
    )
    identity = {"model": subject.identity, "precision": subject.precision, "name": name}
    out.parent.mkdir(parents=True, exist_ok=True)
    with locks.hold(store.lock_of(out), waiting=lambda owner: note(f"waiting for {owner}")):
        store.settle(out)
        _check_alike(out, identity)
        work = store.partial_of(out)
        shutil.rmtree(work, ignore_errors=True)
        measure(subject, build_suites(cfg["eval"]["suites"]), work / name, cfg["trainer"]["threads"])
        _keep_earlier(out / name, work / name)
        write_json(work / IDENTITY, identity | {"run": _run_of(subject.folder)})
        interval = {k: cfg["eval"][k] for k in ("confidence", "seed")} | {"resamples": cfg["eval"]["bootstrap"]}
        write_joined(work, {name: work / name}, None, subject.precision, interval)
        store.take_the_place(out)
    return _told(read_json(out / "eval.json"), out)


def _run_of(folder: Path) -> str | None:
    """The run whose release a folder is: it knows what training took."""
    run = folder.absolute().parent
    return str(run) if folder.name == "release" and any(run.glob("fit*/summary.json")) else None


def _check_alike(out: Path, identity: dict[str, Any]) -> None:
    """Refuses to put two models, or two precisions, into one folder.

    Raises:
        DanteError: the folder is another model's, or none of this command's.
    """
    if not out.exists():
        return
    if not (out / IDENTITY).is_file():
        raise DanteError(f"{out} is there, and not of this command", where="--out", fix=f"--out {out}-benchmarks")
    before = read_json(out / IDENTITY)
    unlike = ", ".join(key for key in identity if before.get(key) != identity[key])
    if unlike:
        raise DanteError(
            f"{out} holds measurements of another {unlike}",
            where="--out",
            allowed="a folder of its own for every model and precision",
            fix=f"--out {out}-{identity['precision']}, or another name",
        )


def _keep_earlier(before: Path, now: Path) -> None:
    """Takes over the suites that were measured earlier and not now."""
    if not (before / SCORES).is_file():
        return
    earlier, scores = read_json(before / SCORES), read_json(now / SCORES)
    kept = [suite for suite in earlier["suites"] if suite not in scores["suites"]]
    for suite in kept:
        shutil.copytree(before / suite, now / suite, dirs_exist_ok=True)

    def of_kept(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if row["task"].split("/")[0] in kept]

    def about_kept(text: str) -> bool:
        return text.partition(":")[0].partition(" ")[0] in kept

    merged = {
        "suites": kept + scores["suites"],
        "rows": of_kept(earlier["rows"]) + scores["rows"],
        "others": of_kept(earlier["others"]) + scores["others"],
        "notes": [text for text in earlier["notes"] if about_kept(text)]
        + [text for text in scores["notes"] if not about_kept(text)],
        "commands": {key: text for key, text in earlier["commands"].items() if key in kept} | scores["commands"],
    }
    write_json(now / SCORES, scores | merged)


def _told(evaluation: dict[str, Any], out: Path) -> int:
    """Prints what was measured, what was not, and where it lies; 1 where nothing was."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("task", "metric", "value", "stderr", "n"):
        table.add_column(heading, justify="left" if heading in ("task", "metric") else "right")
    for row in evaluation["rows"]:
        reads = Metric(**evaluation["suites"][row["task"].split("/")[0]]["metrics"].get(row["metric"], {"label": ""}))
        stderr = "–" if row["stderr"] is None else reads.value(row["stderr"])
        table.add_row(row["task"], row["metric"], reads.value(row["value"]), stderr, f"{row['n']:,}")
    if evaluation["rows"]:
        screen().print(table)
    for text in evaluation["notes"]:
        note(text)
    info(f"done → {out}/eval.json")
    return 0 if evaluation["rows"] else 1


def settings(overrides: Sequence[str]) -> dict[str, Any]:
    """The composed and checked config of an evaluation.

    Raises:
        DanteError: a key or a value is wrong, or is none of an evaluation's.
    """
    for word in overrides:
        if not word.removeprefix("+").startswith(_TAKEN) or "=" not in word:
            raise DanteError(
                f"{word!r} is no setting of an evaluation",
                where="python -m dante.evaluate measure",
                allowed="suite=[…], eval.KEY=VALUE, data.benchmarks=…, data.folder=…, +chat.KEY=VALUE, "
                "trainer.precision=…, trainer.threads=…",
                fix=f"leave {word} out",
            )
    check_folder()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return check(compose("train", [*_BASE, *overrides]))
    except (HydraException, OmegaConfBaseException) as error:
        raise as_dante_error(error, list(overrides), CONF) or DanteError(str(error), where="measure") from None
