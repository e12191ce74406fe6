"""Shuts this process in and becomes another program: the first thing that runs in a sandbox, as a script of its own.

`python -I -S jail.py SPEC`, where SPEC is JSON: `python` in `prefix`, its `arguments`, `uid` (None: this user's own, in
a user namespace), `limits`, `fds` (that stay open). Standard library alone, so that any interpreter of this machine can
run it. In order:

1. namespaces of its own: network (no interface is up), processes, mounts, System V objects, host name; where the user
   is not root, a user namespace first, in which it is nobody of consequence outside;
2. every mount becomes read-only, and a small memory file system is put over each place that anybody may write to;
3. a first process of the process namespace waits for the program and ends with it: the kernel then kills what is left,
   daemons included;
4. the program's user, no privileges and no way to get new ones, limits, an empty environment.

What cannot be done is an error that goes to standard error with exit code 97; nothing is run then.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any, NoReturn

FAILED = 97
SCRATCH = "/tmp"
WRITABLE = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/var/lock", "/dev/mqueue")
_CLONE = {"NEWNS": 0x20000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWUSER": 0x10000000, "NEWPID": 0x20000000,
          "NEWNET": 0x40000000}  # fmt: skip
LENT = ("/mnt", "/media", "/srv", "/opt")
_MS_BIND, _MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 4096, 2, 4, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd")]


_libc = ctypes.CDLL(None, use_errno=True)


def main(spec: dict[str, Any]) -> None:
    uid = spec["uid"]
    own = os.getuid(), os.getgid()
    kinds = ["NEWNS", "NEWUTS", "NEWIPC", "NEWPID", "NEWNET", *(["NEWUSER"] if uid is None else [])]
    _do(_libc.unshare(sum(_CLONE[kind] for kind in kinds)), "unshare " + ", ".join(kinds))
    if uid is None:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{own[0]} {own[0]} 1")
        _write("/proc/self/gid_map", f"{own[1]} {own[1]} 1")
    _do(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
    _read_only()
    for place in WRITABLE:
        if os.path.isdir(place) and not os.path.islink(place):
            options = f"size={spec['limits']['file_mib']}m,mode=1777,nr_inodes=4096".encode()
            flags = _MS_NOSUID | _MS_NODEV
            _do(_libc.mount(b"tmpfs", place.encode(), b"tmpfs", flags, options), f"cover {place}")
    python = _lend(spec["prefix"], spec["python"])
    first = os.fork()  # into the process namespace, as its first process
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _do(_libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV, None), "mount /proc")
    _do(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up new privileges")
    program = os.fork()
    if not program:
        _become(spec, python)
    while True:  # of the children that the kernel hands over, too
        ended, status = os.wait()
        if ended == program:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _lend(prefix: str, python: str) -> str:
    """The interpreter at a place that everybody may look into: its own may lie in a home."""
    place = next((place for place in LENT if os.path.isdir(place) and not os.path.islink(place)), None)
    if place is None:
        _fail(f"find one of {', '.join(LENT)} to put the interpreter at")
    _do(_libc.mount(b"tmpfs", place.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, b"size=1m,mode=755"), f"cover {place}")
    home = os.path.join(place, "python")
    os.mkdir(home)
    _do(_libc.mount(prefix.encode(), home.encode(), None, _MS_BIND, None), f"put {prefix} at {home}")
    return os.path.join(home, os.path.relpath(python, prefix))


def _become(spec: dict[str, Any], python: str) -> None:
    os.setsid()
    _limit(spec["limits"])
    if spec["uid"] is not None:
        os.setgroups([])
        os.setresgid(spec["uid"], spec["uid"], spec["uid"])
        os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    os.chdir(SCRATCH)
    open_fds = {0, 1, 2, *spec["fds"]}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in open_fds:
            with contextlib.suppress(OSError):  # the listing's own is closed already
                os.close(int(name))
    for fd in spec["fds"]:
        os.set_inheritable(fd, True)
    os.execve(python, [python, *spec["arguments"]], {})


def _limit(limits: dict[str, Any]) -> None:
    mib = 2**20
    for what, most in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_mib"] * mib),
        (resource.RLIMIT_FSIZE, limits["file_mib"] * mib),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _read_only() -> None:
    attributes = _MountAttributes(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    size = ctypes.sizeof(attributes)
    result = _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, ctypes.byref(attributes), size)
    _do(result, "make every mount read-only (Linux 5.12)")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        _fail(f"write {path}: {error}")


def _do(result: int, what: str) -> None:
    if result != 0:
        _fail(f"{what}: {os.strerror(ctypes.get_errno())}")


def _fail(what: str) -> NoReturn:
    sys.stderr.write(f"cannot {what}\n")
    sys.stderr.flush()
    os._exit(FAILED)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
