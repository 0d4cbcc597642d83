"""One run from its placement to its grade, with every failure as data.

    placed (provider) -> connected -> begun (the prompt) -> the agent acts -> graded -> taken down

ISOLATION  whatever a provider, an environment, an agent or a grader does becomes the run's `error`, with the boundary
it crossed. Only cancellation from outside goes through, after the environment was told and the substrate is gone.
LIMITS  `agent_timeout` ends the agent, and its answer so far is graded. `run_timeout` covers everything up to the
answer, and what it cuts off is not graded; grading has the same time once more.
ATTEMPTS  a failure of the infrastructure without a grade is tried again, if that is allowed, after growing pauses.
Who runs when is the business of `engine`.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any

from taskloom.domain.evaluation import Boundary, Step
from taskloom.evals.channel.contract import Control, Refused
from taskloom.evals.failures import AgentFailure, InfrastructureFailure, RunFailure
from taskloom.evals.limits import LimitReached, Limits
from taskloom.evals.recording import JobRecorder
from taskloom.evals.run import Run, describe
from taskloom.evals.task import Task
from taskloom.evals.trace import Trace

AGENT_PATIENCE = 10.0  # seconds that an agent has to end when it is cancelled
CANCEL_PATIENCE = 2.0  # seconds that an environment has to answer to a cancellation
FIRST_PAUSE, LAST_PAUSE = 0.5, 30.0  # seconds before further attempts, doubled each time

Placing = Callable[[Task], AbstractAsyncContextManager[Any]]
Connect = Callable[[Any], AbstractAsyncContextManager[Control]]


@dataclass(frozen=True)
class Conditions:
    """What the runs of one call have in common."""

    agent: Any
    agent_name: str
    model: str
    provider: Placing
    connect: Connect
    job_id: str
    recorder: JobRecorder
    ended: Callable[[Run], None]
    limits: Limits
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """One run of a call: which row, and where in the job. attempt: the number of its first one now."""

    task: Task
    position: int
    run_id: str
    group_id: str
    try_number: int = 0
    attempt: int = 1


async def roll_out(place: Place, conditions: Conditions) -> Run:
    """The run, ended and recorded. Raises CancelledError alone, when it was cancelled from outside."""
    limits = limits_of(place.task, conditions.limits)

    async def once(attempt: int) -> Run:
        rollout = _Rollout(place, conditions, limits, attempt)
        await rollout.go()
        return rollout.run

    return await _tried(once, place.attempt, conditions.retries)


async def _tried(once: Callable[[int], Awaitable[Run]], attempt: int, retries: int) -> Run:
    """The first attempt that the infrastructure did not fail, or the last one that is allowed."""
    last, pause = attempt + retries, FIRST_PAUSE
    while True:
        run = await once(attempt)
        if run.boundary != "infrastructure" or run.graded or attempt >= last:
            return run
        attempt += 1
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the retries, no secret
        pause = min(pause * 2, LAST_PAUSE)


def limits_of(task: Task, limits: Limits) -> Limits:
    """With what the row's `agent_config` says otherwise; ValueError for what cannot be a limit."""
    words = task.agent_config
    if not words:
        return limits
    names = {
        "max_steps": "max_steps",
        "timeout_seconds": "agent_timeout",
        "max_tokens": "max_tokens",
        "max_cost": "max_cost",
    }
    given = {ours: words[name] for name, ours in names.items() if words.get(name) is not None}
    if not given:
        return limits
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"task {task.slug!r}: agent_config: {name} {value!r:.80}: expected a number above 0")
    try:
        return Limits(**({name: getattr(limits, name) for name in Limits.__dataclass_fields__} | given))
    except ValueError as error:
        raise ValueError(f"task {task.slug!r}: agent_config: {error}") from None


