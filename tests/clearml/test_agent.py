"""A real clearml-agent on our server: it registers, pulls, builds environments from the registry, runs, obeys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.clearml.checkout import RECORDED, make_checkout, recorded
from tests.clearml.conftest import ClearML, our_worker
from tests.conftest import House

from taskloom.domain.parameters import Parameter
from taskloom.domain.queue import WorkerInfo
from taskloom.domain.status import ENDED, Status
from taskloom.domain.task import Task, TaskEdit
from taskloom.domain.version import VERSION
from taskloom.wire import messages as m
from taskloom.wire import operations as op

ROOT = Path(__file__).parents[2]
PATIENCE = 150.0  # seconds after which something hangs

CONFIG = """
agent {{
    worker_name: "machine"
    venvs_dir: "{folder}/venvs"
    venvs_cache {{ max_entries: 5, free_space_threshold_gb: -1, path: "{folder}/venvs-cache" }}
    pip_download_cache {{ enabled: true, path: "{folder}/pip-download" }}
    vcs_cache {{ enabled: true, path: "{folder}/vcs" }}
    package_manager {{ type: pip, system_site_packages: false }}
    disable_agent_update_check: true
}}
sdk {{
    storage {{ cache {{ default_base_dir: "{folder}/cache" }} }}
    development {{ report_use_subprocess: false }}
}}
"""

SCRIPT = (
    """
    import argparse
    import os
    import sys
    import time

    from clearml import Task

    try:
        from beside import WORD
    except ImportError:
        WORD = "alone"
    task = Task.init("agents", "made by clearml", reuse_last_task_id=False)
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--how", default="well")
    args = parser.parse_args()
    print("id=" + task.id)
    print("saw", WORD, args.depth, Task.running_locally())
    for i in range(3):
        task.get_logger().report_scalar("loss", "train", args.depth * 10 + i, i)
    if args.how == "badly":
        sys.exit(7)
    while args.how == "for ever":
        time.sleep(1)
"""
    + RECORDED
)


OURS = """
    import argparse

    from taskloom import Task

    task = Task.init(project_name="agents", task_name="made by taskloom")
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=2)
    args = parser.parse_args()
    print("id=" + task.id)
    print("saw", args.depth)
    for i in range(3):
        task.get_logger().report_scalar("loss", "train", args.depth * 10 + i, i)
    task.upload_artifact("numbers", {"depth": args.depth})
