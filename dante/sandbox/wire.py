"""Plain Python values as JSON lines, between a program that nobody trusts and the judge of what it returns.

Both ends run this source; it needs the standard library alone. What arrives is rebuilt from built-in types, whatever
class the sender gave it, so that an object with an equality of its own arrives without it. What is no plain value stays
where it is, and a handle to it is sent (`o`).
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

DEEPEST = 200


class Unsendable(Exception):
    """A value that is no plain one, where a handle will not do."""


def pack(value: Any, handle: Callable[[Any], int] | None = None, depth: int = 0) -> Any:
    """A value as lists and strings. `handle(value)` gives the number of what is no plain value; None refuses it."""
    if depth > DEEPEST:
        raise Unsendable("nested too deeply")

    def inner(values: Iterable[Any]) -> list[Any]:
        return [pack(one, handle, depth + 1) for one in values]

    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        return ["i", hex(int.__add__(value, 0))]
    if isinstance(value, float):
        return ["f", float.hex(float.__add__(value, 0.0))]
    if isinstance(value, complex):
        whole = complex.__add__(value, 0j)
        return ["c", whole.real.hex(), whole.imag.hex()]
    if isinstance(value, str):
        return ["s", str.__str__(value)]
    if isinstance(value, (bytes, bytearray)):
        return ["y" if isinstance(value, bytes) else "a", bytes(memoryview(value)).hex()]
    if isinstance(value, list):
        return ["l", inner(list.__iter__(value))]
    if isinstance(value, tuple):
        return ["t", inner(tuple.__iter__(value))]
    if isinstance(value, set):
        return ["S", inner(set.__iter__(value))]
    if isinstance(value, frozenset):
        return ["F", inner(frozenset.__iter__(value))]
    if isinstance(value, dict):
        return ["d", [inner(pair) for pair in dict.items(value)]]
    if type(value) is range:
        return ["r", value.start, value.stop, value.step]
    if handle is None:
        raise Unsendable(f"a {type(value).__name__}")
    return ["o", handle(value)]


def unpack(data: Any, resolve: Callable[[int], Any] | None = None, depth: int = 0) -> Any:
    """The value of what `pack` made; `resolve(number)` gives what a handle stands for."""
    if depth > DEEPEST:
        raise Unsendable("nested too deeply")
    if data is None or data is True or data is False:
        return data
    kind, rest = data[0], data[1:]

    def inner(values: Iterable[Any]) -> list[Any]:
        return [unpack(one, resolve, depth + 1) for one in values]

    if kind == "i":
        return int(rest[0], 16)
    if kind == "f":
        return float.fromhex(rest[0])
    if kind == "c":
        return complex(float.fromhex(rest[0]), float.fromhex(rest[1]))
    if kind == "s":
        return str(rest[0])
    if kind in "ya":
        return (bytes if kind == "y" else bytearray).fromhex(rest[0])
    if kind in "ltSF":
        return {"l": list, "t": tuple, "S": set, "F": frozenset}[kind](inner(rest[0]))
    if kind == "d":
        return dict(map(inner, rest[0]))
    if kind == "r":
        return range(*map(int, rest))
    if kind == "o" and resolve is not None:
        return resolve(int(rest[0]))
    raise Unsendable(f"something of kind {kind!r}")


class Wire:
    """Lines to and from the other end.

    Args:
        read_fd: to read from.
        write_fd: to write to.
        most: bytes of the longest line.
    """

    def __init__(self, read_fd: int, write_fd: int, most: int) -> None:
        self.most = most
        self.reader, self.writer = open(read_fd, "rb"), open(write_fd, "wb")  # noqa: SIM115

    def send(self, message: Any) -> None:
        line = json.dumps(message).encode() + b"\n"
        if len(line) > self.most:
            raise Unsendable(f"{len(line)} bytes")
        self.writer.write(line)
        self.writer.flush()

    def receive(self) -> Any:
        """The next message; EOFError where the other end is gone."""
        line = self.reader.readline(self.most + 1)
        if not line.endswith(b"\n"):
            raise EOFError("the other end is gone" if len(line) <= self.most else "more than a message may hold")
        return json.loads(line)
