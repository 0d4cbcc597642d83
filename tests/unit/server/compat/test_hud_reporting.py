"""What HUD's client reports becomes a job with runs and traces, however it comes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from tests import conftest
from tests.conftest import Clock, House
from tests.unit.server.compat.hud_wire import Wire, span

from taskloom.domain.evaluation import EvalRow
from taskloom.server.compat.hud.closing import IDLE, SILENT
from taskloom.server.settings import Settings, read_settings
from taskloom.wire.messages import RunQuery, StepsQuery, TasksetUpload
from taskloom.wire.operations import GET_JOB, GET_RUN, GET_STEPS, GET_TASK, LIST_RUNS, UPLOAD_TASKSET


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all of them: what they report differs."""
    running = House(tmp_path_factory.mktemp("hud") / "house", Clock())
    yield running
    running.stop()


@pytest.fixture
def clock(house: House) -> Clock:
    return house.clock


@pytest.fixture
def wire(house: House) -> Iterator[Wire]:
    wire = Wire(house.url, house.make_key("member"))
    yield wire
    wire.close()


def test_a_run_is_a_run_of_ours(house: House, wire: Wire) -> None:
    job = wire.enter_job(name="sums", group=2)
    trace = wire.enter(job, model="unknown")
    assert wire.get(f"/v2/trace/{trace}")["status"] == "running"
    wire.upload(
        trace, span(1, "user"), span(2, content="3", usage={"prompt_tokens": 5, "cost_usd": 0.5}, model="m")
    )
    result = {"score": 0.5, "info": {"why": "half"}, "subscores": [{"name": "a", "value": 0.5}], "more": 1}
    wire.exit(trace, reward=0.5, evaluation_result=result, stop_reason="done", metadata={"seed": 3})

    task = house.client.call(GET_TASK, task=job)
    assert (task.type.value, task.status.value, task.project) == ("testing", "running", "HUD")
    run = house.client.call(GET_RUN, run=trace)
    assert (run.job, run.slug, run.group, run.status, run.reward) == (job, "add-1", "g", "completed", 0.5)
    assert (run.steps, run.answer, run.model, run.stop_reason) == (2, "3", "m", "done")
    assert run.usage.prompt_tokens == 5 and run.usage.cost_usd == 0.5
    assert run.extra["metadata"] == {"seed": 3}
    assert run.grade is not None and run.grade.raw == {"more": 1} and run.grade.subscores[0].name == "a"
    told = wire.get(f"/v2/trace/{uuid.UUID(trace)}")
    assert told["reward"] == 0.5 and told["evaluation_result"]["info"] == {"why": "half"}
    assert wire.get(f"/v2/trace/{trace}/events")["events"][0]["text"] == "3"


def test_ids_may_have_dashes(house: House, wire: Wire) -> None:
    job, trace = uuid.uuid4(), uuid.uuid4()
    wire.post(f"/v2/trace/job/{job}/enter", {"name": "trial", "group": 1})
    wire.post(f"/v2/trace/{trace}/enter", {"job_id": str(job), "task_slug": "s"})
    assert wire.get(f"/v2/jobs/{job.hex}/traces")["items"][0]["id"] == str(trace)
    assert house.client.call(GET_RUN, run=trace.hex).job == job.hex
    assert wire.get(f"/v2/trace/{trace}/events")["events"] == []


def test_enters_and_exits_may_come_twice(house: House, wire: Wire) -> None:
    job = wire.enter_job()
    trace = wire.enter(job)
    wire.post(f"/v2/trace/job/{job}/enter", {"name": "again", "group": 1})
    wire.upload(trace, span(1))
    for _ in range(2):
        wire.exit(trace, reward=1.0)
        wire.post(f"/v2/trace/{trace}/enter", {"job_id": job, "task_slug": "other"})
    run = house.client.call(GET_RUN, run=trace)
    assert (run.status, run.slug, run.steps, run.reward) == ("completed", "add-1", 1, 1.0)
    assert house.client.call(GET_JOB, job=job).job.name == "trial"
    assert house.client.call(LIST_RUNS, RunQuery(), job=job).total == 1


def test_steps_come_late_repeated_and_in_any_order(house: House, wire: Wire) -> None:
    trace = wire.enter(wire.enter_job())
    usage = {"prompt_tokens": 1}
    assert wire.upload(trace, span(3, content="c", usage=usage), span(1, content="a", usage=usage)) == {
        "accepted": 2,
        "known": 0,
        "ignored": 0,
    }
    wire.exit(trace, reward=1.0)
    assert wire.upload(trace, span(2, content="b", usage=usage), span(3, content="c", usage=usage))["known"] == 1
    wire.upload(
        trace, span(5, content="e", tool_calls=[{"name": "look", "arguments": "no json"}]), span(4, content="d")
    )
    page = house.client.call(GET_STEPS, StepsQuery(), run=trace)
    assert [step.content for step in page.steps] == ["a", "b", "c", "d", "e"]
    assert page.steps[4].tool_calls[0].arguments == {"raw": "no json"}
    run = house.client.call(GET_RUN, run=trace)
    assert (run.status, run.steps, run.usage.prompt_tokens) == ("completed", 5, 3)


