"""Evaluations that are killed, interrupted and gone on with."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import HouseProcess
from tests.evals.evaluations import Folder, interrupt

from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.evals
Wait = Callable[[Callable[[], object]], None]


DEAF = """
import asyncio
from pathlib import Path

async def deaf(run):
    with (Path(__file__).parent / "begun").open("a") as log:
        log.write(run.slug + "\\n")
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
"""


def the_job(house: HouseProcess) -> str:
    (job,) = house.client.call(op.LIST_JOBS, query=m.JobQuery()).jobs
    return job.job.id


def counts(house: HouseProcess, job: str) -> dict[str, int]:
    return house.client.call(op.GET_JOB, job=job).counts


def has_jobs(house: HouseProcess) -> bool:
    return bool(house.client.call(op.LIST_JOBS, query=m.JobQuery()).jobs)


def test_a_killed_evaluation_is_gone_on_with_where_it_was(
    tmp_path: Path, house_process: HouseProcess, eventually: Wait
) -> None:
    folder = Folder(tmp_path / "mine", house_process, count=12)
    process = folder.start("env.py", "--agent", "agent.py:solve", "-c", "4", FREE="5")
    eventually(lambda: has_jobs(house_process))
    job = the_job(house_process)
    eventually(lambda: counts(house_process, job).get("completed") == 5 and len(folder.begun()) == 9)
    process.kill()
    process.communicate()
    eventually(lambda: house_process.client.call(op.GET_TASK, task=job).status is Status.FAILED)
    eventually(lambda: folder.children() == [])

    folder.write("go", "")
    told = folder.told("--resume", job, FREE="5")

    assert (told["runs"], told["graded"], told["job"]["id"]) == (12, 12, job)
    begun = Counter(folder.begun())
    assert sorted(begun.values()) == [1] * 8 + [2] * 4  # the four that ran were run again, and no others
    assert counts(house_process, job) == {"completed": 12}
    assert house_process.client.call(op.GET_TASK, task=job).status is Status.COMPLETED
    runs = house_process.client.call(op.LIST_RUNS, query=m.RunQuery(), job=job).runs
    assert [run.position for run in runs] == list(range(12))
    assert Counter(run.attempt for run in runs) == {1: 8, 2: 4}


def test_a_thousand_runs_are_interrupted_and_gone_on_with(
    tmp_path: Path, house_process: HouseProcess, eventually: Wait
) -> None:
    folder = Folder(tmp_path / "mine", house_process, count=1000)
    process = folder.start("env.py", "--agent", "agent.py:solve", "-c", "32", FREE="60")
    eventually(lambda: len(folder.begun()) == 92)

    _, errors = interrupt(process)

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    resume = re.search(r"taskloom eval --resume ([0-9a-f]{32})", errors)
    assert resume is not None
    job = resume.group(1)
    assert folder.children() == []
    eventually(lambda: sum(counts(house_process, job).values()) == 92)
    assert counts(house_process, job) == {"completed": 60, "cancelled": 32}
    assert house_process.client.call(op.GET_TASK, task=job).status is Status.ABORTED

    folder.write("go", "")
    told = folder.told("--resume", job, FREE="60")

    assert (told["runs"], told["graded"], told["reward"]) == (1000, 1000, 1.0)
    assert counts(house_process, job) == {"completed": 1000}
    assert len(folder.begun()) == 1000 + 32


def test_an_agent_that_takes_no_notice_does_not_keep_the_command_from_its_end(
    tmp_path: Path, house_process: HouseProcess, eventually: Wait
) -> None:
    folder = Folder(tmp_path / "mine", house_process, count=6)
    folder.write("deaf.py", DEAF)
    process = folder.start("env.py", "--agent", "deaf.py:deaf", "-c", "4")
    eventually(lambda: len(folder.begun()) == 4)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping" not in process.stderr.readline():
        assert process.poll() is None
    _, errors = interrupt(process)

    assert process.returncode == 130, errors
    assert "taskloom eval --resume" in errors
    assert folder.children() == []
    job = the_job(house_process)
    eventually(lambda: counts(house_process, job) == {"cancelled": 4})
    assert house_process.client.call(op.GET_TASK, task=job).status is Status.ABORTED


def test_a_changed_experiment_does_not_go_on(tmp_path: Path, house_process: HouseProcess) -> None:
    folder = Folder(tmp_path / "mine", house_process)
    folder.write("rows.jsonl", '{"env": "sums", "id": "add", "args": {"a": 1, "b": 2}}\n')
    told = folder.told("rows.jsonl", "--agent", "agent.py:solve", "--runtime", "local:env.py")
    job = told["job"]["id"]
    assert folder.told("--resume", job)["runs"] == 1

    environment, agent = (folder.path / "env.py").read_text(), (folder.path / "agent.py").read_text()
    for name, text, what in (
        ("env.py", environment + "\n# changed\n", "the environment is not"),
        ("agent.py", agent.replace("str(a + b)", "str(b + a)", 1), "the agent is not"),
        ("rows.jsonl", '{"env": "sums", "id": "add", "args": {"a": 2, "b": 2}}\n', "the taskset is not"),
    ):
        before = (folder.path / name).read_text()
        folder.write(name, text)
        folder.eval("--resume", job, code=1)
        assert what in folder.errors
        assert "Traceback" not in folder.errors
        folder.write(name, before)
    assert folder.told("--resume", job)["runs"] == 1


SCRIPT = """
import asyncio, sys
from agent import solve
from taskloom.evals import Job, Taskset

async def main():
    if sys.argv[1] == "forget":
        job = await Job.start("left open")
        await Taskset.from_file("env.py").run(solve, job=job)
    else:
        await Taskset.from_file("env.py").run(solve)

asyncio.run(main())
"""


def test_a_script_is_interrupted_or_forgets_its_job(
    tmp_path: Path, house_process: HouseProcess, eventually: Wait
) -> None:
    folder = Folder(tmp_path / "mine", house_process, count=8)
    folder.write("script.py", SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "script.py", "run"],
        cwd=folder.path,
        env=folder.environment(FREE="2"),
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: len(folder.begun()) == 8)
    _, errors = interrupt(process)

    assert process.returncode in {-2, 130}, errors
    assert folder.children() == []
    interrupted = the_job(house_process)
    eventually(lambda: counts(house_process, interrupted) == {"completed": 2, "cancelled": 6})
    eventually(lambda: house_process.client.call(op.GET_TASK, task=interrupted).status is Status.ABORTED)

    subprocess.run(
        [sys.executable, "script.py", "forget"], cwd=folder.path, env=folder.environment(), check=True, timeout=120
    )
    jobs = {job.job.id: job for job in house_process.client.call(op.LIST_JOBS, query=m.JobQuery()).jobs}
    (left,) = set(jobs) - {interrupted}
    assert (jobs[left].status, jobs[left].counts) == ("completed", {"completed": 8})
