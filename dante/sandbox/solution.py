"""The program that is judged, and its ear: runs in a jail of its own and answers what the judge asks of it.

It holds no test and no verdict. It may answer what it likes: an answer is data, and the judge compares it.
"""

import sys
from collections.abc import Callable
from typing import Any

from dante.sandbox.wire import Wire, pack, unpack  # in a jail it stands above


def serve(source: str, wire: Wire) -> None:
    """Run a program, then answer questions about its names until the judge goes away."""
    things: list[Any] = []
    names: dict[str, Any] = {"__name__": "solution"}

    def handle(value: Any) -> int:
        things.append(value)
        return len(things) - 1

    def resolve(number: int) -> Any:
        return things[number]

    def answer(question: list[Any]) -> Any:
        what, *rest = question
        if what == "names":
            return [name for name in names if isinstance(name, str) and name.isidentifier()]
        if what == "name":
            return names[rest[0]]
        value = resolve(rest[0])
        if what == "call":
            positional, keyword = (unpack(data, resolve) for data in rest[1:3])
            return value(*positional, **keyword)
        if what == "get":
            return getattr(value, rest[1])
        if what == "set":
            return setattr(value, rest[1], unpack(rest[2], resolve))
        if what == "item":
            return value[unpack(rest[1], resolve)]
        if what == "list":
            return list(value)
        if what == "len":
            return len(value)
        raise ValueError(what)

    def told(work: Callable[[], Any]) -> None:
        try:
            value = work()
            wire.send(["ok", pack(value, handle)])
        except BaseException as error:  # of a program that nobody trusts: SystemExit, too
            try:
                wire.send(["raised", type(error).__name__, str(error)[:500]])
            except BaseException:
                wire.send(["raised", "Exception", "an exception that cannot be shown"])

    sys.setrecursionlimit(10000)
    told(lambda: exec(compile(source, "<solution>", "exec"), names))
    while True:
        question = wire.receive()
        told(lambda: answer(question))  # noqa: B023
