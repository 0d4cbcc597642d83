"""Runs that HUD's client wants done here: a task in a queue for each, in which a worker runs agent and environment.

The run is there from the moment it was submitted, so that its client can ask for it; the task then records it itself. When
that task ends without having begun, what asks for the run next says so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.evaluation import EvalJob, EvalRun
from taskloom.domain.status import ENDED, Status
from taskloom.server.call import Caller
from taskloom.server.compat.hud.call import Endpoint, HudCall, Rooms, read_id, tell_id
from taskloom.server.compat.hud.hosting import find_environment, host, lease
from taskloom.server.compat.hud.reporting import TAG, Reporter
from taskloom.server.evals.checks import MAX_NAME, MAX_SLUG
from taskloom.wire.messages import MoveRequest, RunQuery, TaskQuery
from taskloom.wire.records import RunStored

AGENTS = {"openai": "openai", "openai_compatible": "openai", "claude": "anthropic", "gemini": "gemini"}
HOSTED = "hosted"  # in a run's `extra`, the task that will do it
CANCELLED_AT_ONCE = 1000  # runs that one call looks at

_OPTIONS = {"model": "model", "max_steps": "max_steps", "system_prompt": "system", "base_url": "base_url"}


class _Agent(msgspec.Struct):
    type: str
    config: dict[str, Any] = {}


class _Submit(msgspec.Struct):
    trace_id: str
    job_id: str
    env: str
    task: str
    agent: _Agent
    slug: str = ""
    args: dict[str, Any] = {}
    group_id: str | None = None
    verifier: dict[str, Any] | None = None


class _Cancel(msgspec.Struct):
    trace_id: str | None = None
    job_id: str | None = None


class _Session(msgspec.Struct):
    environment: str
    trace_id: str | None = None


def endpoints(rooms: Rooms, reporter: Reporter) -> list[Endpoint]:
    desk = Rollouts(rooms, reporter)

    async def submit(call: HudCall) -> Any:
        return await desk.submit(call.caller, call.body(_Submit))

    async def cancel(call: HudCall) -> Any:
        trace = read_id(call.body(_Cancel).trace_id or "", "trace")
        try:
            run = await rooms.evals.get_run(trace)
        except NotFound:
            return {"status": "not_found"}
        return {"status": "accepted" if await desk.cancel(call.caller, run) else "not_found"}

    async def cancel_job(call: HudCall) -> Any:
        job = read_id(call.body(_Cancel).job_id or "", "job")
        return {"job_id": tell_id(job), "cancelled": await desk.cancel_job(call.caller, job)}

    async def cancel_all(call: HudCall) -> Any:
        user = call.caller.user
        query = TaskQuery(system_tags=[TAG], status=[Status.RUNNING], user=[user], limit=CANCELLED_AT_ONCE)
        tasks = (await rooms.tasks.query_tasks(query)).tasks
        counts = {task.id: await desk.cancel_job(call.caller, task.id) for task in tasks}
        details = [{"job_id": tell_id(job), "cancelled": count} for job, count in counts.items() if count]
        total = sum(counts.values())
        return {"jobs_cancelled": len(details), "total_tasks_cancelled": total, "job_details": details}

    async def open_session(call: HudCall) -> Any:
        return {"id": tell_id(await lease(rooms, call.caller, call.body(_Session).environment))}

    async def close_session(call: HudCall) -> Any:
        task = call.id("session", "session")
        await rooms.tunnels.check_caller(call.caller, task)
        return {"closed": await desk.stop(call.caller, task, "its lease was given back")}

    return [
        Endpoint("POST", "/v2/rollouts/submit", "member", submit, 202),
        Endpoint("POST", "/v2/rollouts/cancel", "member", cancel),
        Endpoint("POST", "/v2/rollouts/cancel_job", "member", cancel_job),
        Endpoint("POST", "/v2/rollouts/cancel_user_jobs", "member", cancel_all),
        Endpoint("POST", "/runtime/sessions", "member", open_session, 201),
        Endpoint("DELETE", "/runtime/sessions/{session}", "member", close_session),
    ]


class Rollouts:
    def __init__(self, rooms: Rooms, reporter: Reporter) -> None:
        self._rooms, self._reporter = rooms, reporter

    async def submit(self, caller: Caller, wanted: _Submit) -> dict[str, Any]:
        job, trace = read_id(wanted.job_id, "job"), read_id(wanted.trace_id, "trace")
        agent = _agent(wanted.agent)
        if wanted.verifier is not None:
            raise BadInput("a verifier's run is not served by Taskloom; grade in the environment itself")
        found = await find_environment(self._rooms, wanted.env)
        async with self._reporter.turn(job):
            if await self._there(trace) is None:
                started = EvalJob(id=job, name=f"job {job[:8]}", created=self._rooms.clock())
                await self._reporter.open(caller.user, started)
                run = await self._waiting(job, trace, wanted, agent)
                order = _order(run, wanted, agent, found.source)
                task = await host(self._rooms, caller, found, order, _name(run), job)
                run = msgspec.structs.replace(run, extra={HOSTED: task})
                await self._reporter.write(caller.user, job, [RunStored(run=run)])
        return {"trace_id": tell_id(trace), "job_id": tell_id(job), "status": "accepted"}

    async def _waiting(self, job: str, trace: str, wanted: _Submit, agent: dict[str, Any]) -> EvalRun:
        others = await self._rooms.evals.list_runs(job, RunQuery(limit=1))
        return EvalRun(
            id=trace,
            job=job,
            task=job,
            position=others.total,
            group=(wanted.group_id or "")[:MAX_NAME],
            slug=(wanted.slug or wanted.task)[:MAX_SLUG],
            env=wanted.env,
            template=wanted.task,
            args=wanted.args,
            agent=str(agent["type"]),
            model=str(agent["config"].get("model", ""))[:MAX_NAME],
            started=self._rooms.clock(),
        )

    async def _there(self, trace: str) -> EvalRun | None:
        try:
            return await self._rooms.evals.get_run(trace)
        except NotFound:
            return None

    # --- cancelling ---------------------------------------------------------------------------------------

    async def cancel_job(self, caller: Caller, job: str) -> int:
        query = RunQuery(status="running", limit=min(CANCELLED_AT_ONCE, self._rooms.settings.max_page))
        runs = (await self._rooms.evals.list_runs(job, query)).runs
        return sum([await self.cancel(caller, run) for run in runs])

    async def cancel(self, caller: Caller, run: EvalRun) -> bool:
        """Whether there was something to stop: runs that a client does itself end with it."""
        task = _task_of(run)
        if run.status != "running" or not task:
            return False
        stopped = await self.stop(caller, task, "its run was cancelled")
        await settle(self._rooms, self._reporter, run)
        return stopped

    async def stop(self, caller: Caller, task: str, why: str) -> bool:
        if (await self._rooms.tasks.peek_task(task)).status in ENDED:
            return False
        await self._rooms.queues.abort(caller, task, MoveRequest(reason=why))
        return True


async def settle(rooms: Rooms, reporter: Reporter, run: EvalRun) -> EvalRun:
    """The run, ended when the task that was to do it ended without having begun it."""
    task = str(run.extra.get(HOSTED, ""))
    if run.status != "running" or not task:
        return run
    try:
        found = await rooms.tasks.peek_task(task)
        status, reason = found.status, found.status_reason or found.status_message
    except NotFound:
        status, reason = Status.ABORTED, "it was deleted"
    if status not in ENDED:
        return run
    async with reporter.turn(run.job):
        now = await rooms.evals.get_run(run.id)
        if now.status != "running" or HOSTED not in now.extra:
            return now
        cancelled = status is Status.ABORTED
        ended = msgspec.structs.replace(
            now,
            status="cancelled" if cancelled else "error",
            boundary="" if cancelled else "infrastructure",
            error=f"its task {task} is {status.value}{f': {reason}' if reason else ''}",
            ended=rooms.clock(),
        )
        await reporter.write("", run.job, [RunStored(run=ended)])
        return ended


def _task_of(run: EvalRun) -> str:
    """The task that does it, or will; empty for a client's own run."""
    return str(run.extra.get(HOSTED, "")) or (run.task if run.task != run.job else "")


