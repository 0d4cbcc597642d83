"""Environments that a real worker serves and that are reached through a real server."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from tests.evals.sources import alive, write_source
from tests.unit.worker.conftest import Field

from taskloom.domain.status import Status
from taskloom.evals.channel.client import connect
from taskloom.evals.failures import EnvironmentFailure, InfrastructureFailure
from taskloom.evals.run import Run
from taskloom.evals.runtimes import leased, lent
from taskloom.evals.runtimes.contract import Provider
from taskloom.evals.runtimes.leased import HUDRuntime, LeasedRuntime
from taskloom.evals.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.evals

ROW = Task(env="world", id="tell")


async def told(provider: Provider, expression: str) -> tuple[str, float]:
    async with provider(ROW) as runtime, connect(runtime) as client:
        async with Run(client, "tell", {"what": expression}) as run:
            run.trace.content = "yes"
        return run.prompt, run.reward


def tasks_of(field: Field) -> list[Status]:
    query = m.TaskQuery(hidden=True, order_by=["created"])
    return [task.status for task in field.client.call(op.QUERY_TASKS, query).tasks]


async def test_a_worker_serves_the_source_and_the_agent_acts_here(field: Field, tmp_path: Path) -> None:
    source = write_source(tmp_path / "src", "import neighbour\n")
    (tmp_path / "src" / "neighbour.py").write_text("word = 'hello'\n")
    await asyncio.to_thread(field.worker, "w1", "--slots", "2")
    provider = LeasedRuntime(source=source)
    where = f"(neighbour.word, os.getcwd().startswith({str(field.folder)!r}), os.getpid())"
    (first, reward), (second, _) = await asyncio.gather(told(provider, where), told(provider, where))
    assert reward == 1.0
    assert first.startswith("('hello', True, ") and first != second
    assert alive(int(prompt.strip("()").split(", ")[2]) for prompt in (first, second)) == []
    assert tasks_of(field) == [Status.ABORTED] * 2
    assert field.client.call(op.QUERY_TASKS, m.TaskQuery()).tasks == []  # people see what people queued


async def test_large_frames_and_many_of_them_cross_the_tunnel(field: Field, tmp_path: Path) -> None:
    await asyncio.to_thread(field.worker)
    row = Task(env="world", id="tell").from_source(str(write_source(tmp_path / "src")))
    async with HUDRuntime()(row) as runtime:
        async with connect(runtime) as client:
            assert len((await client.start("tell", {"what": "'x' * 10_000_000"}))["prompt"]) == 10_000_000
            assert (await client.grade("y" * 10_000_000))["score"] == 0.0

        async def one(number: int) -> None:
            async with connect(runtime) as client:
                assert (await client.start("tell", {"what": f"{number} * 2"}))["prompt"] == str(number * 2)

        await asyncio.gather(*(one(number) for number in range(40)))


async def test_an_environment_that_does_not_come_up_is_told_with_the_end_of_its_task(
    field: Field, tmp_path: Path
) -> None:
    await asyncio.to_thread(field.worker)
    broken = write_source(tmp_path / "src", "1 / 0\n")
    with pytest.raises(EnvironmentFailure, match=r"it ended before it served: its task \w+ is failed"):
        await told(LeasedRuntime(source=broken), "")
    task = field.client.call(op.QUERY_TASKS, m.TaskQuery(hidden=True)).tasks[0].id
    field.until_says(task, "world.py line 6: ZeroDivisionError")


async def test_without_a_worker_it_says_why_it_waits_and_gives_up_in_time(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leased, "ASK_SECONDS", 0.05)
    caplog.set_level(logging.WARNING)
    provider = LeasedRuntime(source=write_source(tmp_path / "src"), wait=0.3)
    with pytest.raises(InfrastructureFailure, match=r"did not serve within 0.3 s: .*worker"):
        await told(provider, "")
    assert len([record for record in caplog.records if "waits in queue default" in record.message]) == 1
    assert tasks_of(field) == [Status.ABORTED]


async def test_what_is_missing_is_said_at_once(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(tmp_path / "src")
    with pytest.raises(ValueError, match="there is no such file or folder"):
        LeasedRuntime(source=tmp_path / "nothing.py")
    with pytest.raises(InfrastructureFailure, match="does not know the source of environment 'world'"):
        await told(LeasedRuntime(), "")
    with pytest.raises(InfrastructureFailure, match=r"cannot be queued: .*no-such-queue"):
        await told(LeasedRuntime("no-such-queue", source), "")
    assert tasks_of(field) == []
    monkeypatch.delenv("TASKLOOM_URL")
    with pytest.raises(InfrastructureFailure, match="no server is configured"):
        await told(LeasedRuntime(source=source), "")


async def test_an_environment_that_was_leased_is_brought_up_again_where_nobody_has_its_source(
    field: Field, tmp_path: Path
) -> None:
    await asyncio.to_thread(field.worker)
    source = write_source(tmp_path / "src")
    assert (await told(LeasedRuntime(source=source), "6 * 7"))[0] == "42"
    source.unlink()
    assert (await told(LeasedRuntime(), "7 * 8"))[0] == "56"


async def test_a_run_that_is_cancelled_stops_its_task(field: Field, tmp_path: Path) -> None:
    await asyncio.to_thread(field.worker)
    begun = asyncio.Event()

    async def run() -> None:
        async with LeasedRuntime(source=write_source(tmp_path / "src"))(ROW):
            begun.set()
            await asyncio.sleep(3600)

    running = asyncio.create_task(run())
    await begun.wait()
    assert tasks_of(field) == [Status.RUNNING]
    running.cancel()
    await asyncio.wait([running])
    assert tasks_of(field) == [Status.ABORTED]


async def test_the_process_ends_when_nobody_has_been_there_for_a_while(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lent, "ALONE_SECONDS", 0.1)
    company = lent.Company()
    company.count(1)
    company.count(2)
    company.count(1)
    company.count(0)
    company.count(1)
    await asyncio.sleep(0.2)
    assert not company.left.is_set()
    company.count(0)
    await asyncio.wait_for(company.left.wait(), 30)
