"""HUD's jobs: entered by the client that runs them, listed with their traces, cancelled."""

from __future__ import annotations

from typing import Any

import msgspec

from taskloom.domain.evaluation import EvalJob, EvalRun
from taskloom.domain.status import Status
from taskloom.server.compat.hud.call import Endpoint, HudCall, Rooms, read_id, tell_id, tell_time
from taskloom.server.compat.hud.reporting import Reporter
from taskloom.server.evals.checks import MAX_NAME
from taskloom.wire.messages import JobQuery, JobRecord, RunQuery

_STATUS = {Status.RUNNING.value: "running", Status.FAILED.value: "error", Status.ABORTED.value: "cancelled"}


class JobEnter(msgspec.Struct):
    name: str = ""
    group: int = 1
    taskset_id: str | None = None


def endpoints(rooms: Rooms, reporter: Reporter) -> list[Endpoint]:
    async def enter(call: HudCall) -> Any:
        job, wanted = call.id("job", "job"), call.body(JobEnter)
        taskset, version = "", 0
        if wanted.taskset_id:
            found = await rooms.evals.tasksets.get_taskset(read_id(wanted.taskset_id, "taskset"))
            taskset, version = found.name, found.version
        made = EvalJob(
            id=job,
            name=wanted.name[:MAX_NAME].replace("\0", ""),
            taskset=taskset,
            taskset_version=version,
            group=max(1, min(wanted.group, 2**31 - 1)),
            created=rooms.clock(),
        )
        async with reporter.turn(job):
            await reporter.open(call.caller.user, made)
        return {"job_id": tell_id(job)}

    async def list_jobs(call: HudCall) -> Any:
        limit, offset = call.page()
        found = await rooms.evals.list_jobs(JobQuery(limit=limit, offset=offset))
        return {"items": [_job(one) for one in found.jobs], "total": found.total}

    async def list_traces(call: HudCall) -> Any:
        limit, offset = call.page()
        query = RunQuery(limit=limit, offset=offset)
        found = await rooms.evals.list_runs(call.id("job", "job"), query)
        return {"items": [tell_trace(run) for run in found.runs], "total": found.total}

    return [
        Endpoint("POST", "/v2/trace/job/{job}/enter", "member", enter),
        Endpoint("GET", "/v2/jobs", "viewer", list_jobs),
        Endpoint("GET", "/v2/jobs/{job}/traces", "viewer", list_traces),
    ]


def tell_trace(run: EvalRun) -> dict[str, Any]:
    """A run as HUD's trace."""
    return {
        "id": tell_id(run.id),
        "job_id": tell_id(run.job),
        "group_id": run.group or None,
        "task_slug": run.slug,
        "status": run.status,
        "reward": run.reward,
        "error": run.error or None,
        "stop_reason": run.stop_reason or None,
        "start_time": tell_time(run.started),
        "end_time": tell_time(run.ended),
    }


def _job(record: JobRecord) -> dict[str, Any]:
    return {
        "id": tell_id(record.job.id),
        "name": record.job.name,
        "taskset_name": record.job.taskset or None,
        "status": _STATUS.get(record.status, record.status),
        "created_at": tell_time(record.job.created),
        "trace_count": record.runs,
        "reward": record.graded,
    }