class _Rollout:
    """One attempt. `phase`: the boundary that a failure crosses now."""

    def __init__(self, place: Place, conditions: Conditions, limits: Limits, attempt: int) -> None:
        self.place, self.conditions, self.limits, self.attempt = place, conditions, limits, attempt
        self.phase: Boundary = "infrastructure"
        self.over = False
        self.began = time.time()
        self.run = self._make(None)

    def _make(self, client: Control | None) -> Run:
        place, conditions = self.place, self.conditions
        run = Run(
            client,
            place.task.id,
            task=place.task,
            trace_id=place.run_id,
            job_id=conditions.job_id,
            group_id=place.group_id,
            position=place.position,
            try_number=place.try_number,
            limits=self.limits,
            sink=conditions.recorder.take_step,
        )
        run.attempt, run.started = self.attempt, self.began
        run.agent, run.model = conditions.agent_name, conditions.model
        return run

    async def go(self) -> None:
        self.conditions.recorder.begin_run(self.run)
        try:
            async with AsyncExitStack() as stack:
                await self._live_and_tell(stack)
        except asyncio.CancelledError as error:
            if _from_outside():
                self._cancelled()
                raise
            self._failed(self.phase, error)  # a task of somebody inside was cancelled, not this one
        except Exception as error:  # a run's boundary: what happens in one is data
            self._failed(self.phase, error)
        finally:
            self._over()
            self.run.detach()

    async def _live_and_tell(self, stack: AsyncExitStack) -> None:
        """What was graded is recorded before its substrate is taken down, whatever becomes of that."""
        try:
            await self._live(stack)
        except asyncio.CancelledError:
            if _from_outside():
                self._cancelled()
                self._over()
                await self._tell_environment()
            raise
        self._over()

    async def _live(self, stack: AsyncExitStack) -> None:
        """Up to the grade. What goes wrong before the agent acts is raised, by phase."""
        limit = self.limits.run_timeout
        deadline = asyncio.timeout(limit)
        try:
            async with deadline:
                await self._set_up(stack)
                await self._act()
        except TimeoutError:
            if not deadline.expired():
                raise
        if deadline.expired():
            await self._cut_off(f"{_PHASES[self.phase]} was not over when the run's {limit:g} s were")
            return
        self.phase = "grader"
        deadline = asyncio.timeout(limit)
        try:
            async with deadline:
                await self.run.finish()
        except TimeoutError:
            if not deadline.expired():
                raise
            await self._cut_off(f"no grade in {limit:g} s")

    async def _set_up(self, stack: AsyncExitStack) -> None:
        conditions = self.conditions
        runtime = await stack.enter_async_context(_placing(conditions.provider(self.place.task)))
        client = await stack.enter_async_context(conditions.connect(runtime))
        self.run.attach(client)
        self.run.runtime = str(getattr(runtime, "url", "")) or None
        self.phase = "environment"
        await self.run.begin()

    async def _act(self) -> None:
        """What the agent raises is noted, and its answer so far is graded all the same."""
        self.phase = "agent"
        run, limit, trace = self.run, self.limits.agent_timeout, self.run.trace
        # In a task of its own: what it does to its task, such as cancelling it, is not done to the one that has it.
        agent = asyncio.ensure_future(self._agent())
        try:
            await asyncio.wait([agent], timeout=limit)
            if not agent.done():
                self._out_of_time(limit)
                await _end_agent(agent)
        except asyncio.CancelledError:
            await _end_agent(agent)
            raise
        finally:
            self._keep_trace(trace)
        if not agent.done():
            run.trace.extra["agent"] = (
                f"it did not end in {AGENT_PATIENCE:g} s after it was told to, and was left alone"
            )
            return
        error = asyncio.CancelledError() if agent.cancelled() else agent.result()
        if isinstance(error, LimitReached):
            run.trace.stop_reason = error.reason
        elif error is not None:
            self._failed("agent", error)

    def _keep_trace(self, trace: Trace) -> None:
        """An agent may put anything in the place of its trace; what cannot be one is not recorded."""
        left: Any = self.run.trace
        if left is not trace and not (isinstance(left, Trace) and left.trace_id == trace.trace_id):
            self.run.trace = trace
        steps: Any = self.run.trace.steps
        if not isinstance(steps, list):
            self.run.trace.steps = []

    async def _agent(self) -> BaseException | None:
        """What it raised. A run's boundary: also what is no Exception, such as `sys.exit` or a panic of Rust."""
        try:
            await _awaitable(self.conditions.agent(self.run))
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            return error
        return None

    # --- how it ends --------------------------------------------------------------------------------------

    def _out_of_time(self, limit: float | None) -> None:
        self.run.trace.stop_reason = "timeout"
        self.run.fail("agent", f"the agent was not done after {limit:g} s")

    async def _cut_off(self, text: str) -> None:
        self.run.trace.stop_reason = "timeout"
        self.run.fail(self.phase, text)
        await self._tell_environment()

    def _failed(self, phase: Boundary, error: BaseException) -> None:
        boundary = error.boundary if isinstance(error, RunFailure) else phase
        text = str(error) if isinstance(error, RunFailure | Refused) and str(error) else describe(error)
        if self.over:  # a substrate that could not be taken down; the run had ended
            self.run.trace.extra["takedown"] = text
            return
        first = not self.run.error
        self.run.fail(boundary, text)
        if first:
            now = time.time()
            self.run.record(
                Step(source="system", error=text, started=now, ended=now, extra={"boundary": boundary})
            )

    def _cancelled(self) -> None:
        run = self.run
        if run.trace.status == "running" and run.grade is None:
            run.trace.status = "cancelled"

    async def _tell_environment(self) -> None:
        """That the run is over before its grade; a line that does not answer is cut."""
        client = self.run.control
        if client is None:
            return
        try:
            async with asyncio.timeout(CANCEL_PATIENCE):
                await client.cancel()
        except Exception:  # told, or gone: the line is cut either way
            pass
        finally:
            client.abort()

    def _over(self) -> None:
        """It has ended: write that down. Once."""
        if self.over:
            return
        self.over = True
        run, trace = self.run, self.run.trace
        if trace.status == "running":
            trace.status = "completed"
        if trace.status == "completed" and not trace.stop_reason:
            trace.stop_reason = "done"
        run.ended = time.time()
        self.conditions.recorder.end_run(run)
        self.conditions.ended(run)


