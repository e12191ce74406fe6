"""Shuts this process in and becomes another program: the first thing that runs in a sandbox, as a script of its own.

`python -I -S jail.py SPEC`, where SPEC is JSON: `python` in `prefix`, its `arguments`, `uid` (None: this user's own, in
a user namespace), `limits`, `fds` (that stay open). Standard library alone, so that any interpreter of this machine can
run it. In order:

1. namespaces of its own: network (no interface is up), processes, mounts, System V objects, host name; where the user
   is not root, a user namespace first, in which it is nobody of consequence outside;
2. a file system of its own, read-only: the interpreter, the system's libraries and programs, packages that are lent, a
   few devices. Besides these nothing of the machine can be named, no home, no socket, nobody's files. What can be
   written to are small memory file systems;
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
SCRATCH, PYTHON, PACKAGES = "/tmp", "/python", "/packages"
# Where the new file system is put together; and below it, where the old one goes before it is let go of.
_NEW, _OLD = "/tmp", "old"
# Libraries and programs of the system, without anybody's data.
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_CLONE = {"NEWNS": 0x20000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWUSER": 0x10000000, "NEWPID": 0x20000000,
          "NEWNET": 0x40000000}  # fmt: skip
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MS_BIND, _MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 4096, 2, 4, 16384, 1 << 18
_MNT_DETACH = 2
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
    _enter_new_root(spec)
    python = os.path.join(PYTHON, os.path.relpath(spec["python"], spec["prefix"]))
    first = os.fork()  # into the process namespace, as its first process
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _do(_libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV, None), "mount /proc")
    _do(_libc.umount2(f"/{_OLD}".encode(), _MNT_DETACH), "let go of the machine's file system")
    _do(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up new privileges")
    program = os.fork()
    if not program:
        _become(spec, python)
    while True:  # of the children that the kernel hands over, too
        ended, status = os.wait()
        if ended == program:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _enter_new_root(spec: dict[str, Any]) -> None:
    """A file system of its own, with the old one below it until processes can be seen."""
    # Held before it begins: an environment may lie below the folder that is covered now.
    lent = {PYTHON: _held(spec["prefix"])}
    lent |= {os.path.join(PACKAGES, os.path.basename(package)): _held(package) for package in spec["packages"]}
    _memory(_NEW, "size=4m,mode=755")
    for place in _SYSTEM:
        if os.path.islink(place):
            os.symlink(os.readlink(place), _NEW + place)
        elif os.path.isdir(place):
            _bind(place, _NEW + place)
    for place, held in lent.items():
        _bind(f"/proc/self/fd/{held}", _NEW + place)
        os.close(held)  # from it one could walk up into the machine's file system
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{_NEW}/dev/{name}")
    if os.path.isfile("/etc/ld.so.cache"):
        _bind("/etc/ld.so.cache", f"{_NEW}/etc/ld.so.cache")
    for place in ("/proc", "/dev/shm", SCRATCH, f"/{_OLD}"):
        os.makedirs(_NEW + place, exist_ok=True)
    _read_only(_NEW)
    for place in (SCRATCH, "/dev/shm"):
        _memory(_NEW + place, f"size={spec['limits']['file_mib']}m,mode=1777,nr_inodes=4096")
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        _fail(f"change the root on {os.uname().machine}")
    _do(_libc.syscall(number, _NEW.encode(), f"{_NEW}/{_OLD}".encode()), "change the root")
    os.chdir("/")


def _memory(place: str, options: str) -> None:
    _do(_libc.mount(b"tmpfs", place.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, options.encode()), f"cover {place}")


def _held(path: str) -> int:
    """A file or folder that can be named by its number when something is mounted over its path."""
    try:
        return os.open(path, os.O_PATH)
    except OSError as error:
        _fail(f"lend {path}: {error}")


def _bind(source: str, place: str) -> None:
    """A file or a folder of the machine at another place, with what is mounted below it."""
    if os.path.isdir(source):
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        open(place, "w").close()
    _do(_libc.mount(source.encode(), place.encode(), None, _MS_BIND | _MS_REC, None), f"put {source} at {place}")


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


def _read_only(place: str) -> None:
    attributes = _MountAttributes(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    size = ctypes.sizeof(attributes)
    result = _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, place.encode(), _AT_RECURSIVE, ctypes.byref(attributes), size)
    _do(result, f"make {place} read-only (Linux 5.12)")


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