"""


@dataclass
class Rig:
    clearml: ClearML

    @property
    def house(self) -> House:
        return self.clearml.house

    def get(self, task: str) -> Task:
        return self.house.client.call(op.GET_TASK, task=task)

    def clone(self, source: str, name: str, queue: str = "agents", **args: str) -> str:
        """With these arguments, in the queue."""
        parameters = {"Args": {key: Parameter(value=value) for key, value in args.items()}}
        wanted = m.TaskClone(name=name, edit=TaskEdit(parameters=parameters))
        clone = self.house.client.call(op.CLONE_TASK, wanted, task=source).id
        if queue:
            self.house.client.call(op.ENQUEUE_TASK, m.Enqueue(queue=queue, create=True), task=clone)
        return clone

    def until(self, what: Callable[[], object], log: str = "agent.log") -> None:
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline, (
                f"it did not become true\n{(self.clearml.folder / log).read_text()}"
            )
            time.sleep(0.2)

    def ended(self, task: str) -> Task:
        self.until(lambda: self.get(task).status in ENDED)
        return self.get(task)

    def console(self, task: str) -> str:
        page = self.house.client.call(op.GET_CONSOLE, m.ConsoleQuery(limit=1000), task=task)
        return "".join(entry.text for entry in page.entries)

    def says(self, task: str, words: str, log: str = "agent.log") -> None:
        """Wait until the console holds the words; a task that ended without them fails at once."""
        self.until(lambda: words in self.console(task) or self.get(task).status in ENDED, log)
        assert words in self.console(task), self.console(task)

    def workers(self) -> dict[str, WorkerInfo]:
        return {worker.id: worker for worker in self.house.client.call(op.LIST_WORKERS).workers}

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`taskloom`, as a person types it."""
        return subprocess.run(
            [sys.executable, "-m", "taskloom.cli.main", *words],
            env=self.house.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def running(self, task: str) -> list[str]:
        """Command lines of living processes that belong to the task."""
        found: list[str] = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"CLEARML_TASK_ID={task}".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text())
            except OSError:
                continue
        return found

    @contextmanager
    def agent(self, *words: str, log: str = "agent.log", **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """A daemon in the foreground, ended by SIGINT as a person ends it."""
        program = str(self.clearml.python.parent / "clearml-agent")
        environment = {
            **self.clearml.environment(),
            "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC": "1",
            "CLEARML_WORKER_NAME": "machine",
            "PIP_FIND_LINKS": str(self.clearml.folder / "wheels"),  # Taskloom of this checkout
            "TASKLOOM_DATA": str(self.clearml.folder / "agents data"),
            **variables,
        }
        with (self.clearml.folder / log).open("wb") as output:
            daemon = subprocess.Popen(
                [str(self.clearml.python), program, "daemon", "--foreground", *words],
                env=environment,
                cwd=self.clearml.folder,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        try:
            yield daemon
        finally:
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGINT)
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def kill_tree(pid: int) -> None:
    """The process and all that descend from it, at once and without a word."""
    children = (Path(f"/proc/{pid}/task/{pid}/children")).read_text().split()
    os.kill(pid, signal.SIGKILL)
    for child in children:
        kill_tree(int(child))


@pytest.fixture(scope="module")
def rig(shared_house: House, clearml_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    folder = tmp_path_factory.mktemp("agent")
    (folder / "clearml.conf").write_text(CONFIG.format(folder=folder))
    shared_house.client.call(op.CREATE_QUEUE, m.QueueCreate(name="agents"))
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel, "--wheel-dir", str(folder / "wheels"), str(ROOT)], check=True, capture_output=True)
    return Rig(ClearML(shared_house, clearml_python, folder))


@pytest.fixture(scope="module")
def made(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A task that ClearML's SDK made by running a script of a repository, with changes that are not committed."""
    return recorded(rig.clearml, make_checkout(tmp_path_factory.mktemp("code"), SCRIPT) / "train.py")


@pytest.fixture(scope="module")
def alone(rig: Rig) -> str:
    """One of a script that stands in no repository."""
    script = rig.clearml.folder / "alone.py"
    script.write_text(textwrap.dedent(SCRIPT))
    return recorded(rig.clearml, script)


@pytest.fixture(scope="module")
def daemon(rig: Rig) -> Iterator[None]:
    with rig.agent("--queue", "agents"):
        rig.until(rig.workers)
        yield


def test_it_builds_an_environment_and_gives_the_script_edited_parameters(
    rig: Rig, made: str, daemon: None
) -> None:
    task = rig.ended(rig.clone(made, "edited", depth="5"))
    console = rig.console(task.id)
    assert task.status is Status.COMPLETED, console
    assert console.count("saw changed 5 False") == 1
    assert "Successfully installed" in console
    (loss,) = [summary for summary in task.metrics if (summary.title, summary.series) == ("loss", "train")]
    assert (loss.last, loss.count) == (52.0, 3)
    assert task.worker in rig.workers()
    assert task.attempt == 1


def test_what_ends_badly_is_told_with_its_exit_code(rig: Rig, made: str, daemon: None) -> None:
    task = rig.ended(rig.clone(made, "bad", how="badly"))
    assert (task.status, task.status_reason) == (Status.FAILED, "worker execution exit code 7"), rig.console(
        task.id
    )


def test_an_abort_of_ours_ends_its_process(rig: Rig, made: str, daemon: None) -> None:
    task = rig.clone(made, "endless", how="for ever")
    rig.says(task, "saw changed 2")
    (worker,) = [w for w in rig.house.client.call(op.LIST_WORKERS).workers if task in w.tasks]
    assert worker.queues == (rig.house.client.call(op.GET_QUEUE, queue="agents").queue.id,)
    assert worker.machine.memory > 0
    done = rig.command("task", "abort", task, "--reason", "enough")
    assert done.returncode == 0, done.stderr
    ended = rig.ended(task)
    assert (ended.status, ended.status_reason) == (Status.ABORTED, "enough"), rig.console(task)
    rig.until(lambda: not rig.running(task))


def test_a_drained_agent_takes_nothing_until_it_is_let(rig: Rig, made: str, daemon: None) -> None:
    (worker,) = rig.workers()
    rig.house.client.call(op.DRAIN_WORKER, m.WorkerDrain(drain=True), worker=worker)
    task = rig.clone(made, "waits")
    waiting = rig.house.client.call(op.WAITING, task=task)
    assert "draining" in waiting.reason
    rig.house.client.call(op.DRAIN_WORKER, m.WorkerDrain(drain=False), worker=worker)
    assert rig.ended(task).status is Status.COMPLETED


def test_a_task_of_our_sdk_attaches_and_takes_edited_parameters(rig: Rig, daemon: None) -> None:
    script = rig.clearml.folder / "ours.py"
    script.write_text(textwrap.dedent(OURS))
    environment = {**rig.house.environment(), "TASKLOOM_DATA": str(rig.clearml.folder / "data")}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
    )
    made = next(line.removeprefix("id=") for line in done.stdout.splitlines() if line.startswith("id="))
    task = rig.ended(rig.clone(made, "ours, elsewhere", depth="5"))
    console = rig.console(task.id)
    assert task.status is Status.COMPLETED, console
    assert console.count("saw 5") == 1
    assert f"taskloom=={VERSION}" in console
    (loss,) = [summary for summary in task.metrics if (summary.title, summary.series) == ("loss", "train")]
    assert (loss.last, loss.count) == (52.0, 3)
    assert {artifact.name for artifact in task.artifacts} == {"numbers"}
    assert "development" not in task.system_tags


