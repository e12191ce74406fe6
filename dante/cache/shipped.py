"""A cache that exists already: the one inside the package, a cache directory, or anyone's JSONL."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dante.cache.filters import Filter, apply_all
from dante.cache.records.manifest import FILE_NAME, verify
from dante.cache.records.reader import Policy, scan, shard_paths
from dante.cache.records.writer import CacheWriter
from dante.cache.split import Holdout, prompts_of, prompts_to_draw_from, split_by_prompt
from dante.errors import DanteError
from dante.run.step import Step
from dante.system.files import read_json, sha256
from dante.teachers.teacher import FILE_NAME as TEACHER_FILE
from dante.teachers.teacher import load_teacher

POCKET = Path(__file__).with_name("pocket")
CANDIDATES = Path(__file__).with_name("candidates")
CODER = Path(__file__).with_name("coder")
EXAMPLES = 3
# What was measured of the teacher when it wrote the cache, beside the shards (`python -m dante.evaluate keep`).
SCORES = "scores"
# How files of others are read; raised when the same file gives other records. 2: prompts in all their forms are one.
READING = "2"


def answers_of(manifest: Mapping[str, Any]) -> list[str]:
    """Hashes of a cache's shards, by which scores know the answers that they were kept beside."""
    return [str(shard["sha256"]) for shard in manifest.get("shards", [])]


class ShippedCache:
    """Verifies and validates a cache and writes it into the step, split and filtered.

    Args:
        path: a cache directory or a `.jsonl` / `.jsonl.zst` file; null is the pocket cache inside the package.
        heldout: prompts to hold out for results, where no record says it is held out: a number, or at most a share.
        validation: prompts to hold out for choices, likewise.
        filters: what is left out, by name and in this order; null switches one off.
        policy: what to do with a bad line, `error` or `skip`.
    """

    PACKAGED: ClassVar[Path] = POCKET

    def __init__(
        self,
        path: str | None,
        heldout: Holdout,
        validation: Holdout,
        filters: Mapping[str, Filter | None],
        policy: Policy,
    ) -> None:
        self.path = self.PACKAGED if path is None else Path(path).expanduser()
        self.heldout, self.validation = heldout, validation
        self.filters, self.policy = (
            [record_filter for record_filter in filters.values() if record_filter is not None],
            policy,
        )

    def identity(self) -> dict[str, str] | None:
        """SHA-256 of the cache's manifest, or of its JSONL files where it has none; None while it does not exist.

        And how it is read, but for the cache inside the package, in which every prompt has one form.
        """
        if not self.path.exists():
            return None
        manifest = self.path / FILE_NAME
        files = [manifest] if manifest.is_file() else shard_paths(self.path)
        read = {} if self.path == self.PACKAGED else {"reading": READING}
        scores = self.path / SCORES / "scores.json"
        files += [scores] if scores.is_file() else []
        return {path.name: sha256(path) for path in files} | read

    def build(self, step: Step) -> dict[str, Any]:
        """Writes shards and manifest into `step.out`, and returns the manifest."""
        if not self.path.exists():
            raise DanteError(
                f"no cache at {self.path}",
                where="cache.source.path",
                allowed="a cache directory, a .jsonl or .jsonl.zst file, or null for the pocket cache",
            )
        source = verify(self.path) if (self.path / FILE_NAME).is_file() else {}
        self._check_teacher(step, source)
        records, skipped = scan(self.path, self.policy)
        if not records:
            raise DanteError(
                f"no line is a record; {len(skipped)} were skipped" if skipped else "the cache is empty",
                where=str(self.path),
                allowed="one JSON object per line",
                fix=skipped[0] if skipped else "name a file with records",
            )
        kept, filters = apply_all(records, self.filters, EXAMPLES)
        if not kept:
            raise DanteError("no records remain", where=str(self.path), fix="see what the filters dropped")
        free = len(prompts_to_draw_from(kept))
        kept = split_by_prompt(kept, self.heldout, self.validation, step.seed)
        bad = {"name": "bad_lines", "policy": self.policy, "dropped": len(skipped)}
        provenance = {
            "teacher": source.get("teacher"),
            "tokenizer": source.get("tokenizer"),
            "self_consistency": source.get("self_consistency"),
            "decoding": source.get("decoding"),
            "engine": source.get("engine"),
            "filters": [*source.get("filters", []), bad, *filters],
            "licences": source.get("licences"),
            "split": {
                "given": sorted({record.split for record in records if record.split}),
                "heldout_prompts": prompts_of(self.heldout, free),
                "validation_prompts": prompts_of(self.validation, free),
                "seed": step.seed,
            },
            "skipped_lines": skipped[:20],
        }
        manifest = CacheWriter(step.out).add(kept).seal(**provenance)
        if (self.path / SCORES).is_dir():
            self._check_scores(source)
            shutil.copytree(self.path / SCORES, step.out / SCORES, dirs_exist_ok=True)
        return manifest

    def _check_scores(self, manifest: dict[str, Any]) -> None:
        """Scores that stayed when the cache beside them was made anew speak of other answers."""
        measured = read_json(self.path / SCORES / "scores.json").get("answers")
        if measured is not None and measured != answers_of(manifest):
            raise DanteError(
                "the teacher's scores beside the cache were kept beside other answers",
                where=str(self.path / SCORES),
                allowed="scores that `python -m dante.evaluate keep` has put there for these answers, or none",
                fix=f"rm -r {self.path / SCORES}",
            )

    def _check_teacher(self, step: Step, manifest: dict[str, Any]) -> None:
        """A cache of another teacher than the one that the run evaluates would make its comparison meaningless."""
        folder = step.inputs.get("teacher")
        if folder is None or not (folder / TEACHER_FILE).is_file():
            return
        teacher = load_teacher(folder)
        written = manifest.get("teacher") or {}
        if written.get("sha256") and teacher.sha256 and written["sha256"] != teacher.sha256:
            raise DanteError(
                f"the cache was written by {written.get('name')} ({written['sha256'][:12]}…), the run's teacher is "
                f"{teacher.name} ({teacher.sha256[:12]}…)",
                where=str(self.path),
                fix="choose the cache's own teacher, or generate a cache with this one",
            )


class ShippedCandidates(ShippedCache):
    """The same, whose cache inside the package has several answers to every prompt (`dante/cache/candidates`)."""

    PACKAGED = CANDIDATES


class ShippedCoder(ShippedCache):
    """The same, whose cache inside the package was written by a coder of another family (`dante/cache/coder`)."""

    PACKAGED = CODER