_PHASES: dict[Boundary, str] = {
    "infrastructure": "bringing the environment up",
    "environment": "starting the task",
    "agent": "the agent",
    "grader": "grading",
}


def _placing(given: Any) -> Any:
    """What a provider gave for a row; InfrastructureFailure for anything but an async context manager."""
    if hasattr(given, "__aenter__"):
        return given
    if inspect.iscoroutine(given):
        given.close()
    raise InfrastructureFailure(
        f"the provider gave {given!r:.80} for the row: expected an async context manager of a Runtime"
    )


def _awaitable(called: Any) -> Any:
    """What an agent gave when it was called; AgentFailure for an ordinary function's value."""
    if inspect.isawaitable(called):
        return called
    raise AgentFailure(
        f"the agent gave {called!r:.80} when it was called: expected an async function, which is awaited"
    )


def _from_outside() -> bool:
    """Whether a CancelledError that passes by was meant for this very task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _end_agent(agent: asyncio.Future[Any]) -> None:
    """Cancel it and wait, bounded: one that takes no notice is left behind."""
    agent.cancel()
    await asyncio.wait([agent], timeout=AGENT_PATIENCE)


async def run_whole(place: Place, conditions: Conditions, job: Any) -> Run:
    """A run that its provider has done elsewhere, where it records itself; here, what kept it from getting there."""
    limits = limits_of(place.task, conditions.limits)

    async def once(attempt: int) -> Run:
        return await _run_whole(_Rollout(place, conditions, limits, attempt).run, conditions, job)

    return await _tried(once, place.attempt, conditions.retries)


async def _run_whole(run: Run, conditions: Conditions, job: Any) -> Run:
    whole: Any = conditions.provider
    try:
        await whole.run_whole(run.task, conditions.agent, run, job)
    except asyncio.CancelledError as error:
        if not _from_outside():
            _not_there(run, conditions, error)
        else:
            if run.trace.status == "running":
                run.trace.status, run.ended = "cancelled", time.time()
                conditions.recorder.store_run(run)
            raise
    except Exception as error:  # a run's boundary
        _not_there(run, conditions, error)
    finally:
        conditions.ended(run)
    return run


def _not_there(run: Run, conditions: Conditions, error: BaseException) -> None:
    told = isinstance(error, RunFailure)
    run.fail(error.boundary if told else "infrastructure", str(error) if told else describe(error))
    run.ended = time.time()
    conditions.recorder.store_run(run)
