"""hud's leased and hosted runtimes, placed by our server on our workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.conftest import House
from tests.hud.server.conftest import Hud
from tests.unit.worker.conftest import Field

from taskloom.evals.runtimes.leased import LeasedRuntime
from taskloom.evals.task import Task
from taskloom.wire.messages import RunQuery
from taskloom.wire.operations import GET_JOB, LIST_RUNS


async def _known(field: Field, hud: Hud, folder: Path) -> None:
    """A worker, and an environment whose source the server has."""
    hud.command("sync", "tasks", "sums", "tasks.py", "--yes")
    folder.mkdir()
    (folder / "env.py").write_text((hud.folder / "ours.py").read_text())
    await asyncio.to_thread(field.worker, "w1", "--slots", "4")
    async with LeasedRuntime(source=folder / "env.py")(Task(env="sums", id="add")):
        pass


async def test_an_unknown_environment_is_said_in_words(house: House, gateway: None, hud: Hud) -> None:
    hud.command("sync", "tasks", "sums", "tasks.py", "--yes")
    told = hud.script("evaluate.py", "hosted")
    assert told["errors"] and all("no source of environment 'sums'" in error for error in told["errors"])


async def test_an_environment_is_leased_and_driven_through_the_tunnel(
    house: House, gateway: None, hud: Hud, field: Field, tmp_path: Path
) -> None:
    await _known(field, hud, tmp_path / "environment")
    told = await asyncio.to_thread(hud.script, "evaluate.py", "leased")
    assert [run["reward"] for run in told["runs"]] == [1.0] * 4, told
    job = house.client.call(GET_JOB, job=told["job"])
    assert (job.runs, job.reward) == (4, 1.0)


async def test_whole_runs_are_hosted_and_followed(
    house: House, gateway: None, hud: Hud, field: Field, tmp_path: Path
) -> None:
    await _known(field, hud, tmp_path / "environment")
    told = await asyncio.to_thread(hud.script, "evaluate.py", "hosted")
    assert [run["reward"] for run in told["runs"]] == [1.0] * 4, told
    runs = house.client.call(LIST_RUNS, RunQuery(), job=told["job"]).runs
    assert [(run.model, run.status, run.task != run.job) for run in runs] == [("adder", "completed", True)] * 4
    assert all(run.steps >= 4 for run in runs)
