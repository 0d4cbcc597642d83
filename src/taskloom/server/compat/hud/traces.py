"""HUD's traces are our runs: entered, filled with steps, exited, and told again.

Everything may come twice, in any order, or never: an enter of a trace that is there changes nothing, steps are known by
their spans, an exit may be followed by steps. What comes for a trace that was never entered has no job and is a 404.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, cast, get_args

import msgspec

from taskloom.domain.errors import BadInput, TooMany
from taskloom.domain.evaluation import (
    Boundary,
    EvalJob,
    EvalRow,
    EvalRun,
    Grade,
    Step,
    StopReason,
    SubScore,
    Usage,
)
from taskloom.server.compat.hud.call import Endpoint, HudCall, Rooms, read_id, tell_id
from taskloom.server.compat.hud.jobs import tell_trace
from taskloom.server.compat.hud.reporting import Reporter
from taskloom.server.compat.hud.rollouts import settle
from taskloom.server.compat.hud.steps import place_of, read_spans, span_of, tell_events
from taskloom.server.evals.checks import MAX_NAME, MAX_SLUG
from taskloom.server.evals.service import MAX_STEPS
from taskloom.wire.messages import RowsQuery, RunQuery, StepsQuery
from taskloom.wire.records import Record, RunStored, StepsTaken

MAX_TRACE = 20_000  # steps of one trace
MAX_DEPTH = 50  # of subscores in subscores
_PHASE = re.compile(r"\[(?P<phase>[a-z ]{1,40})\]")
_BOUNDARIES: dict[str, Boundary] = {
    "provisioning": "infrastructure",
    "starting task": "environment",
    "grading": "grader",
    "verifying": "grader",
    "agent loop": "agent",
}
_GRADE = frozenset({"score", "reward", "done", "content", "info", "isError", "subscores"})


class _Enter(msgspec.Struct):
    job_id: str | None = None
    group_id: str | None = None
    task_slug: str = ""
    model: str | None = None
    parent_trace_id: str | None = None


class _Exit(msgspec.Struct):
    status: str = "completed"
    reward: float | None = None
    error: str | None = None
    evaluation_result: dict[str, Any] | None = None
    stop_reason: str | None = None
    metadata: dict[str, Any] | None = None


class _Telemetry(msgspec.Struct):
    telemetry: list[Any]


def endpoints(rooms: Rooms, reporter: Reporter) -> list[Endpoint]:
    desk = Traces(rooms, reporter)

    async def enter(call: HudCall) -> Any:
        return await desk.enter(call.caller.user, call.id("trace", "trace"), call.body(_Enter))

    async def leave(call: HudCall) -> Any:
        return await desk.exit(call.caller.user, call.id("trace", "trace"), call.body(_Exit))

    async def telemetry(call: HudCall) -> Any:
        spans = call.body(_Telemetry).telemetry
        return await desk.take_steps(call.caller.user, call.id("trace", "trace"), spans)

    async def get_trace(call: HudCall) -> Any:
        run = await settle(rooms, reporter, await rooms.evals.get_run(call.id("trace", "trace")))
        return {**tell_trace(run), "evaluation_result": _tell_grade(run.grade)}

    async def events(call: HudCall) -> Any:
        run = call.id("trace", "trace")
        return {"events": list(tell_events(await desk.steps(run, 0)))}

    return [
        Endpoint("POST", "/v2/trace/{trace}/enter", "member", enter),
        Endpoint("POST", "/v2/trace/{trace}/exit", "member", leave),
        Endpoint("POST", "/telemetry/trace/{trace}/telemetry-upload", "member", telemetry),
        Endpoint("GET", "/v2/trace/{trace}", "viewer", get_trace),
        Endpoint("GET", "/v2/trace/{trace}/events", "viewer", events),
    ]


class Traces:
    def __init__(self, rooms: Rooms, reporter: Reporter) -> None:
        self._rooms, self._evals, self._reporter = rooms, rooms.evals, reporter

    async def enter(self, user: str, trace: str, told: _Enter) -> dict[str, Any]:
        if not told.job_id:
            raise BadInput("job_id: expected the job that the trace belongs to")
        job = read_id(told.job_id, "job")
        async with self._reporter.turn(job):
            if await self._find(trace) is None:
                await self._reporter.open(
                    user, EvalJob(id=job, name=f"job {job[:8]}", created=self._rooms.clock())
                )
                await self._reporter.write(user, job, [RunStored(run=await self._begun(job, trace, told))])
        return {"trace_id": tell_id(trace), "job_id": tell_id(job)}

    async def _begun(self, job: str, trace: str, told: _Enter) -> EvalRun:
        record = await self._evals.get_job(job)
        slug = _line(told.task_slug, MAX_SLUG)
        row = await self._row(record.job, slug)
        others = await self._evals.list_runs(job, RunQuery(limit=1))
        parent = {"parent_trace": _line(told.parent_trace_id, MAX_NAME)} if told.parent_trace_id else {}
        return EvalRun(
            id=trace,
            job=job,
            task=job,
            position=others.total,
            group=_line(told.group_id, MAX_NAME),
            slug=slug,
            env="" if row is None else row.env,
            template="" if row is None else row.id,
            args={} if row is None else row.args,
            columns={} if row is None else row.columns or {},
            model="" if told.model == "unknown" else _line(told.model, MAX_NAME),
            started=self._rooms.clock(),
            extra=dict(parent),
        )

    async def _row(self, job: EvalJob, slug: str) -> EvalRow | None:
        """The row that the client runs, when the job is one of a taskset of ours."""
        if not (job.taskset and slug):
            return None
        try:
            query = RowsQuery(version=job.taskset_version, search=slug, limit=100)
            page = await self._evals.tasksets.list_rows(job.taskset, query)
        except Exception as error:  # the taskset may be gone: the run is recorded all the same
            if getattr(error, "http_status", 500) >= 500:
                raise
            return None
        return next((row for row in page.rows if row.slug == slug), None)

    async def exit(self, user: str, trace: str, told: _Exit) -> dict[str, Any]:
        run = await self._evals.get_run(trace)
        async with self._reporter.turn(run.job):
            run = await self._evals.get_run(trace)
            await self._reporter.write(user, run.job, [RunStored(run=_ended(run, told, self._rooms.clock()))])
        return {"trace_id": tell_id(trace), "status": told.status}

    # --- steps --------------------------------------------------------------------------------------------

    async def steps(self, trace: str, start: int) -> list[Step]:
        """From number `start` on."""
        found: list[Step] = []
        while True:
            page = await self._evals.get_steps(trace, StepsQuery(start=start + len(found), limit=MAX_STEPS))
            found.extend(page.steps)
            if not page.steps or start + len(found) >= page.total:
                return found

    async def take_steps(self, user: str, trace: str, spans: Sequence[Any]) -> dict[str, Any]:
        told = read_spans(spans)
        run = await self._evals.get_run(trace)
        async with self._reporter.turn(run.job):
            run = await self._evals.get_run(trace)
            before = await self.steps(trace, 0)
            known = {span_of(step) for step in before}
            fresh = [step for span, step in told.items() if span not in known]
            if len(before) + len(fresh) > MAX_TRACE:
                raise TooMany(f"the trace has {len(before)} steps; expected at most {MAX_TRACE}")
            if fresh:
                await self._reporter.write(user, run.job, _records(run, before, fresh))
        return {"accepted": len(fresh), "known": len(told) - len(fresh), "ignored": len(spans) - len(told)}

    async def _find(self, trace: str) -> EvalRun | None:
        try:
            return await self._evals.get_run(trace)
        except Exception as error:
            if getattr(error, "http_status", 500) != 404:
                raise
            return None


def _records(run: EvalRun, before: list[Step], fresh: list[Step]) -> list[Record]:
    """The trace from the first place on where it differs, and the run with its sums."""
    merged = sorted([*before, *fresh], key=place_of)
    same = next((number for number, step in enumerate(before) if merged[number] is not step), len(before))
    usage = sum((step.usage for step in fresh if step.usage is not None), Usage())
    usage = run.usage + usage
    agent = [step for step in merged if step.source == "agent"]
    answer = agent[-1].content if agent and not agent[-1].tool_calls and agent[-1].content else run.answer
    model = run.model or next((step.model for step in agent if step.model), "")
    after = msgspec.structs.replace(
        run, steps=len(merged), usage=usage, answer=answer, model=_line(model, MAX_NAME)
    )
    taken = StepsTaken(run=run.id, job=run.job, start=same, steps=tuple(merged[same:]))
    return [taken, RunStored(run=after)]


def _ended(run: EvalRun, told: _Exit, now: float) -> EvalRun:
    status = told.status if told.status in ("completed", "error", "cancelled") else "error"
    reasons = get_args(StopReason)
    extra = dict(run.extra)
    if told.metadata:
        extra["metadata"] = told.metadata
    if told.stop_reason and told.stop_reason not in reasons:
        extra["stop_reason"] = told.stop_reason
    grade = _grade(told, status)
    return msgspec.structs.replace(
        run,
        status=status,
        error=(told.error or "").replace("\0", ""),
        boundary=_boundary(told.error or "", grade) if status == "error" else "",
        stop_reason=cast(StopReason, told.stop_reason if told.stop_reason in reasons else ""),
        grade=grade,
        ended=run.ended or now,
        extra=extra,
    )


def _boundary(error: str, grade: Grade | None) -> Boundary:
    """HUD names the phase in brackets; a failure that was graded all the same was the agent's."""
    found = _PHASE.match(error)
    phase = found["phase"] if found else ""
    return _BOUNDARIES.get(phase, "agent" if grade is not None or not phase else "infrastructure")


