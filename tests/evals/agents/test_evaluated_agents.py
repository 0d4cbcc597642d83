"""Model agents in whole evaluations that are recorded on a server, and their replays from there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import House
from tests.unit.evals.agents.dialects import DIALECTS, Dialect
from tests.unit.evals.agents.model_server import ModelServer
from tests.unit.evals.agents.shell_server import serve_shell

from taskloom.evals import Environment, Runtime, Taskset
from taskloom.evals.agents import OpenAIAgent, ReplayAgent, spec_of
from taskloom.evals.channel.server import ControlServer
from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.evals
CALL = ("c1", "shell", {"command": "cat number"})


@pytest.fixture(autouse=True)
def found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_URL", house.url)
    monkeypatch.setenv("TASKLOOM_API_KEY", house.key)


@asynccontextmanager
async def serve_numbers(folder: Path) -> AsyncGenerator[tuple[Taskset, Runtime]]:
    (folder / "number").write_text("42\n")
    async with serve_shell(folder) as shell:
        env = Environment("numbers", capabilities=[shell])

        @env.template()
        async def find(what: str):
            answer = yield f"Which number stands in the file `{what}`?"
            yield float(answer == "42")

        server = ControlServer(env)
        try:
            port = await server.start()
            yield Taskset("numbers", [find("number")]), Runtime(f"tcp://127.0.0.1:{port}")
        finally:
            await server.stop()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: type(one).__name__.lower())
async def test_a_job_is_recorded_with_its_model_calls_and_replayed_from_the_server(
    dialect: Dialect, house: House, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    async with serve_numbers(tmp_path / "files") as (taskset, runtime), ModelServer() as model:
        model.will(dialect.calls(CALL), dialect.says("42"), dialect.calls(CALL), dialect.says("41"))
        options: Any = {"base_url": model.url + dialect.base, "cache": tmp_path / "cache"}
        agent = dialect.agent(dialect.model, **options)
        first = await taskset.run(agent, runtime=runtime, group=2, max_concurrent=1)
        again = await taskset.run(agent, runtime=runtime, group=2, max_concurrent=1)
        assert len(model.asked) == 4
        replayed = await taskset.run(ReplayAgent(first.id), runtime=runtime, group=2)
    assert [run.reward for run in first.runs] == [1.0, 0.0]
    assert [run.reward for run in again.runs] == [1.0, 0.0]
    assert [run.reward for run in replayed.runs] == [1.0, 0.0], [run.error for run in replayed.runs]
    record = house.client.call(op.GET_JOB, job=first.id)
    assert (record.job.agent, record.job.model) == (dialect.agent.type, dialect.model)
    for job, cost, cached in ((first, 2 * dialect.cost, False), (again, 0.0, True), (replayed, 0.0, True)):
        runs = house.client.call(op.LIST_RUNS, query=m.RunQuery(), job=job.id).runs
        assert [run.usage.cost_usd for run in runs] == [pytest.approx(cost)] * 2
        steps = house.client.call(op.GET_STEPS, query=m.StepsQuery(), run=runs[0].id).steps
        assert [step.source for step in steps] == ["task", "user", "agent", "tool", "agent", "task"]
        assert [step.cached for step in steps if step.source == "agent"] == [cached] * 2
        (done,) = [step for step in steps if step.source == "tool"]
        assert done.result is not None and done.result.content[0]["text"] == "42\n[exit code 0]"


async def test_a_job_that_the_server_does_not_have_is_told_in_each_run(tmp_path: Path) -> None:
    async with serve_numbers(tmp_path) as (taskset, runtime):
        job = await taskset.run(ReplayAgent("f" * 32), runtime=runtime)
    (run,) = job.runs
    assert (run.boundary, run.reward) == ("agent", 0.0)
    assert f"job {'f' * 32} is not on the server" in run.error


async def test_a_providers_fault_is_the_agents_and_the_run_is_graded_all_the_same(tmp_path: Path) -> None:
    async with serve_numbers(tmp_path) as (taskset, runtime):
        agent = OpenAIAgent("m", base_url="http://127.0.0.1:9", retries=0)
        job = await taskset.run(agent, runtime=runtime)
    (run,) = job.runs
    assert run.boundary == "agent"
    assert run.error.startswith("openai: no answer from http://127.0.0.1:9")
    assert spec_of(agent)["config"]["base_url"] == "http://127.0.0.1:9"
