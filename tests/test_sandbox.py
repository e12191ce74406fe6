"""Programs that nobody has read: none leaves its jail, none outlives its limits, none passes without being right."""

import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from dante.errors import DanteError
from dante.sandbox import process
from dante.sandbox.limits import Limits
from dante.sandbox.process import check_sandbox
from dante.sandbox.run import Task, Verdict, run


def can_be_shut_in() -> bool:
    try:
        check_sandbox()
    except DanteError:
        return False
    return True


jailed = pytest.mark.skipif(not can_be_shut_in(), reason="this machine allows no namespaces")
LIMITS = Limits(cpu_s=2, wall_s=6.0, memory_mib=256, file_mib=4, processes=8)
DOUBLES = Task("", "def check(double):\n    assert double(2) == 4\n    assert double('ab') == 'abab'\n", "double")
RIGHT = "def double(x):\n    return x + x\n"


def judged(program: str, task: Task = DOUBLES) -> Verdict:
    return run(program, task, LIMITS)


@jailed
def test_what_is_right_passes_and_what_is_wrong_does_not() -> None:
    assert judged(RIGHT).passed
    assert judged("def double(x):\n    return [x, x]\n").outcome == "failed"
    assert judged("def twice(x):\n    return x + x\n").why == "it has no double"
    assert judged("def double(x:\n").outcome == "failed"
    assert "raise" in judged("def double(x):\n    raise KeyError('raise')\n").why


@jailed
def test_a_program_sees_nothing_of_the_machine(tmp_path: Path) -> None:
    """Neither files nor sockets that lie in the file system: a network namespace does not stop those."""
    (tmp_path / "secret").write_text("42")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen()
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and os.geteuid() == 0:
            os.chmod(folder, os.stat(folder).st_mode | 0o755)
    os.chmod(tmp_path / "s", 0o777)
    look = (
        "import os, socket\ndef look(what, place):\n"
        "    if what == 'list': return sorted(os.listdir(place))\n"
        "    try:\n        socket.socket(socket.AF_UNIX).connect(place) if what == 'connect' else open(place)\n"
        "    except OSError as error: return error.errno\n    return 0\n"
    )
    tests = (
        f"def check(look):\n    assert look('open', {str(tmp_path / 'secret')!r}) == 2\n"
        f"    assert look('connect', {str(tmp_path / 's')!r}) == 2\n"
        "    assert look('open', '/etc/passwd') == 2\n    assert look('list', '/old') == []\n"
        "    known = 'bin dev etc lib lib32 lib64 libx32 old packages proc python sbin tmp usr'\n"
        "    assert set(look('list', '/')) <= set(known.split())\n"
    )
    found = run(look, Task("", tests, "look"), LIMITS)
    server.close()
    assert found.passed, found


@jailed
def test_numpy_is_lent_to_programs_and_tests() -> None:
    program = "import numpy as np\ndef double(x):\n    return (np.array([x]) * 2).tolist()[0]\n"
    task = Task("", "import numpy as np\ndef check(f):\n    assert np.allclose(f(1.5), 3.0)\n", "double")
    assert run(program, task, Limits()).passed


@jailed
def test_what_is_lent_may_lie_where_the_jail_is_built_and_is_no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment below /tmp, which the jail covers: nothing that was held open for it stays open."""
    look = """
import os
def look(x):
    import lent
    ways = []
    for pid in ("1", "self"):
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in names:
            try:
                ways.append(os.listdir(f"/proc/{pid}/fd/{name}/.."))
            except OSError:
                pass
    return [lent.VALUE, ways]
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        package = Path(folder) / "lent"
        package.mkdir()
        (package / "__init__.py").write_text("VALUE = 7")
        os.chmod(folder, 0o755)
        monkeypatch.setattr(process, "packages", lambda: [str(package)])
        found = run(look, Task("", "def check(look):\n    assert look(0) == [7, []], look(0)\n", "look"), LIMITS)
    assert found.passed, found


@jailed
def test_half_a_character_in_an_exception_is_a_failure_like_any_other() -> None:
    found = judged("def double(x):\n    raise ValueError('\\ud800')\n")
    assert found.outcome == "failed"
    found.why.encode()


