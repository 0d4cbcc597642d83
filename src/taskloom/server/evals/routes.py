"""Calls about evaluations, handed to the service."""

from __future__ import annotations

from taskloom.domain.evaluation import EvalRun
from taskloom.server.call import Call, Handlers
from taskloom.server.evals.service import EvalService
from taskloom.wire.messages import (
    Done,
    JobComparison,
    JobList,
    JobRecord,
    JobReport,
    Leaderboard,
    RowPage,
    RunList,
    StepPage,
    TasksetChanged,
    TasksetInfo,
    TasksetList,
    VersionList,
)


def handlers(evals: EvalService) -> Handlers:
    return {**_jobs(evals), **_figures(evals), **_tasksets(evals)}


def _jobs(evals: EvalService) -> Handlers:
    async def list_jobs(call: Call) -> JobList:
        return await evals.list_jobs(call.query)

    async def get_job(call: Call) -> JobRecord:
        return await evals.get_job(call.path["job"])

    async def list_runs(call: Call) -> RunList:
        return await evals.list_runs(call.path["job"], call.query)

    async def get_run(call: Call) -> EvalRun:
        return await evals.get_run(call.path["run"])

    async def get_steps(call: Call) -> StepPage:
        return await evals.get_steps(call.path["run"], call.query)

    return {
        "list_jobs": list_jobs,
        "get_job": get_job,
        "list_runs": list_runs,
        "get_run": get_run,
        "get_steps": get_steps,
    }


def _figures(evals: EvalService) -> Handlers:
    async def report_job(call: Call) -> JobReport:
        return await evals.report_job(call.path["job"], call.query)

    async def compare_jobs(call: Call) -> JobComparison:
        return await evals.compare_jobs(call.query)

    async def leaderboard(call: Call) -> Leaderboard:
        return await evals.leaderboard(call.query)

    return {"report_job": report_job, "compare_jobs": compare_jobs, "leaderboard": leaderboard}


def _tasksets(evals: EvalService) -> Handlers:
    desk = evals.tasksets

    async def list_tasksets(call: Call) -> TasksetList:
        return await desk.list_tasksets(call.query)

    async def get_taskset(call: Call) -> TasksetInfo:
        return await desk.get_taskset(call.path["taskset"])

    async def list_rows(call: Call) -> RowPage:
        return await desk.list_rows(call.path["taskset"], call.query)

    async def list_versions(call: Call) -> VersionList:
        return await desk.list_versions(call.path["taskset"])

    async def upload_taskset(call: Call) -> TasksetChanged:
        return await desk.upload_taskset(call.caller, call.path["taskset"], call.body)

    async def delete_taskset(call: Call) -> Done:
        await desk.delete_taskset(call.path["taskset"])
        return Done()

    return {
        "list_tasksets": list_tasksets,
        "get_taskset": get_taskset,
        "list_rows": list_rows,
        "list_versions": list_versions,
        "upload_taskset": upload_taskset,
        "delete_taskset": delete_taskset,
    }
