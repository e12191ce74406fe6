"""Rows on their way into files: every finished batch is on the disk at once, and files are joined from them when full.

    .logits-<kind>.partial/<batch>.safetensors   a finished batch; gone once its records are in a file
    .logits-<kind>.lock                          held by the command that works here
    logits-<kind>-00000.safetensors              RECORDS_PER_FILE records, the last file fewer

Files are joined in the order of the records, not of the batches, so their bytes depend neither on where a command was
killed nor on the size of its batches. Whatever is moved is in its new place before it leaves the old one.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path

from dante import console
from dante.cache.records.record import Record
from dante.cache.sparse.files import Encoded, Header, SidecarFile, file_name, file_paths, text_hash, write_encoded
from dante.cache.sparse.sidecar import check_same
from dante.errors import DanteError
from dante.system import locks
from dante.system.files import fingerprint, flush

RECORDS_PER_FILE = 500
Key = tuple[str, bytes]  # id of a record, hash of its text


@contextmanager
def opened(directory: Path, header: Header, wanted: Sequence[Record]) -> Iterator["Store"]:
    """The store of a folder, which is made if it is not there, held against other commands.

    Args:
        directory: where the files lie.
        header: what they are made with.
        wanted: records in the order in which their rows go into files.

    Raises:
        DanteError: another command works there, or files of another making, or of other texts, are there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = directory / f".logits-{header.kind}.lock"
    try:
        with locks.hold(lock):
            yield Store(directory, header, wanted)
    except locks.Busy as busy:
        raise DanteError(
            f"{header.kind} logits are being written here by {busy}",
            where=str(lock),
            fix=f"wait until that has ended, or write others elsewhere: --out {directory}-{header.kind}",
        ) from None


class Store:
    """The folder, see `opened`.

    Attributes:
        missing: wanted records without rows, in their order.
    """

    def __init__(self, directory: Path, header: Header, wanted: Sequence[Record]) -> None:
        self.directory, self.header = directory, header
        self.partial = directory / f".logits-{header.kind}.partial"
        self.partial.mkdir(exist_ok=True)
        self._next_number = 0
        self._short: SidecarFile | None = None  # the last file, where it has room
        self._joined: dict[str, bytes] = {}
        for path in file_paths(directory, header.kind):
            self._note_joined(self._checked(SidecarFile(path)))
        self._batches: dict[Path, SidecarFile] = {}
        self._unjoined: dict[Key, tuple[SidecarFile, int]] = {}
        for path in sorted(self.partial.glob("*.safetensors")):
            self._note_batch(path)
        self._drop_joined()
        self._queue = deque(record for record in wanted if not self._is_joined(record))
        self.missing = [record for record in self._queue if _key(record) not in self._unjoined]

    def add(self, rows: Sequence[Encoded]) -> None:
        """A finished batch; on return it is on the disk."""
        path = self.partial / f"{fingerprint([row.record_id for row in rows])}.safetensors"
        write_encoded(path, self.header, rows)
        flush(self.partial)
        self._note_batch(path)
        self._join(rest=False)

    def finish(self) -> None:
        """Joins what is left over; to be called when nothing is missing."""
        self._join(rest=True)
        if not self._unjoined:  # else an earlier command wanted other records, and somebody may go on with it
            shutil.rmtree(self.partial)

    def _join(self, rest: bool) -> None:
        """Writes the files that have become full, and with `rest` one that has not."""
        while True:
            there = [] if self._short is None else [self._short[place] for place in range(len(self._short))]
            room = RECORDS_PER_FILE - len(there)
            ready = list(takewhile(self._unjoined.__contains__, map(_key, islice(self._queue, room))))
            if not ready or (len(ready) < room and not rest):
                return
            number = self._next_number - (self._short is not None)
            path = self.directory / file_name(self.header.kind, number)
            found = [self._unjoined[key] for key in ready]
            write_encoded(path, self.header, there + [file[place] for file, place in found])
            flush(self.directory)
            for _ in ready:
                self._queue.popleft()
            self._note_joined(SidecarFile(path))
            self._drop_joined()

    def _note_joined(self, file: SidecarFile) -> None:
        self._next_number = 1 + int(file.path.stem.rsplit("-", 1)[1])
        self._short = file if len(file) < RECORDS_PER_FILE else None
        self._joined |= dict(zip(file.ids, file.text_hashes(), strict=True))

    def _note_batch(self, path: Path) -> None:
        try:
            file = SidecarFile(path)
        except DanteError:
            console.note(f"{console.short(path)} is damaged; its rows are made again")
            path.unlink()
            return
        self._batches[path] = self._checked(file)
        keys = zip(file.ids, file.text_hashes(), strict=True)
        self._unjoined |= {key: (file, place) for place, key in enumerate(keys) if key[0] not in self._joined}

    def _drop_joined(self) -> None:
        """Deletes batches whose records are all in files."""
        self._unjoined = {key: place for key, place in self._unjoined.items() if key[0] not in self._joined}
        for path in [path for path, file in self._batches.items() if self._joined.keys() >= set(file.ids)]:
            path.unlink()
            del self._batches[path]

    def _is_joined(self, record: Record) -> bool:
        found = self._joined.get(record.id)
        if found is not None and found != text_hash(record):
            raise DanteError(
                f"the logits of record {record.id} were made for another text",
                where=str(self.directory),
                fix=self._otherwise(),
            )
        return found is not None

    def _checked(self, file: SidecarFile) -> SidecarFile:
        check_same(file.header, self.header, file.path, self._otherwise())
        return file

    def _otherwise(self) -> str:
        """What to type where these files stand in the way."""
        kind, directory = self.header.kind, console.short(self.directory)
        return (
            f"write the new ones elsewhere, --out {directory}-{kind}-{self.header.size}, or delete what is there: "
            f"rm -rf {directory}/logits-{kind}-*.safetensors {directory}/.logits-{kind}.partial"
        )


def _key(record: Record) -> Key:
    return record.id, text_hash(record)