HOSTILE = {
    "endless loop": "while True: pass",
    "endless loop when called": "def double(x):\n    while True: pass",
    "sleep": "import time\ntime.sleep(1000)",
    "memory": "def double(x):\n    return bytearray(10**10)",
    "memory, piece by piece": "a = []\nwhile True: a.append(bytearray(10**6))",
    "fork bomb": "import os\nwhile True: os.fork()",
    "threads that never end": "import threading, time\nfor _ in range(100):\n"
    "    threading.Thread(target=time.sleep, args=(1000,)).start()\ndef double(x): return x",
    "endless output": "import sys\nwhile True: sys.stdout.write('x' * 10**6); sys.stderr.write('y' * 10**6)",
    "endless answer": "def double(x):\n    return 'x' * (30 * 2**20)",
    "nested answer": "def double(x):\n    a = []\n    for _ in range(10**5): a = [a]\n    return a",
    "leaves": "import os\nos._exit(0)",
    "leaves when called": "import os\ndef double(x): os._exit(0)",
    "sys.exit": "import sys\ndef double(x): sys.exit(0)",
    "equal to everything": "class All:\n    def __eq__(self, other): return True\n    def __bool__(self): return True\n"
    "def double(x): return All()",
    "a list that is equal to everything": "class All(list):\n    def __eq__(self, other): return True\n"
    "def double(x): return All()",
    "an int that is equal to everything": "class All(int):\n    def __eq__(self, other): return True\n"
    "    def __index__(self): return 4\n    def __add__(self, other): return 4\ndef double(x): return All(7)",
    "asserts are switched off": "import builtins\nbuiltins.AssertionError = KeyError\ndef double(x): return 0",
    "writes a verdict": "import os, json\nfor fd in range(3, 64):\n    try: os.write(fd, b'[\"passed\", \"\"]')\n"
    "    except OSError: pass\ndef double(x): return 0",
    "says it returned": "def double(x):\n    import os\n    for fd in range(3, 64):\n"
    "        try: os.write(fd, b'[\"ok\", true]\\n')\n        except OSError: pass\n    os._exit(0)",
    "kills everything": "import os, signal\nos.kill(-1, signal.SIGKILL)\ndef double(x): return x",
    "kills its parents": "import os, signal\nfor pid in range(1, 70000):\n    try: os.kill(pid, signal.SIGKILL)\n"
    "    except OSError: pass\ndef double(x): return x",
}  # fmt: skip


@jailed
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_does_not_pass_and_ends_within_its_limits(name: str) -> None:
    began_s = time.monotonic()
    found = judged(HOSTILE[name])
    assert found.outcome in ("failed", "timeout"), found
    assert time.monotonic() - began_s < LIMITS.wall_s + 4
    assert judged(RIGHT).passed  # the next one is judged as ever


@jailed
def test_a_program_finds_no_network_no_environment_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANTE_SECRET", "42")
    look = (
        "import os, socket\ndef look(what):\n"
        "    if what == 'environment': return sorted(set(os.environ) - {'LC_CTYPE'})\n"
        "    if what == 'processes': return [n for n in os.listdir('/proc') if n.isdigit() and int(n) > 2]\n"
        "    if what == 'root': return os.geteuid() == 0\n"
        "    try: socket.create_connection(('127.0.0.1', 80), 1)\n"
        "    except OSError as error: return error.errno in (99, 101)\n    return False\n"
    )
    tests = (
        "def check(look):\n    assert look('environment') == []\n    assert look('processes') == []\n"
        "    assert look('root') is False\n    assert look('network') is True\n"
    )
    found = run(look, Task("", tests, "look"), LIMITS)
    assert found.passed, found


