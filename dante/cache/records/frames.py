"""Shards as blocks of whole lines that can be read alone: independent zstd frames, or stretches of plain JSONL.

A shard that the writer made is a row of small zstd frames. `zstd -d` and every reader that goes across frames see one
stream, and a record costs one frame instead of the whole shard. What others made is read too: one huge frame is one
block, and frames that cut lines (`pzstd`) are joined until the lines are whole.

Why 256 records at level 9: on the pocket cache this compresses 17 times as many records per second as level 19 and
takes 1.3 times the bytes of one frame at level 19: 0.19 is the price of small frames, 0.11 of the level
(benchmarks/README.md).
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

from dante.errors import DanteError

RECORDS_PER_FRAME = 256
LEVEL = 9
REBUILD = "rebuild the cache, or take its files from where they were published"
_CHUNK = 1 << 20


class Block(NamedTuple):
    """A stretch of a shard that holds whole lines.

    Attributes:
        offset: of its first byte in the file.
        size: in the file, in bytes.
        text: its lines, decompressed.
    """

    offset: int
    size: int
    text: bytes


# First bytes of files that are no lines of JSON, what they are, and what to do.
_OTHER_FILES = (
    (b"\x1f\x8b", "compressed with gzip", "gunzip it"),
    (b"PAR1", "Parquet", "prompts=parquet reads it; of records write JSON lines: pandas' "
     "df.to_json('FILE.jsonl', orient='records', lines=True)"),
    (b"PK\x03\x04", "a zip archive", "unzip it"),
    (b"\xff\xfe", "text in UTF-16", "iconv -f UTF-16 -t UTF-8 FILE > FILE.jsonl"),
    (b"\xfe\xff", "text in UTF-16", "iconv -f UTF-16 -t UTF-8 FILE > FILE.jsonl"),
)  # fmt: skip
_ZSTD = b"\x28\xb5\x2f\xfd"


def check_kind(raw: io.BufferedReader, path: Path) -> None:
    """Refuses a file that is something else than its name says: by its first bytes, before a line of it is read."""
    first = raw.peek(4)[:4]
    for magic, what, fix in _OTHER_FILES:
        if first.startswith(magic):
            raise DanteError(f"the file is {what}", where=str(path), allowed="JSON lines, plain or as .zst", fix=fix)
    if is_compressed(path) and first[:1] in (b"{", b"["):
        raise DanteError("the file is not compressed", where=str(path), fix=f"rename it to {path.with_suffix('')}")
    if not is_compressed(path) and first == _ZSTD:
        raise DanteError("the file is compressed with zstd", where=str(path), fix=f"rename it to {path}.zst")


def compressor() -> zstandard.ZstdCompressor:
    """Of frames with a checksum, so that a damaged one is noticed wherever it is read."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)


def is_compressed(path: Path) -> bool:
    return path.name.endswith(".zst")


def pieces(raw: io.BufferedIOBase, path: Path) -> Iterator[tuple[bytes, int]]:
    """Decompressed pieces of a `.zst` file, each with the compressed bytes of its frame if it ends one, else 0.

    Raises:
        DanteError: a frame is damaged, or the file ends inside one (zstandard's own stream reader would not say so).
    """
    data = raw.read(_CHUNK)
    while data:
        frame, consumed = zstandard.ZstdDecompressor().decompressobj(), 0
        while not frame.eof:
            if not data:
                raise DanteError("the shard is damaged (it ends inside a frame)", where=str(path), fix=REBUILD)
            try:
                text = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise DanteError(f"the shard is damaged ({error})", where=str(path), fix=REBUILD) from None
            rest = frame.unused_data if frame.eof else b""
            consumed += len(data) - len(rest)
            data = rest or raw.read(_CHUNK)
            yield text, consumed if frame.eof else 0


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a shard, `.jsonl` or `.jsonl.zst`, without their line breaks; no frame is held whole."""
    with path.open("rb") as raw:
        check_kind(raw, path)
        if not is_compressed(path):
            yield from (line.rstrip(b"\n") for line in raw)
            return
        rest = b""
        for text, _ in pieces(raw, path):
            *whole, rest = (rest + text).split(b"\n")
            yield from whole
        if rest:
            yield rest


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a shard in order; together they are the whole file."""
    with path.open("rb") as raw:
        check_kind(raw, path)
        yield from _joined(_frames(raw, path) if is_compressed(path) else _stretches(raw))


def read_block(path: Path, offset: int, size: int) -> bytes:
    """The text of one block.

    Raises:
        DanteError: the file is not what it was when its blocks were found.
    """
    with path.open("rb") as raw:
        raw.seek(offset)
        data = raw.read(size)
    if len(data) != size:
        raise DanteError(f"the shard ends before byte {offset + size}", where=str(path), fix=REBUILD)
    if not is_compressed(path):
        return data
    return b"".join(text for text, _ in pieces(io.BytesIO(data), path))


def _frames(raw: io.BufferedIOBase, path: Path) -> Iterator[Block]:
    offset, texts = 0, []
    for text, size in pieces(raw, path):
        texts.append(text)
        if size:
            yield Block(offset, size, b"".join(texts))
            offset, texts = offset + size, []


def _stretches(raw: Iterable[bytes]) -> Iterator[Block]:
    offset, kept = 0, []
    for line in raw:
        kept.append(line)
        if len(kept) == RECORDS_PER_FRAME:
            text = b"".join(kept)
            yield Block(offset, len(text), text)
            offset, kept = offset + len(text), []
    if kept:
        text = b"".join(kept)
        yield Block(offset, len(text), text)


def _joined(raw_blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks that end with a line break, but for the last one."""
    held: list[Block] = []
    for block in raw_blocks:
        held.append(block)
        if block.text.endswith(b"\n"):
            yield _one(held)
            held = []
    if held:
        yield _one(held)


def _one(held: list[Block]) -> Block:
    return Block(held[0].offset, sum(block.size for block in held), b"".join(block.text for block in held))