def _grade(told: _Exit, status: str) -> Grade | None:
    """None when nothing was graded: a failure without an evaluation has no reward, whatever number it tells."""
    result = told.evaluation_result
    if not result:
        return Grade(reward=_finite(told.reward)) if told.reward is not None and status == "completed" else None
    score = next((result[name] for name in ("score", "reward") if result.get(name) is not None), told.reward)
    return Grade(
        reward=_finite(score),
        done=result.get("done") is not False,
        content=result["content"] if isinstance(result.get("content"), str) else "",
        info=result["info"] if isinstance(result.get("info"), dict) else {},
        is_error=result.get("isError") is True,
        subscores=_subscores(result.get("subscores"), 0),
        raw={name: value for name, value in result.items() if name not in _GRADE},
    )


def _subscores(entries: Any, depth: int) -> tuple[SubScore, ...]:
    if not isinstance(entries, list) or depth > MAX_DEPTH:
        return ()
    known = [cast("dict[str, Any]", one) for one in cast("list[Any]", entries) if isinstance(one, dict)]
    return tuple(
        SubScore(
            name=str(one.get("name", "")),
            value=_finite(one.get("value", one.get("score"))),
            weight=_finite(one.get("weight", 1.0)),
            children=_subscores(one.get("children"), depth + 1),
            info=one["info"] if isinstance(one.get("info"), dict) else {},
        )
        for one in known
    )


def _tell_grade(grade: Grade | None) -> dict[str, Any] | None:
    if grade is None:
        return None
    told = cast("dict[str, Any]", msgspec.to_builtins(grade))
    subscores = told.get("subscores", [])
    return {
        **grade.raw,
        "score": grade.reward,
        "done": grade.done,
        "content": grade.content or None,
        "info": grade.info,
        "isError": grade.is_error,
        **({"subscores": subscores} if subscores else {}),
    }


def _finite(value: Any) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        number = float(value) if known else 0.0
    except OverflowError:
        raise BadInput(f"{str(value)[:40]}: expected a smaller number") from None
    return number if math.isfinite(number) else 0.0


def _line(text: str | None, limit: int) -> str:
    return (text or "").replace("\0", "")[:limit]