@jailed
def test_nothing_outside_the_scratch_directory_changes(tmp_path: Path) -> None:
    """A program of any user's: the folder is writable for all, and so is what stands in it."""
    for part in (tmp_path, *list(tmp_path.parents)[:3]):
        if part != Path("/tmp"):
            os.chmod(part, 0o777)
    kept = tmp_path / "kept"
    kept.write_text("kept")
    kept.chmod(0o666)
    (tmp_path / "shared").mkdir()
    spoil = f"""
import os, shutil
def spoil(x):
    done = []
    for work in (
        lambda: open({str(kept)!r}, "w").write("spoilt"),
        lambda: os.remove({str(kept)!r}),
        lambda: open({str(tmp_path / "new")!r}, "w").write("new"),
        lambda: os.symlink("/etc/passwd", {str(tmp_path / "link")!r}),
        lambda: os.link({str(kept)!r}, {str(tmp_path / "hard")!r}),
        lambda: shutil.rmtree({str(tmp_path)!r}),
        lambda: os.rename({str(tmp_path / "shared")!r}, {str(tmp_path / "moved")!r}),
        lambda: open("/var/tmp/dante-spoilt", "w").write("x"),
        lambda: open("/dev/shm/dante-spoilt", "w").write("x"),
    ):
        try:
            work()
            done.append(True)
        except OSError:
            done.append(False)
    return done
"""
    judged_by = Task("", "def check(spoil):\n    spoil(0)\n", "spoil")
    assert run(spoil, judged_by, LIMITS).passed  # it ran, and did what it could
    assert kept.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "shared"]
    assert not Path("/var/tmp/dante-spoilt").exists()
    assert not Path("/dev/shm/dante-spoilt").exists()


@jailed
def test_a_daemon_does_not_outlive_its_program() -> None:
    name = f"dante-daemon-{os.getpid()}"
    daemon = (
        "import os, time\ndef double(x):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
        f"            open('/proc/self/comm', 'w').write({name[:15]!r})\n            time.sleep(600)\n"
        "        os._exit(0)\n"
        "    return x + x\n"
    )
    assert judged(daemon).passed
    time.sleep(0.3)
    left = [path for path in Path("/proc").glob("[0-9]*/comm") if name[:15] in _text(path)]
    assert left == []


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@jailed
def test_objects_of_the_program_stay_there_and_can_be_used() -> None:
    tree = (
        "class Node:\n    def __init__(self, value):\n        self.value, self.left = value, None\n"
        "def height(node):\n    return 0 if node is None else 1 + height(node.left)\n"
    )
    tests = "root = Node(1)\nroot.left = Node(2)\nassert height(root) == 2\nassert root.left.value == 2\n"
    assert judged(tree, Task("", tests, None)).passed
    assert not judged(tree, Task("", tests + "assert Node(1) == Node(1)\n", None)).passed


@jailed
def test_a_program_does_not_decide_what_is_equal() -> None:
    """A builtin that the question does not ask for stays what it is in the tests."""
    cheat = "def set(values): return 0\ndef sum(a, b): return 7\ndef f(x): return x\n"
    assert not judged(cheat, Task("", "assert set(f([1])) == set([2])\n", None)).passed
    assert judged(cheat, Task("", "assert sum(3, 4) == 7\n", None, ("sum",))).passed
    assert not judged(cheat, Task("", "assert sum(3, 4) == 7\n", None)).passed


@jailed
def test_tests_that_cannot_be_asked_here_are_told_apart() -> None:
    hands_over = Task("", "def check(double):\n    double(lambda x: x)\n", "double")
    assert judged(RIGHT, hands_over).outcome == "unfit"


@jailed
def test_plain_values_arrive_as_they_are() -> None:
    tests = """
def check(same):
    numbers = [None, True, -7, 10**300, 0.1, float("inf"), 1j]
    for value in [*numbers, "é🙂", b"\\x00", [1, (2, {3: {4}})], frozenset({5}), range(3)]:
        found = same(value)
        assert type(found) is type(value) and found == value, value
    assert same(float("nan")) != same(float("nan"))
"""
    assert judged("def same(x):\n    return x\n", Task("", tests, "same")).passed


def test_a_machine_that_shuts_nothing_in_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    check_sandbox.cache_clear()
    monkeypatch.setattr(process, "PROBE", "import sys, os\nprint('a network', file=sys.stderr)\nos._exit(1)")
    with pytest.raises(DanteError, match=r"cannot be shut in on this machine: .*allow_code_execution=false"):
        check_sandbox()
    check_sandbox.cache_clear()