def test_execute_runs_one_task_by_its_id(rig: Rig, alone: str) -> None:
    task = rig.clone(alone, "by id", queue="", depth="4")
    rig.clearml.command("clearml-agent", "execute", "--id", task).ok()
    ended = rig.get(task)
    assert ended.status is Status.COMPLETED, rig.console(task)
    assert "saw alone 4 False" in rig.console(task)


def test_services_run_side_by_side(rig: Rig, made: str) -> None:
    with rig.agent("--services-mode", "--queue", "services", "--create-queue", log="services.log"):
        rig.until(lambda: any(w.queues for w in rig.workers().values()), "services.log")
        tasks: list[str] = []
        for number in range(2):  # one after the other: two that begin at once may build in one folder
            tasks.append(rig.clone(made, f"service {number}", queue="services", how="for ever"))
            rig.says(tasks[-1], "saw changed 2", "services.log")
        assert [rig.get(task).status for task in tasks] == [Status.RUNNING, Status.RUNNING]
        for task in tasks:
            rig.house.client.call(op.ABORT_TASK, m.MoveRequest(reason="enough"), task=task)
        for task in tasks:
            assert rig.ended(task).status is Status.ABORTED


def test_what_a_killed_agent_ran_waits_again_and_is_run_by_our_worker(rig: Rig, alone: str) -> None:
    task = rig.clone(alone, "survives", queue="shared")
    with rig.agent("--queue", "shared", log="killed.log") as daemon:
        rig.until(lambda: rig.get(task).status is Status.RUNNING, "killed.log")
        kill_tree(daemon.pid)
    assert rig.get(task).status is Status.RUNNING  # nobody knows yet
    rig.house.clock.advance(121)
    rig.until(lambda: rig.get(task).status is Status.PENDING, "killed.log")
    with our_worker(rig.clearml, queue="shared"):
        ended = rig.ended(task)
    assert (ended.status, ended.attempt, ended.worker) == (Status.COMPLETED, 2, "ours"), rig.console(task)
    assert "saw alone 2 False" in rig.console(task)


def test_it_missed_no_call(rig: Rig) -> None:
    assert rig.house.client.call(op.LIST_UNSERVED).calls == []
