"""The scheduler: rows times tries, so many at a time, each under a substrate of its own, into one job.

ORDER  task-major: all tries of the first row come first; `job.runs` keeps that order whatever finishes first. The
tries of one row in one call have one `group_id`.
POOL  workers take the next place when they are free, so that ten thousand runs hold no more sockets and coroutines
than run at a time. CANCELLATION  every worker is cancelled and waited for: each takes its substrate down and its run
is told as cancelled; then the job ends as aborted and the cancellation goes up. A second one hurries those who still
take something down. What happens inside of one run stands in `rollout`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from taskloom.evals.job import Job, checked_group
from taskloom.evals.limits import Limits
from taskloom.evals.rollout import Conditions, Place, limits_of, roll_out, run_whole
from taskloom.evals.task import Task

if TYPE_CHECKING:
    from taskloom.evals.run import Run

MOST_AT_ONCE = 256  # runs at a time, where a call does not say
SHIPPED_FIRST = 30.0  # seconds that a job may take to reach the server before its runs are done elsewhere

Progress = Callable[[Job, "Run"], None]


@dataclass(frozen=True)
class Plan:
    """One call of `run`, as `Taskset.run` says it. `digest`: of the taskset, asked for when it is needed."""

    name: str
    tasks: Sequence[Task]
    agent: Any
    provider: Any
    taskset: str = ""
    version: int = 0
    digest: Callable[[], str] = lambda: ""
    group: int | None = None
    max_concurrent: int | None = None
    limits: Limits | None = None
    retries: int = 0
    project: str = ""
    keep_traces: bool = True
    progress: Progress | None = None
    spec: dict[str, Any] = field(default_factory=dict[str, Any])


async def run_tasks(plan: Plan, job: Job | None = None) -> Job:
    """Run them all. `job`: an open one to add to; without one, one is made, and ended with the last run."""
    group = checked_group((job.group if job is not None else 1) if plan.group is None else plan.group)
    _check(plan)
    if job is not None and job.closed:
        raise ValueError(f"job {job.id} is closed: a run cannot be added to it")
    plan = replace(plan, group=group)
    mine = job is None
    if job is None:
        job = await Job.start(
            title(plan.name, plan.tasks, group), group, project=plan.project, taskset=plan.taskset or plan.name
        )
    try:
        await _run_into(plan, job)
    except asyncio.CancelledError:
        if mine:
            await job.close("aborted", reason="interrupted")
        raise
    except BaseException as error:
        if mine:
            await job.close("failed", reason=f"{type(error).__name__}: {error}")
        raise
    if mine:
        await job.close()
    return job


def title(name: str, tasks: Sequence[Task], group: int) -> str:
    """What a job is called: a single task's id, else the taskset with the number of its tasks."""
    what = tasks[0].id if len(tasks) == 1 else f"{name} ({len(tasks)} tasks)"
    return f"{what} ({group} times)" if group > 1 else what


def _check(plan: Plan) -> None:
    """A caller's mistakes, before anything runs."""
    if not callable(plan.agent):
        raise TypeError(f"agent {plan.agent!r:.80}: expected an async function that takes a run")
    if not callable(plan.provider) and not getattr(plan.provider, "runs_whole", False):
        raise TypeError(f"runtime {plan.provider!r:.80}: expected a provider, such as LocalRuntime(path)")
    limit = plan.max_concurrent
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"max_concurrent {limit!r}: expected 1 or more")
    if plan.retries < 0:
        raise ValueError(f"retries {plan.retries}: expected 0 or more")
    for task in plan.tasks:
        if task.agent_config:
            limits_of(task, plan.limits or Limits())


async def _run_into(plan: Plan, job: Job) -> None:
    from taskloom.evals.channel.client import connect

    group = plan.group or 1
    name, model = await _describe(plan, job, group)

    def ended(run: Run) -> None:
        job.add(run.position, run)

    conditions = Conditions(
        agent=plan.agent,
        agent_name=name,
        model=model,
        provider=plan.provider,
        connect=connect,
        job_id=job.id,
        recorder=job.recorder,
        ended=ended,
        limits=plan.limits or Limits(),
        retries=plan.retries,
    )
    count = len(plan.tasks) * group
    places = _places(plan.tasks, group, job, job.reserve(count))
    whole = bool(getattr(plan.provider, "runs_whole", False))
    if whole:
        await job.recorded(SHIPPED_FIRST)

    async def work() -> None:
        for place in places:
            run = await (run_whole(place, conditions, job) if whole else roll_out(place, conditions))
            if not plan.keep_traces:
                run.trace.steps.clear()
                run.opening = {}
            if plan.progress is not None:
                plan.progress(job, run)
            _stop_if_cancelled()

    await _all_of([work for _ in range(min(count, plan.max_concurrent or MOST_AT_ONCE))])


