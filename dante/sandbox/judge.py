"""The judge: runs a task's own tests in a jail of its own, and asks the program that is judged for values only.

The tests call proxies. What comes back is rebuilt from built-in types (`wire`), so the comparison is this process's: a
program cannot claim that it passed, end the process before the tests, or return something that is equal to everything.
"""

import builtins
from collections.abc import Iterator
from typing import Any

from dante.sandbox.wire import Unsendable, Wire, pack, unpack  # in a jail it stands above


class Raised(Exception):
    """What the program raised."""


class Gone(Exception):
    """The program has ended, or says what no answer is."""


def ask(wire: Wire, *question: Any) -> Any:
    """The program's answer to a question."""
    try:
        wire.send(list(question))
        kind, *rest = wire.receive()
        if kind == "raised":
            raise Raised(f"{rest[0]}: {rest[1]}")
        return unpack(rest[0], lambda number: Thing(wire, number))
    except Raised:
        raise
    except RecursionError:
        raise
    except BaseException as error:
        raise Gone(f"{type(error).__name__}: {error}") from None


class Thing:
    """Something of the program's that is no plain value: it stays there. It is equal to itself alone."""

    def __init__(self, wire: Wire, number: int) -> None:
        object.__setattr__(self, "_wire", wire)
        object.__setattr__(self, "_number", number)

    def _ask(self, what: str, *rest: Any) -> Any:
        return ask(self._wire, what, self._number, *rest)

    def __call__(self, *positional: Any, **keyword: Any) -> Any:
        return self._ask("call", packed(list(positional)), packed(keyword))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, packed(value))

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", packed(key))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._ask("list"))

    def __len__(self) -> int:
        return int(self._ask("len"))


def packed(value: Any) -> Any:
    """A value for the program; a thing of its own goes back as its handle."""

    def handle(one: Any) -> int:
        if type(one) is not Thing:
            raise Unsendable(f"the test hands over a {type(one).__name__}")
        number: int = object.__getattribute__(one, "_number")
        return number

    return pack(value, handle)


def verdict(task: dict[str, Any], wire: Wire) -> list[str]:
    """`["passed", ""]`, `["failed", why]`, or `["unfit", why]` where the tests themselves cannot be run here.

    Args:
        task: `setup`, code that the tests may use; `tests`, code; `entry`, a name that `check(…)` is called with, or
            None where the tests are assertions about the program's names; `defines`, built-in names that a program
            may define for them (any other one stays what it is: a program's own `set` would decide what is equal).
        wire: to the program.
    """
    try:
        kind, *rest = wire.receive()  # of the program as it was loaded
    except BaseException as error:
        return ["failed", f"it ended while it was loaded ({type(error).__name__})"]
    if kind == "raised":
        return ["failed", f"{rest[0]}: {rest[1]}"]
    names: dict[str, Any] = {"__name__": "tests"}
    try:
        if task["entry"] is not None:
            exec(compile(task["setup"], "<setup>", "exec"), names)
        for name in ask(wire, "names"):
            own = task["entry"] is None and (name in task["defines"] or not hasattr(builtins, name))
            if own and name not in names:
                names[name] = ask(wire, "name", name)
        if task["entry"] is None:
            exec(compile(task["setup"], "<setup>", "exec"), names)
        elif task["entry"] not in ask(wire, "names"):
            return ["failed", f"it has no {task['entry']}"]
        else:
            names[task["entry"]] = candidate = ask(wire, "name", task["entry"])
        exec(compile(task["tests"], "<tests>", "exec"), names)
        if task["entry"] is not None:
            names["check"](candidate)
    except AssertionError as error:
        return ["failed", f"a test does not hold {str(error)[:200]}".strip()]
    except (Raised, Gone, RecursionError) as error:
        return ["failed", str(error)[:300]]
    except Unsendable as error:
        return ["unfit", str(error)[:300]]
    except BaseException as error:  # of a value that the tests did not expect
        return ["failed", f"{type(error).__name__}: {str(error)[:300]}"]
    return ["passed", ""]
