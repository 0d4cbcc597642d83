"""Runs of a taskset: order, isolation, limits, attempts, cancellation. What is recorded is looked at beside."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from tests.unit.evals.running.stage import Journal, environment, repeat, rows, served

from taskloom.domain.evaluation import Grade, Step, ToolCall, Usage
from taskloom.evals import Job, Limits, Run, Runtime, Task, Taskset
from taskloom.evals import rollout as rollout_module
from taskloom.evals.failures import EnvironmentFailure, InfrastructureFailure
from taskloom.server.evals.checks import check_record
from taskloom.wire.records import RunStored


async def test_runs_stand_in_the_order_of_rows_and_tries_whatever_ends_first(
    journal: Journal, runtime: Runtime
) -> None:
    ended: list[str] = []

    async def later_ones_first(run: Run) -> None:
        await asyncio.sleep(0.02 * (3 - run.position // 2))
        await repeat(run)

    job = await Taskset("three", rows(3)).run(
        later_ones_first, runtime, group=2, progress=lambda _job, run: ended.append(run.slug)
    )

    assert [run.slug for run in job.runs] == ["ask-0", "ask-0", "ask-1", "ask-1", "ask-2", "ask-2"]
    assert ended[0] == "ask-2"
    assert [run.try_number for run in job.runs] == [0, 1, 0, 1, 0, 1]
    groups = [run.group_id for run in job.runs]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert (job.reward, job.graded_reward, job.errors) == (1.0, 1.0, [])
    assert job.id == journal.folder.name
    assert [run.position for run in journal.runs] == [0, 1, 2, 3, 4, 5]
    assert journal.job.expected == 6
    assert journal.job.group == 2


async def test_a_run_is_recorded_with_its_steps_and_its_grade(journal: Journal, runtime: Runtime) -> None:
    job = await Taskset("one", rows(1)).run(repeat, runtime)

    (told,) = journal.runs
    assert (told.status, told.stop_reason, told.answer, told.grade.reward) == ("completed", "done", "0", 1.0)
    assert told.runtime == runtime.url
    assert [step.source for step in journal.steps(job.runs[0].trace_id)] == ["task", "user", "task"]
    assert told.steps == 3


async def test_an_agent_that_raises_is_graded_all_the_same(journal: Journal, runtime: Runtime) -> None:
    async def stumble(run: Run) -> None:
        await repeat(run)
        raise RuntimeError("it stumbled")

    job = await Taskset("one", rows(1)).run(stumble, runtime)

    (run,) = job.runs
    assert (run.status, run.boundary, run.reward) == ("error", "agent", 1.0)
    assert run.error == "RuntimeError: it stumbled"
    assert job.errors == [run]
    assert journal.runs[0].boundary == "agent"


async def test_an_agent_that_takes_too_long_is_graded_with_what_it_has(journal: Journal, runtime: Runtime) -> None:
    async def dawdle(run: Run) -> None:
        await repeat(run)
        await asyncio.sleep(60)

    job = await Taskset("one", rows(1)).run(dawdle, runtime, limits=Limits(agent_timeout=0.05))

    (run,) = job.runs
    assert (run.status, run.boundary, run.trace.stop_reason, run.reward) == ("error", "agent", "timeout", 1.0)


async def test_an_agent_that_swallows_its_timeout_is_told_of_it(journal: Journal, runtime: Runtime) -> None:
    async def stubborn(run: Run) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await repeat(run)

    job = await Taskset("one", rows(1)).run(stubborn, runtime, limits=Limits(agent_timeout=0.05))

    (run,) = job.runs
    assert (run.trace.stop_reason, run.reward) == ("timeout", 1.0)


async def test_a_run_that_takes_too_long_is_cut_off_and_not_graded(journal: Journal) -> None:
    env = environment()
    torn_down = asyncio.Event()

    @env.template(id="ward")
    async def ward() -> Any:
        try:
            yield "wait"
        finally:
            torn_down.set()

    async def dawdle(run: Run) -> None:
        await asyncio.sleep(60)

    async with served(env) as place:
        task = Task(env="stage", id="ward")
        job = await Taskset("one", [task]).run(dawdle, place, limits=Limits(run_timeout=0.1))
        await asyncio.wait_for(torn_down.wait(), 5)

    (run,) = job.runs
    assert (run.status, run.boundary, run.trace.stop_reason, run.graded) == ("error", "agent", "timeout", False)
    assert "0.1 s" in run.error


async def test_a_run_whose_place_never_comes_fails_for_its_infrastructure(journal: Journal) -> None:
    @contextlib.asynccontextmanager
    async def never(task: Task) -> AsyncGenerator[Runtime]:
        await asyncio.sleep(60)
        yield Runtime("tcp://127.0.0.1:1")

    job = await Taskset("one", rows(1)).run(repeat, never, limits=Limits(run_timeout=0.05))

    assert (job.runs[0].boundary, job.runs[0].trace.stop_reason) == ("infrastructure", "timeout")


async def test_a_grader_that_never_answers_is_cut_off(journal: Journal) -> None:
    env = environment()

    @env.template(id="mute")
    async def mute() -> Any:
        yield "say something"
        await asyncio.sleep(60)
        yield 1.0

    async with served(env) as place:
        job = await Taskset("one", [Task(env="stage", id="mute")]).run(
            repeat, place, limits=Limits(run_timeout=0.3)
        )

    assert (job.runs[0].boundary, job.runs[0].graded) == ("grader", False)


async def test_each_phase_that_fails_is_told_by_its_boundary(journal: Journal, runtime: Runtime) -> None:
    tasks = [
        *rows(1),
        Task(env="stage", id="ask", args={"outcome": "no prompt"}, slug="no prompt"),
        Task(env="stage", id="ask", args={"outcome": "no grade"}, slug="no grade"),
        Task(env="stage", id="nobody", slug="unknown"),
    ]

    job = await Taskset("some", tasks).run(repeat, runtime)

    assert {run.slug: run.boundary for run in job.runs} == {
        "ask-0": "",
        "no prompt": "environment",
        "no grade": "grader",
        "unknown": "environment",
    }
    assert "there is no question" in job.results["no prompt"][0].error
    assert (job.reward, job.graded_reward) == (0.25, 1.0)
    assert journal.steps(job.runs[1].trace_id)[-1].source == "system"


async def test_a_provider_is_told_by_its_own_boundary_and_others_run_on(
    journal: Journal, runtime: Runtime
) -> None:
    @contextlib.asynccontextmanager
    async def choosy(task: Task) -> AsyncGenerator[Runtime]:
        if task.slug == "ask-1":
            raise EnvironmentFailure("its source does not load")
        if task.slug == "ask-2":
            raise OSError("no room")
        yield runtime

    job = await Taskset("some", rows(4)).run(repeat, choosy)

    assert [run.boundary for run in job.runs] == ["", "environment", "infrastructure", ""]
    assert job.runs[1].error == "its source does not load"


async def test_failures_of_the_infrastructure_are_tried_again_and_no_others(
    journal: Journal, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_module, "FIRST_PAUSE", 0.001)
    tries: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def shaky(task: Task) -> AsyncGenerator[Runtime]:
        tries[str(task.slug)] = tries.get(str(task.slug), 0) + 1
        if task.slug == "ask-0" and tries["ask-0"] < 3:
            raise InfrastructureFailure("the line is down")
        if task.slug == "ask-1":
            raise EnvironmentFailure("it does not load")
        if task.slug == "ask-2":
            raise InfrastructureFailure("for ever down")
        yield runtime

    job = await Taskset("some", rows(3)).run(repeat, shaky, retries=2)

    assert tries == {"ask-0": 3, "ask-1": 1, "ask-2": 3}
    assert [(run.status, run.attempt) for run in job.runs] == [("completed", 3), ("error", 1), ("error", 3)]
    assert job.reward == 1 / 3
    assert len(journal.steps(job.runs[0].trace_id)) == 3  # those of earlier attempts are gone


async def test_a_provider_may_give_a_runtime_as_it_is_and_what_is_none_is_told(
    journal: Journal, runtime: Runtime
) -> None:
    places: dict[str, Any] = {"ask-0": runtime, "ask-1": 5}

    async def late() -> Runtime:
        return runtime

    job = await Taskset("some", rows(3)).run(repeat, lambda task: places.get(task.slug) or late())

    assert [run.status for run in job.runs] == ["completed", "error", "error"]
    assert {run.boundary for run in job.errors} == {"infrastructure"}
    assert "gave 5 for the row: expected an async context manager of a Runtime" in job.runs[1].error
    assert "gave <coroutine object" in job.runs[2].error


async def test_runs_that_are_done_elsewhere_are_tried_again_in_the_same_way(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_module, "FIRST_PAUSE", 0.01)
    tries: list[tuple[str, int]] = []

    class Elsewhere:
        runs_whole = True

        async def run_whole(self, task: Task, agent: Any, run: Run, job: Job) -> None:
            tries.append((run.slug, run.attempt))
            if run.slug == "ask-0" and run.attempt < 3:
                raise InfrastructureFailure("its worker is lost")
            if run.slug == "ask-1":
                raise EnvironmentFailure("its own fault")
            run.trace.status, run.grade = "completed", Grade(reward=1.0)

    job = await Taskset("some", rows(3)).run(repeat, Elsewhere(), retries=2, max_concurrent=1)

    assert tries == [("ask-0", 1), ("ask-0", 2), ("ask-0", 3), ("ask-1", 1), ("ask-2", 1)]
    assert [(run.status, run.attempt, run.reward) for run in job.runs] == [
        ("completed", 3, 1.0),
        ("error", 1, 0.0),
        ("completed", 1, 1.0),
    ]


async def test_a_limit_of_steps_tokens_or_cost_ends_the_agent_and_is_no_failure(
    journal: Journal, runtime: Runtime
) -> None:
    async def wordy(run: Run) -> None:
        await repeat(run)
        for _ in range(100):
            usage = Usage(prompt_tokens=10, completion_tokens=10, cost_usd=0.5)
            run.record(Step(source="agent", usage=usage, tool_calls=(ToolCall("1", "look"),)))

    tasks = rows(3)
    tasks[0].agent_config = {"max_steps": 2}
    tasks[1].agent_config = {"max_tokens": 50}
    tasks[2].agent_config = {"max_cost": 1.0}

    job = await Taskset("some", tasks).run(wordy, runtime)

    assert [run.trace.stop_reason for run in job.runs] == ["max_steps", "max_tokens", "max_cost"]
    assert [run.trace.agent_steps for run in job.runs] == [2, 3, 3]
    assert [(run.status, run.reward) for run in job.runs] == [("completed", 1.0)] * 3


async def test_an_agent_that_goes_on_after_a_step_without_tools_is_stopped_by_the_next_one(
    journal: Journal, runtime: Runtime
) -> None:
    async def talks(run: Run) -> None:
        await repeat(run)
        for _ in range(int(run.task.slug == "ask-1") * 98 + 2):
            run.record(Step(source="agent", content="and"))

    job = await Taskset("some", rows(2)).run(talks, runtime, limits=Limits(max_steps=2))

    assert [(run.trace.stop_reason, run.trace.agent_steps) for run in job.runs] == [("done", 2), ("max_steps", 3)]
    assert [(run.status, run.reward) for run in job.runs] == [("completed", 1.0)] * 2


async def test_an_agent_that_is_no_async_function_is_told_so(journal: Journal, runtime: Runtime) -> None:
    def plain(run: Run) -> str:
        return "three"

    job = await rows(1)[0].run(plain, runtime)

    assert (job.runs[0].boundary, job.runs[0].status) == ("agent", "error")
    assert "gave 'three' when it was called: expected an async function" in job.runs[0].error


async def test_a_cancelled_call_takes_every_substrate_down_and_tells_its_runs(
    journal: Journal, runtime: Runtime
) -> None:
    up: set[str] = set()
    entered, all_up = [0], asyncio.Event()

    @contextlib.asynccontextmanager
    async def counted(task: Task) -> AsyncGenerator[Runtime]:
        up.add(str(task.slug))
        try:
            yield runtime
        finally:
            await asyncio.sleep(0.01)
            up.discard(str(task.slug))

    async def wait(run: Run) -> None:
        if run.slug == "ask-0":
            return
        entered[0] += 1
        if entered[0] == 4:
            all_up.set()
        await asyncio.sleep(60)

    job = await Job.start("long")
    call = asyncio.ensure_future(Taskset("long", rows(50)).run(wait, counted, max_concurrent=4, job=job))
    await asyncio.wait_for(all_up.wait(), 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert up == set()
    assert [run.status for run in job.runs] == ["completed", *["cancelled"] * 4]
    assert [run.status for run in journal.runs] == ["completed", *["cancelled"] * 4]
    left = [
        task
        for task in asyncio.all_tasks()
        if task.get_name().startswith("Task-") and task is not asyncio.current_task()
    ]
    assert not [task for task in left if "work" in repr(task.get_coro())]


async def test_a_second_cancellation_hurries_what_is_taken_down(journal: Journal, runtime: Runtime) -> None:
    taking_down = asyncio.Event()

    @contextlib.asynccontextmanager
    async def slow(task: Task) -> AsyncGenerator[Runtime]:
        try:
            yield runtime
        finally:
            taking_down.set()
            await asyncio.sleep(600)

    async def wait(run: Run) -> None:
        begun.set()
        await asyncio.sleep(600)

    begun = asyncio.Event()
    call = asyncio.ensure_future(Taskset("one", rows(1)).run(wait, slow))
    await asyncio.wait_for(begun.wait(), 10)
    call.cancel()
    await asyncio.wait_for(taking_down.wait(), 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(call, 10)
    assert journal.runs[0].status == "cancelled"


async def test_a_cancellation_inside_of_an_agent_is_its_own_failure(journal: Journal, runtime: Runtime) -> None:
    async def entangled(run: Run) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        await inner

    job = await Taskset("two", rows(2)).run(entangled, runtime)

    assert [(run.status, run.boundary) for run in job.runs] == [("error", "agent")] * 2
    assert all(run.graded for run in job.runs)


async def test_a_substrate_that_cannot_be_taken_down_leaves_the_grade(journal: Journal, runtime: Runtime) -> None:
    @contextlib.asynccontextmanager
    async def sticky(task: Task) -> AsyncGenerator[Runtime]:
        yield runtime
        raise OSError("it does not go")

    job = await Taskset("one", rows(1)).run(repeat, sticky)

    (run,) = job.runs
    assert (run.status, run.reward) == ("completed", 1.0)
    assert "it does not go" in run.trace.extra["takedown"]


async def test_only_so_many_run_at_a_time(journal: Journal, runtime: Runtime) -> None:
    now = most = 0

    async def counted(run: Run) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    await Taskset("some", rows(20)).run(counted, runtime, max_concurrent=3)

    assert most == 3


async def test_a_job_gathers_several_calls(journal: Journal, runtime: Runtime) -> None:
    async with await Job.start("training", group=2) as job:
        for _ in range(2):
            await Taskset("two", rows(2)).run(repeat, runtime, job=job)

    assert [run.position for run in job.runs] == list(range(8))
    assert len({run.group_id for run in job.runs}) == 4
    assert journal.job.expected == 8
    with pytest.raises(ValueError, match="closed"):
        await Taskset("two", rows(2)).run(repeat, runtime, job=job)


async def test_jobs_of_one_process_under_a_worker_share_its_task(journal: Journal, runtime: Runtime) -> None:
    first = await Taskset("two", rows(2)).run(repeat, runtime)
    second = await Taskset("two", rows(2)).run(repeat, runtime)

    assert first.id == second.id == journal.folder.name
    assert [run.position for run in [*first.runs, *second.runs]] == [0, 1, 2, 3]
    assert [run.position for run in journal.runs] == [0, 1, 2, 3]
    assert journal.job.expected == 4


async def test_wrong_calls_raise_before_anything_runs(journal: Journal, runtime: Runtime) -> None:
    taskset = Taskset("one", rows(1))
    for wrong in (
        {"group": 0},
        {"max_concurrent": 0},
        {"retries": -1},
        {"limits": None, "group": -3},
    ):
        with pytest.raises(ValueError, match="expected"):
            await taskset.run(repeat, runtime, **wrong)
    with pytest.raises(TypeError, match="async function"):
        await taskset.run("an agent", runtime)
    with pytest.raises(TypeError, match="provider"):
        await taskset.run(repeat, "tcp://127.0.0.1:1")
    taskset["ask-0"].agent_config = {"max_steps": "many"}
    with pytest.raises(ValueError, match="max_steps"):
        await taskset.run(repeat, runtime)
    assert journal.records == []


async def test_rows_of_unknown_origin_need_a_runtime(journal: Journal) -> None:
    with pytest.raises(ValueError, match="give runtime="):
        await Taskset("one", rows(1)).run(repeat)


async def test_an_empty_taskset_makes_an_empty_job(journal: Journal, runtime: Runtime) -> None:
    job = await Taskset("none", []).run(repeat, runtime)

    assert (job.runs, job.reward, job.graded_reward) == ([], 0.0, None)


async def test_traces_are_forgotten_when_they_are_not_wanted(journal: Journal, runtime: Runtime) -> None:
    job = await Taskset("one", rows(1)).run(repeat, runtime, keep_traces=False)

    assert job.runs[0].trace.steps == []
    assert len(journal.steps(job.runs[0].trace_id)) == 3


async def test_what_cannot_be_recorded_keeps_its_place(journal: Journal, runtime: Runtime) -> None:
    async def flood(run: Run) -> None:
        run.record(Step(source="agent", content="x" * (9 << 20)))
        run.record(Step(source="agent", content="small"))
        await repeat(run)

    job = await Taskset("one", rows(1)).run(flood, runtime)

    steps = journal.steps(job.runs[0].trace_id)
    assert [step.source for step in steps] == ["task", "user", "agent", "agent", "task"]
    assert "cannot be recorded" in steps[2].error
    assert steps[3].content == "small"


async def test_what_no_server_takes_is_reduced_to_what_one_does(journal: Journal, runtime: Runtime) -> None:
    async def wild(run: Run) -> None:
        anything: Any = object()
        run.record(Step(source="agent", content=anything))
        run.record(Step(source="agent", content="half \ud800"))
        run.record(Step(source="agent", usage=Usage(prompt_tokens=-1)))
        run.record(Step(source="agent", content="fine", started=float("nan")))
        run.record(Step(source="agent", content="fine"))
        run.trace.stop_reason = anything
        run.model = "m" * 1000
        run.trace.content = "0"

    job = await Taskset("one", rows(1)).run(wild, runtime)

    steps = journal.steps(job.runs[0].trace_id)
    assert [bool(step.error) for step in steps] == [False, False, True, True, True, True, False, False]
    (told,) = journal.runs
    assert (told.status, told.reward, told.slug, told.model) == ("completed", 1.0, "ask-0", "m" * 256)
    assert "cannot be recorded" in told.extra["not recorded"]


async def test_nothing_that_an_agent_leaves_keeps_the_journal_from_the_server(
    journal: Journal, runtime: Runtime
) -> None:
    async def wreck(run: Run) -> None:
        anything: Any = run
        anything.record(Step(source=cast("Any", "nobody"), content="who?"))
        if run.position == 0:
            run.trace.content = {None: "no key of JSON"}
        if run.position == 1:
            anything.grade, anything.position, anything.attempt, anything.started = "x", -1, 0, "y"
            anything.trace.status, anything.boundary = [], {}
        if run.position == 2:
            anything.trace = None
        if run.position == 3:
            anything.trace.steps = None

    job = await Taskset("four", rows(4)).run(wreck, runtime)

    assert sorted(run.slug for run in job.runs) == [f"ask-{n}" for n in range(4)]
    told = {record.run.slug: record.run for record in journal.of(RunStored)}
    assert sorted(told) == [f"ask-{n}" for n in range(4)]
    for record in journal.records:
        check_record(0, record, job.id)
    assert {step.source for step in journal.steps(told["ask-0"].id)} == {"task", "user", "system"}


async def test_whatever_an_agent_raises_or_cancels_ends_its_own_run_alone(runtime: Runtime) -> None:
    class Panic(BaseException):
        """Such as those of Rust's libraries."""

    async def fall(run: Run) -> None:
        await repeat(run)
        if run.position == 0:
            raise Panic("it panicked")
        if run.position == 1:
            sys.exit("it left")
        if run.position == 2:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        if run.position == 3:
            raise GeneratorExit

    job = await Taskset("five", rows(5)).run(fall, runtime, max_concurrent=1)

    assert [run.error for run in job.runs] == [
        "Panic: it panicked",
        "SystemExit: it left",
        "CancelledError",
        "GeneratorExit",
        "",
    ]
    assert {run.boundary for run in job.runs[:4]} == {"agent"}
    assert [run.reward for run in job.runs] == [1.0] * 5