async def _all_of(works: Sequence[Callable[[], Any]]) -> None:
    """Run them side by side; the first fault, or a cancellation, ends the others, and all are waited for."""
    if not works:
        return
    workers = [asyncio.ensure_future(work()) for work in works]
    try:
        done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        await _end(workers)
        raise
    faults = [fault for worker in done if not worker.cancelled() and (fault := worker.exception()) is not None]
    if faults:
        await _end(workers)
        raise faults[0]
    if any(worker.cancelled() for worker in workers):  # by a provider, not by us: its places were not run
        raise asyncio.CancelledError


async def _end(workers: Sequence[asyncio.Future[None]]) -> None:
    """Cancel and wait; a cancellation meanwhile is passed on to those who still take something down."""
    again: asyncio.CancelledError | None = None
    for worker in workers:
        worker.cancel()
    while left := [worker for worker in workers if not worker.done()]:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            again = error
            for worker in left:
                worker.cancel()
    for worker in workers:
        if not worker.cancelled():
            worker.exception()  # looked at: what ended the others is told already
    if again is not None:
        raise again


def _stop_if_cancelled() -> None:
    """An agent that swallowed a cancellation does not keep the worker going."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _places(tasks: Sequence[Task], group: int, job: Job, first: int) -> Iterator[Place]:
    """Every try of every row, but those that a resumed job has."""
    position = first
    for task in tasks:
        group_id = _id(job.id, "group", position)
        for number in range(group):
            if not job.has(position):
                attempt = job.next_attempt(position)
                yield Place(task, position, _id(job.id, "run", position), group_id, number, attempt)
            position += 1


def _id(job: str, what: str, position: int) -> str:
    """The same for a place of a job, so that what a resumed job runs again takes the place of what failed."""
    return hashlib.sha256(f"{job}/{what}/{position}".encode()).hexdigest()[:32]


async def _describe(plan: Plan, job: Job, group: int) -> tuple[str, str]:
    """Tell the job what it runs; Conflict when a resumed one was something else. The agent's name and model."""
    from taskloom.evals import fingerprints
    from taskloom.evals.resume import check_same

    spec, agent_digest = await asyncio.to_thread(fingerprints.of_agent, plan.agent)
    name = str(getattr(plan.agent, "name", "") or getattr(plan.agent, "__name__", "") or type(plan.agent).__name__)
    model = str(getattr(plan.agent, "model", "") or "")
    environment = await asyncio.to_thread(fingerprints.of_environment, plan.tasks, plan.provider)
    now = {"environment": environment, "agent": agent_digest, "taskset": await asyncio.to_thread(plan.digest)}
    if job.resumed:
        tries = {"group": str(job.value.group)}  # places are counted by it
        check_same(job.value.fingerprints | tries, now | {"group": str(group)})
        expected = job.value.expected
    else:
        now = combined(job.value.fingerprints, now)
        expected = job.value.expected + len(plan.tasks) * group
    limits = plan.limits or Limits()
    job.change(
        taskset=job.value.taskset or plan.taskset or plan.name,
        taskset_version=plan.version,
        group=group,
        agent=name,
        model=model,
        trained_by=job.value.trained_by or str(getattr(plan.agent, "trained_by", "") or ""),
        expected=expected,
        fingerprints=now,
        spec={"agent": spec} | job.value.spec | plan.spec,
    )
    parameters = {limit: getattr(limits, limit) for limit in Limits.__dataclass_fields__}
    job.recorder.store_job(
        job.value,
        {"agent": name, "model": model or None, "taskset": job.value.taskset, "group": group, **parameters},
    )
    return name, model


def combined(before: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """The fingerprints of a job of several calls: equal ones stay, others become one digest of both."""
    if not before:
        return now
    return {
        part: now[part]
        if before.get(part) == now[part]
        else hashlib.sha256(f"{before.get(part, '')}\n{now[part]}".encode()).hexdigest()
        for part in now
    }
