"""Going on with a job: what the server has of it, which of its runs count as done, and whether it is still the same.

DONE  a run that was graded, also when its agent failed (`retry_failed` runs those again), and one whose agent failed
without ever coming to a grade for a reason of its own. AGAIN  failures of infrastructure, environment and grader, what was
cancelled, what was running when the process died, what never began. The same: equal digests of environment, agent
and taskset; a job whose parts differ would be two experiments under one name.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskloom.domain.errors import BadInput, Conflict, Unavailable
from taskloom.domain.evaluation import EvalJob, EvalRun
from taskloom.domain.status import Status
from taskloom.evals.limits import Limits
from taskloom.evals.run import Run
from taskloom.evals.task import Task

if TYPE_CHECKING:
    from taskloom.wire.send import Client

PAGE = 200  # runs asked of the server at a time
SHIPPING_PATIENCE = 60.0  # seconds in which the journal of the killed process has to arrive
LOOK = 0.1
NO_SERVER = (
    "no server is configured, and a job is resumed from its server: set TASKLOOM_URL and TASKLOOM_API_KEY, "
    "or start one with `taskloom up`"
)


@dataclass(frozen=True)
class Earlier:
    """A job as the server has it."""

    job: EvalJob
    project: str
    status: str
    runs: list[EvalRun]
    retry_failed: bool = False

    def done(self) -> dict[int, Run]:
        """By their positions, the runs that are not run again."""
        return {run.position: restored(run) for run in self.runs if is_done(run, self.retry_failed)}


def is_done(run: EvalRun, retry_failed: bool = False) -> bool:
    if run.status == "completed":
        return run.grade is not None and not run.grade.is_error
    if run.status != "error" or retry_failed:
        return False
    return run.boundary == "agent" and run.grade is not None and not run.grade.is_error


def read_job(identifier: str, retry_failed: bool = False) -> Earlier:
    """From the server, after what waits on this machine has been sent to it. Conflict for a job that still runs."""
    from taskloom.sdk.identity import check_task_id
    from taskloom.wire.connection import find_address
    from taskloom.wire.send import Client

    check_task_id(identifier, "job id")
    address = find_address()
    if address is None:
        raise BadInput(NO_SERVER)
    wait_for_journal(identifier)
    client = Client(address)
    try:
        earlier = fetch_job(client, identifier, retry_failed)
    finally:
        client.close()
    if earlier.status in {Status.RUNNING, Status.PENDING}:
        raise Conflict(
            f"job {earlier.job.id} is {earlier.status}; wait for its end, or stop it with `taskloom task abort`"
        )
    return earlier


def fetch_job(client: Client, identifier: str, retry_failed: bool = False) -> Earlier:
    from taskloom.wire.messages import RunQuery
    from taskloom.wire.operations import GET_JOB, LIST_RUNS

    found = client.call(GET_JOB, job=identifier)
    runs: list[EvalRun] = []
    while True:
        page = client.call(LIST_RUNS, query=RunQuery(limit=PAGE, offset=len(runs)), job=found.job.id)
        runs += page.runs
        if not page.runs or len(runs) >= page.total:
            break
    return Earlier(found.job, found.project, found.status, runs, retry_failed)


def wait_for_journal(identifier: str) -> None:
    """Have sent what the earlier process left on this machine. Conflict while it still lives."""
    from taskloom.journal import layout
    from taskloom.sdk.delivery import Delivery
    from taskloom.wire.configuration import data_folder

    folder = layout.journal_root(data_folder()) / identifier
    if not layout.writer_folders(folder):
        return
    delivery = Delivery(folder)
    deadline = time.monotonic() + SHIPPING_PATIENCE
    delivery.start()
    try:
        while writers := layout.writer_folders(folder):
            if any(layout.is_locked(writer / layout.LOCK_FILE) for writer in writers):
                raise Conflict(f"job {identifier} still runs on this machine")
            if any(layout.read_marks(writer).refused for writer in writers):
                raise Conflict(f"the server refused results of job {identifier}; `taskloom journal list` says why")
            if time.monotonic() > deadline:
                note = delivery.last_note()
                raise Unavailable(
                    f"results of job {identifier} are still to be sent{f' ({note})' if note else ''}"
                )
            delivery.poke()
            time.sleep(LOOK)
    finally:
        delivery.leave()


def check_same(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Conflict that names what differs, and how, when this is not the experiment that it was."""
    differing = [
        f"the {part} is not the one that it was ({_short(before[part])}, now {_short(now.get(part, ''))})"
        for part in ("environment", "agent", "taskset", "group")
        if part in before and before[part] != now.get(part, "")
    ]
    if differing:
        raise Conflict(f"this job cannot go on: {'; '.join(differing)}. Start a new one instead.")


def _short(fingerprint: str) -> str:
    """As people can compare it: the digest cut, what stands before it whole."""
    words, _, digest = fingerprint.rpartition(" ")
    return f"{words} {digest[:12]}".strip() if len(digest) == 64 else fingerprint or "not known"


def restored(value: EvalRun) -> Run:
    """A run as it stands on the server, without its steps."""
    task = Task(
        env=value.env or "unknown", id=value.template or "unknown", args=value.args, slug=value.slug or None
    )
    if value.columns:
        task.columns = value.columns
    run = Run(
        None,
        task.id,
        task=task,
        trace_id=value.id,
        job_id=value.job,
        group_id=value.group,
        position=value.position,
        limits=Limits(),
    )
    restore(run, value)
    return run


def restore(run: Run, value: EvalRun) -> None:
    """What became of it, as the server has it; not its steps."""
    trace = run.trace
    trace.status, trace.stop_reason, trace.content = value.status, value.stop_reason, value.answer
    trace.usage, trace.extra = value.usage, dict(value.extra)
    run.grade, run.error, run.boundary, run.attempt = value.grade, value.error, value.boundary, value.attempt
    run.agent, run.model, run.runtime = value.agent, value.model, value.runtime or None
    run.started, run.ended = value.started, value.ended