def test_what_is_no_step_is_left_out(wire: Wire) -> None:
    trace = wire.enter(wire.enter_job())
    other = {
        "name": "x",
        "span_id": "1" * 16,
        "attributes": {"hud.schema": "hud.robot.step.v1", "hud.payload": {}},
    }
    odd = [
        None,
        5,
        {},
        {"attributes": []},
        {"attributes": {"hud.schema": "hud.step.v1", "hud.payload": "x"}},
        other,
    ]
    assert wire.upload(trace, *odd) == {"accepted": 0, "known": 0, "ignored": 6}


def test_failures_are_told_by_what_failed(house: House, wire: Wire) -> None:
    job = wire.enter_job()
    found = {}
    for error, result in [
        ("[provisioning] OSError: no", None),
        ("[starting task] ValueError: no", None),
        ("[grading] RuntimeError: no", None),
        ("[agent loop] RuntimeError: no", {"score": 1.0}),
        ("it broke", {"score": 1.0}),
    ]:
        trace = wire.enter(job)
        wire.exit(
            trace, status="error", error=error, reward=0.0, **({"evaluation_result": result} if result else {})
        )
        run = house.client.call(GET_RUN, run=trace)
        found[error] = (run.boundary, run.reward)
    assert [*found.values()] == [
        ("infrastructure", None),
        ("environment", None),
        ("grader", None),
        ("agent", 1.0),
        ("agent", 1.0),
    ]


def test_a_run_of_a_taskset_has_its_rows_arguments_and_columns(house: House, wire: Wire) -> None:
    row = EvalRow(slug="add-1", env="sums", id="add", args={"a": 1}, columns={"level": "easy"})
    made = house.client.call(UPLOAD_TASKSET, TasksetUpload(rows=[row]), taskset="sums")
    trace = wire.enter(wire.enter_job(taskset_id=str(uuid.UUID(made.taskset.id))))
    run = house.client.call(GET_RUN, run=trace)
    assert (run.env, run.template, run.args, run.columns) == ("sums", "add", {"a": 1}, {"level": "easy"})


def test_a_trace_of_a_job_that_was_never_entered_makes_it(house: House, wire: Wire) -> None:
    job = uuid.uuid4().hex
    wire.enter(job)
    assert house.client.call(GET_JOB, job=job).runs == 1


def test_what_was_never_entered_is_not_there(wire: Wire) -> None:
    gone = uuid.uuid4().hex
    for path in (f"/v2/trace/{gone}", f"/v2/trace/{gone}/events", f"/v2/jobs/{gone}/traces", "/v2/trace/nonsense"):
        assert "no " in wire.get(path, 404)
    wire.post(f"/v2/trace/{gone}/exit", {"status": "completed"}, 404)
    wire.post(f"/telemetry/trace/{gone}/telemetry-upload", {"telemetry": [span(1)]}, 404)
    assert "job_id" in wire.post(f"/v2/trace/{gone}/enter", {"task_slug": "s"}, 400)


def test_a_task_that_is_no_evaluation_is_no_job(house: House, wire: Wire) -> None:
    from taskloom.wire.messages import TaskCreate
    from taskloom.wire.operations import CREATE_TASK

    task = house.client.call(CREATE_TASK, TaskCreate(name="training", project="mine"))
    assert "no evaluation" in wire.post(f"/v2/trace/job/{task.id}/enter", {"name": "x", "group": 1}, 409)


def test_a_quiet_job_whose_traces_ended_is_completed_and_a_report_opens_it_again(
    house: House,
    wire: Wire,
    clock: Clock,
    eventually: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def watchful(*given: Any) -> Settings:
        return msgspec.structs.replace(read_settings(*given), sweep=0.05)

    monkeypatch.setattr(conftest, "read_settings", watchful)
    done, open_ = wire.enter_job(), wire.enter_job()
    wire.exit(wire.enter(done), reward=1.0)
    lost = wire.enter(open_)
    house.restart()
    clock.advance(IDLE + 1)
    eventually(lambda: house.client.call(GET_TASK, task=done).status.value == "completed")
    assert house.client.call(GET_TASK, task=open_).status.value == "running"
    wire.enter(done)
    assert house.client.call(GET_TASK, task=done).status.value == "running"
    clock.advance(SILENT)
    eventually(lambda: house.client.call(GET_TASK, task=open_).status.value == "aborted")
    assert house.client.call(GET_RUN, run=lost).boundary == "infrastructure"
