"""What a reader of a harness's files is, and what several of them say alike."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dante.evaluate.foreign.result import Harness, Result

PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@runtime_checkable
class Reader(Protocol):
    """Reads the result files of one harness."""

    harness: Harness

    def claims(self, path: Path, content: Any) -> bool:
        """Whether a file is this harness's.

        Args:
            path: of the file; what lies beside it may be looked at.
            content: its JSON.
        """

    def read(self, path: Path, content: Any) -> list[Result]:
        """What a file that it claims says, one result per model and task.

        Raises:
            DanteError: the file lacks what the harness writes.
        """
