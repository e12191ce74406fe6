"""How much a program may take."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Each is enforced by the kernel or from outside; none asks the program.

    Attributes:
        cpu_s: seconds of processor time, all its threads together.
        wall_s: seconds after which everything of it is killed.
        memory_mib: address space.
        file_mib: largest file, and all of its scratch directory.
        processes: processes and threads at once.
        message_mib: of what it may answer at once.
    """

    cpu_s: int = 10
    wall_s: float = 20.0
    memory_mib: int = 1024
    file_mib: int = 16
    processes: int = 16
    message_mib: int = 16
