"""Every answer that a teacher has given, kept for good: generate once, seal as many caches from it as you like.

    provenance.json               who answers, with which tokenizer, template, engine and version
    answers-<key>.jsonl.zst       one finished batch, never changed again; zstd's checksum tells a damaged one
    .claims/<key>.lock            held by the worker that is busy with that batch

A shard is written beside its name and renamed, so it is there completely or not at all: SIGKILL loses the batch in
flight and nothing else. Answers are found by key (record id and sampling seed), so a second run asks only for what is
missing, whatever its prompts, filters or splits are. Several workers, on one machine or on several that share the
folder, fill one store: each batch is claimed under a lock, and looked for once more before it is run.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zstandard

from dante import console
from dante.cache.records.provenance import leaves_that_differ
from dante.errors import DanteError
from dante.system import locks
from dante.system.files import fingerprint, flush, read_json, write_bytes, write_json
from dante.teachers.engines.base import Generation

FILE_NAME = "provenance.json"
CLAIMS = ".claims"
LEVEL = 3


class AnswerStore:
    """The folder of finished batches.

    Args:
        directory: made if it is not there.
        provenance: what all answers in it have in common.

    Raises:
        DanteError: the folder holds answers of another provenance; the differences are named.
    """

    def __init__(self, directory: Path, provenance: dict[str, Any]) -> None:
        self.directory = directory
        (directory / CLAIMS).mkdir(parents=True, exist_ok=True)
        self._answers: dict[str, Generation] = {}
        self._read: set[str] = set()
        self._bind(provenance)
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> Generation:
        return self._answers[key]

    @property
    def provenance(self) -> dict[str, Any]:
        """What is on disk: with the engine's version once there are answers."""
        content: dict[str, Any] = read_json(self.directory / FILE_NAME)
        return content

    def bind_version(self, version: str) -> None:
        """The engine's version, which is known once it is open.

        Raises:
            DanteError: earlier answers come from another version.
        """
        with locks.hold(self.directory / CLAIMS / "provenance.lock", waiting=lambda owner: None):
            self._compare({**self.provenance, "version": version}, self.provenance)
            write_json(self.directory / FILE_NAME, {**self.provenance, "version": version})

    def refresh(self) -> None:
        """Reads the shards that have appeared since the last time; a damaged one is put aside and its batch redone."""
        for path in sorted(self.directory.glob("answers-*.jsonl.zst")):
            if path.name in self._read:
                continue
            try:
                lines = zstandard.ZstdDecompressor().decompress(path.read_bytes()).decode("utf-8").splitlines()
                answers = {line["key"]: Generation(**line["answer"]) for line in map(json.loads, lines)}
            except FileNotFoundError:  # another worker has just put it aside
                continue
            except (zstandard.ZstdError, ValueError, KeyError, TypeError):
                path.replace(path.with_suffix(".damaged"))
                console.note(f"{console.short(path)} is damaged; its answers are generated again")
                continue
            self._answers |= answers
            self._read.add(path.name)

    @contextmanager
    def claim(self, keys: Iterable[str]) -> Iterator[bool]:
        """Whether this worker may run the batch of these answers; False while another one does."""
        try:
            with locks.hold(self.directory / CLAIMS / f"{fingerprint(list(keys))}.lock"):
                self.refresh()
                yield True
        except locks.Busy:
            yield False

    def commit(self, answers: dict[str, Generation]) -> None:
        """Adds a finished batch; on return it is on the disk."""
        name = f"answers-{fingerprint(list(answers))}.jsonl.zst"
        lines = (json.dumps({"key": key, "answer": asdict(g)}, ensure_ascii=False) for key, g in answers.items())
        text = "".join(f"{line}\n" for line in lines).encode("utf-8")
        write_bytes(self.directory / name, zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(text))
        flush(self.directory)
        self._answers |= answers
        self._read.add(name)

    def _bind(self, provenance: dict[str, Any]) -> None:
        with locks.hold(self.directory / CLAIMS / "provenance.lock", waiting=lambda owner: None):
            if not (self.directory / FILE_NAME).is_file():
                if any(self.directory.glob("answers-*.jsonl.zst")):
                    raise DanteError(
                        f"the answers' {FILE_NAME} is gone",
                        where=str(self.directory),
                        fix="restore it, or move the folder away and generate anew",
                    )
                write_json(self.directory / FILE_NAME, provenance)
                return
            self._compare(provenance, {k: v for k, v in self.provenance.items() if k != "version"})

    def _compare(self, wanted: dict[str, Any], stored: dict[str, Any]) -> None:
        if "version" not in stored:
            wanted = {name: value for name, value in wanted.items() if name != "version"}
        differences = [
            str(difference)
            for key in dict.fromkeys([*stored, *wanted])
            for difference in leaves_that_differ(key, stored.get(key), wanted.get(key))
        ]
        if differences:
            raise DanteError(
                f"the answers there come from elsewhere (theirs and yours): {'; '.join(differences)}",
                where=str(self.directory),
                allowed="one teacher, tokenizer, template, engine and version per folder",
                fix="go on with what wrote them, or choose another folder: cache.store=DIR",
            )
