"""A task that ends, or whose attempt is lost, takes the runs along that it did not end itself.

Nothing will report them any more, so they are told as failures of the infrastructure. A hosted run, which is another
task's, may still report after its job ended; then its word is the newer one.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from taskloom.domain.evaluation import EvalRun
from taskloom.server.evals import store

JOB_ENDED = "the job ended before the run did"
TASK_ENDED = "the task that ran it ended before the run did"


def end_runs(tx: Connection, task_id: str, now: float) -> None:
    """Runs of this job, and runs in this task, that are still running."""
    left = store.running(tx, task_id)
    if left:
        store.put_runs(tx, [_ended(run, task_id, now) for run in left])


def _ended(run: EvalRun, task_id: str, now: float) -> EvalRun:
    return msgspec.structs.replace(
        run,
        status="error",
        boundary="infrastructure",
        error=JOB_ENDED if run.job == task_id else TASK_ENDED,
        ended=max(now, run.started),
    )