async def test_an_agent_that_takes_no_notice_of_its_end_is_left_behind(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_module, "AGENT_PATIENCE", 0.05)
    over = asyncio.Event()

    async def deaf(run: Run) -> None:
        await repeat(run)
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()

    job = await Taskset("one", rows(1)).run(deaf, runtime, limits=Limits(agent_timeout=0.02))
    over.set()

    (run,) = job.runs
    assert (run.status, run.boundary, run.trace.stop_reason, run.reward) == ("error", "agent", "timeout", 1.0)
    assert "was left alone" in run.trace.extra["agent"]


async def test_a_provider_that_cancels_its_caller_does_not_end_a_job_as_if_it_were_complete(
    runtime: Runtime,
) -> None:
    @contextlib.asynccontextmanager
    async def rude(task: Task) -> AsyncGenerator[Runtime]:
        caller = asyncio.current_task()
        assert caller is not None
        caller.cancel()
        yield runtime

    with pytest.raises(asyncio.CancelledError):
        await Taskset("two", rows(2)).run(repeat, rude, max_concurrent=1)


async def test_scores_that_are_no_numbers_are_failures_of_the_grader(journal: Journal) -> None:
    env = environment()

    @env.template(id="score")
    async def score(value: float) -> Any:
        yield "say something"
        yield value

    async with served(env) as place:
        tasks = [Task(env="stage", id="score", args={"value": value}) for value in (7, -2, 1e200)]
        job = await Taskset("scores", tasks).run(repeat, place)

    assert [run.boundary for run in job.runs] == ["", "", "grader"]
    assert [run.reward for run in job.runs] == [7.0, -2.0, 0.0]


async def test_an_agent_may_record_from_a_thread(journal: Journal, runtime: Runtime) -> None:
    async def threaded(run: Run) -> None:
        def work() -> None:
            for number in range(50):
                run.record(Step(source="agent", content=str(number)))

        await asyncio.to_thread(work)
        await repeat(run)

    job = await Taskset("some", rows(4)).run(threaded, runtime)

    for run in job.runs:
        told = journal.steps(run.trace_id)
        assert [step.content for step in told if step.source == "agent"] == [str(number) for number in range(50)]
