"""A job that a queue has killed is one failed point, not the end of the sweep.

submitit raises for a job that left no result (out of memory, out of time, cancelled), and Hydra's launcher then gives
up all others, finished or not. While a sweep is launched such a job has a result: that it failed.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from dante.sweep.process import PointFailed


@contextmanager
def are_failures() -> Iterator[None]:
    """Inside, `results` of a lost job of submitit is one failed `JobReturn`. Without submitit: nothing."""
    if not any(name.startswith("hydra_plugins.hydra_submitit_launcher") for name in sys.modules):
        yield
        return
    from submitit.core.core import Job
    from submitit.core.utils import FailedJobError, UncompletedJobError

    original = Job.results

    def results(job: Any) -> list[Any]:
        try:
            return list(original(job))
        except FailedJobError as error:
            return [_failed(f"its job {job.job_id} failed: {str(error).splitlines()[0]}")]
        except UncompletedJobError:
            why = "ended without a result: killed, or out of memory or time"
            return [_failed(f"its job {job.job_id} {why}; see {job.paths.stderr}")]

    Job.results = results  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Job.results = original  # type: ignore[method-assign]


def _failed(why: str) -> JobReturn:
    outcome = JobReturn(status=JobStatus.FAILED)
    outcome.return_value = PointFailed(why)
    return outcome