def _agent(told: _Agent) -> dict[str, Any]:
    kind = AGENTS.get(told.type)
    if kind is None:
        raise BadInput(f"agent type {told.type[:80]!r} is not served by Taskloom; expected {', '.join(AGENTS)}")
    config = {ours: told.config[theirs] for theirs, ours in _OPTIONS.items() if told.config.get(theirs)}
    if not isinstance(config.get("model"), str):
        raise BadInput(f"agent type {told.type}: config.model: expected the name of a model")
    steps = config.get("max_steps")
    if not isinstance(steps, int) or steps < 1:
        config.pop("max_steps", None)
    return {"type": kind, "config": config, "timeout": told.config.get("timeout_seconds")}


def _order(run: EvalRun, wanted: _Submit, agent: dict[str, Any], source: str) -> bytes:
    """As `taskloom.evals.runtimes.order` has it."""
    timeout = agent["timeout"]
    limits = {"agent_timeout": float(timeout)} if isinstance(timeout, int | float) and timeout > 0 else {}
    return msgspec.json.encode(
        {
            "job": run.job,
            "run": run.id,
            "position": run.position,
            "row": {"env": wanted.env, "id": wanted.task, "args": wanted.args, "slug": run.slug},
            "source": source,
            "agent": {"type": agent["type"], "config": agent["config"]},
            "agent_name": run.agent,
            "model": run.model,
            "group": run.group,
            "limits": limits,
        }
    )


def _name(run: EvalRun) -> str:
    return f"run {run.position} {run.slug}"[:MAX_NAME]
