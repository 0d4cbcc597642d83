"""Leases and hosted runs as HUD's client asks for them, up to the queue; workers stand in tests/hud."""

from __future__ import annotations

import hashlib
import io
import uuid
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from tests.conftest import House
from tests.unit.server.compat.hud_wire import Wire

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.domain.task import TaskType
from taskloom.server.compat.hud import hosting, rollouts
from taskloom.wire.messages import TaskCreate, TaskQuery
from taskloom.wire.operations import CREATE_TASK, GET_RUN, GET_TASK, QUERY_TASKS


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One that has the source of environment `sums`."""
    running = House(tmp_path_factory.mktemp("hud") / "house")
    _make_environment(running)
    yield running
    running.stop()


@pytest.fixture
def wire(house: House) -> Iterator[Wire]:
    wire = Wire(house.url, house.make_key("member", "ada"))
    yield wire
    wire.close()


def _make_environment(house: House) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("source/env.py", "")
    headers = {"Authorization": f"Bearer {house.key}", "Content-Type": "application/octet-stream"}
    files = hashlib.sha256(packed.getvalue()).hexdigest()
    httpx.put(f"{house.url}/api/blobs/{files}", content=packed.getvalue(), headers=headers).raise_for_status()
    run = "cd source && exec python -m taskloom.evals.runtimes.lent --env sums -- env.py"
    execution = Execution(run=run, files=files, setup="pip install x", variables={"COLOUR": "blue"})
    made = TaskCreate(name="environment sums", project="sums", type=TaskType.SERVICE, execution=execution)
    house.client.call(CREATE_TASK, made)


def _rollout(**fields: Any) -> dict[str, Any]:
    return {
        "trace_id": str(uuid.uuid4()),
        "job_id": str(uuid.uuid4()),
        "env": "sums",
        "task": "add",
        "slug": "add-1",
        "args": {"a": 1},
        "agent": {"type": "openai_compatible", "config": {"model": "m", "max_steps": 5, "system_prompt": "Add."}},
        **fields,
    }


def test_a_submitted_run_is_there_and_waits_as_a_task(house: House, wire: Wire) -> None:
    rollout = _rollout()
    for _ in range(2):  # the client may ask again
        wire.post("/v2/rollouts/submit", rollout, 202)
    assert wire.get(f"/v2/trace/{rollout['trace_id']}")["status"] == "running"
    job = uuid.UUID(rollout["job_id"]).hex
    (task,) = house.client.call(QUERY_TASKS, TaskQuery(parent=[job], hidden=True)).tasks
    assert (task.status, task.user, task.type) == (Status.PENDING, "ada", TaskType.TESTING)
    assert task.execution.run == f"exec python -m {hosting.WITHIN}"
    assert (task.execution.setup, task.execution.variables) == ("pip install x", {"COLOUR": "blue"})
    order = msgspec.json.decode(task.configuration[hosting.CONFIGURATION].value)
    assert order["source"] == "source/env.py"
    assert order["row"] == {"env": "sums", "id": "add", "slug": "add-1", "args": {"a": 1}}
    assert order["agent"] == {"type": "openai", "config": {"model": "m", "max_steps": 5, "system": "Add."}}


def test_what_the_server_asks_of_a_worker_is_what_a_worker_reads() -> None:
    from taskloom.evals.runtimes import order

    assert (hosting.CONFIGURATION, hosting.SOURCE) == (order.CONFIGURATION, order.SOURCE)
    told = rollouts._Submit("t" * 32, "j" * 32, "sums", "add", rollouts._Agent("claude", {"model": "c"}))
    agent = rollouts._agent(told.agent)
    from taskloom.domain.evaluation import EvalRun

    written = rollouts._order(EvalRun(id="r" * 32, job="j" * 32, slug="s"), told, agent, "source/env.py")
    read = msgspec.json.decode(written, type=order.Order)
    assert read.agent == {"type": "anthropic", "config": {"model": "c"}}


def test_a_run_that_is_cancelled_before_it_began_is_told_so(house: House, wire: Wire) -> None:
    rollout = _rollout()
    wire.post("/v2/rollouts/submit", rollout, 202)
    ids = {name: rollout[name] for name in ("job_id", "trace_id")}
    assert wire.post("/v2/rollouts/cancel", ids) == {"status": "accepted"}
    assert wire.post("/v2/rollouts/cancel", ids) == {"status": "not_found"}
    told = wire.get(f"/v2/trace/{rollout['trace_id']}")
    assert told["status"] == "cancelled" and "aborted" in told["error"]


def test_jobs_are_cancelled_with_their_hosted_runs(wire: Wire) -> None:
    first, second = _rollout(), _rollout()
    second["job_id"] = first["job_id"]
    other = _rollout()
    for rollout in (first, second, other):
        wire.post("/v2/rollouts/submit", rollout, 202)
    own = wire.enter(uuid.UUID(first["job_id"]).hex)  # a run of the client itself
    assert wire.post("/v2/rollouts/cancel_job", {"job_id": first["job_id"]})["cancelled"] == 2
    assert wire.get(f"/v2/trace/{own}")["status"] == "running"
    told = wire.post("/v2/rollouts/cancel_user_jobs", {})
    assert {"job_id": other["job_id"], "cancelled": 1} in told["job_details"]
    assert wire.post("/v2/rollouts/cancel_user_jobs", {})["jobs_cancelled"] == 0


def test_a_lease_is_a_task_until_it_is_given_back(house: House, wire: Wire) -> None:
    session = wire.ask("POST", "/runtime/sessions", 201, json={"environment": "sums"})["id"]
    task = uuid.UUID(session).hex
    assert house.client.call(GET_TASK, task=task).status is Status.PENDING
    stranger = Wire(house.url, house.make_key("member", "bob"))
    assert stranger.ask("DELETE", f"/runtime/sessions/{session}", 403)
    stranger.close()
    assert wire.ask("DELETE", f"/runtime/sessions/{session}") == {"closed": True}
    assert wire.ask("DELETE", f"/runtime/sessions/{session}") == {"closed": False}
    assert house.client.call(GET_TASK, task=task).status is Status.ABORTED
    assert wire.ask("DELETE", f"/runtime/sessions/{uuid.uuid4()}", 404)


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"env": "unknown"}, 404, "no source of environment 'unknown'"),
        (
            {"agent": {"type": "claude_cli", "config": {"model": "m"}}},
            400,
            "agent type 'claude_cli' is not served",
        ),
        ({"agent": {"type": "openai", "config": {"model": 5}}}, 400, "config.model"),
        ({"agent": {"type": "openai"}}, 400, "config.model"),
        ({"agent": "openai"}, 400, "the body is not what was expected"),
        ({"verifier": {"env": "v", "id": "w"}}, 400, "verifier"),
        ({"job_id": "nonsense"}, 404, "no job"),
        ({"args": {"a": 2**70}}, 400, "64 bits"),
    ],
)
def test_what_cannot_be_hosted_is_refused_in_words(wire: Wire, fields: Any, status: int, says: str) -> None:
    assert says in wire.post("/v2/rollouts/submit", _rollout(**fields), status)


def test_a_run_of_a_task_that_was_deleted_ends(house: House, wire: Wire) -> None:
    from taskloom.wire.messages import TaskDelete
    from taskloom.wire.operations import DELETE_TASK

    rollout = _rollout()
    wire.post("/v2/rollouts/submit", rollout, 202)
    run = house.client.call(GET_RUN, run=uuid.UUID(rollout["trace_id"]).hex)
    house.client.call(DELETE_TASK, query=TaskDelete(force=True), task=run.extra[rollouts.HOSTED])
    assert wire.get(f"/v2/trace/{rollout['trace_id']}")["status"] == "cancelled"
