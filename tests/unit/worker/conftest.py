"""A house with workers: real processes of `taskloom worker`, real repositories, no network."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from taskloom.domain.execution import Execution
from taskloom.domain.status import ENDED, Status
from taskloom.domain.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as op

PATIENCE = 90.0


class WorkerProcess:
    """One `taskloom worker` with its own log."""

    def __init__(self, folder: Path, environ: dict[str, str], words: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "worker.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taskloom.cli.worker", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environ,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("Worker "):
            code = self.process.wait(PATIENCE)
            raise AssertionError(f"exit code {code} {line!r} {self.log.read_text()}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self, number: int = 15) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


class Field:
    """What the tests of workers say."""

    def __init__(self, house: Any, folder: Path) -> None:
        self.house, self.folder = house, folder
        self.workers: list[WorkerProcess] = []

    @property
    def client(self) -> Any:
        return self.house.client

    def worker(
        self,
        name: str = "w1",
        *words: str,
        lease: float = 30.0,
        packages: str = "reuse",
        environ: dict[str, str] | None = None,
    ) -> WorkerProcess:
        """A worker with a data folder of its own: another machine."""
        data = self.folder / name
        whole = {
            **self.house.environment(),
            "TASKLOOM_DATA": str(data),
            "UV_CACHE_DIR": str(self.folder / "uv"),
            **(environ or {}),
        }
        arguments = ["--name", name, "--lease", str(lease), "--packages", packages, *words]
        self.workers.append(WorkerProcess(data, whole, arguments))
        return self.workers[-1]

    def enqueue(self, execution: Execution, name: str = "a task", queue: str = "") -> str:
        create = m.TaskCreate(name=name, project="worker tests", execution=execution)
        task = self.client.call(op.CREATE_TASK, create).id
        self.client.call(op.ENQUEUE_TASK, m.Enqueue(queue=queue, create=True), task=task)
        return task

    def script(self, text: str, **more: Any) -> str:
        return self.enqueue(Execution(diff=text, entry_point="script.py", **more))

    def get(self, task: str) -> Task:
        return self.client.call(op.GET_TASK, task=task)

    def until(self, true: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            logs = "\n".join(worker.log.read_text() for worker in self.workers)
            assert time.monotonic() < deadline, f"it did not become true\n{logs}"
            time.sleep(0.05)

    def ended(self, task: str) -> Task:
        """The task once it is over."""
        self.until(lambda: self.get(task).status in ENDED)
        return self.get(task)

    def running(self, task: str) -> Task:
        self.until(lambda: self.get(task).status is Status.RUNNING)
        return self.get(task)

    def console(self, task: str, *streams: str) -> str:
        page = self.client.call(op.GET_CONSOLE, query=m.ConsoleQuery(limit=100_000), task=task)
        return "".join(entry.text for entry in page.entries if not streams or entry.stream in streams)

    def until_says(self, task: str, text: str) -> None:
        self.until(lambda: text in self.console(task))

    def supervisors(self) -> list[psutil.Process]:
        """What watches over the programs of all these machines, with or without a worker."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if len(words) > 1 and words[-2].endswith("supervisor.py") and words[-1].startswith(str(self.folder)):
                found.append(process)
        return found

    def end_what_was_left(self) -> None:
        """Programs go on for a while after their worker."""
        for supervisor in self.supervisors():
            for process in (*supervisor.children(recursive=True), supervisor):
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def processes(self, task: str) -> list[psutil.Process]:
        """Everything on this machine that runs for the task."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TASKLOOM_TASK_ID") == task and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


@pytest.fixture
def field(house: Any, tmp_path: Path) -> Iterator[Field]:
    made = Field(house, tmp_path / "machines")
    yield made
    for worker in made.workers:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGCONT)
            worker.process.kill()
        worker.process.wait(PATIENCE)
    made.end_what_was_left()


def run_git(folder: Path, *words: str) -> str:
    environ = {
        **os.environ,
        "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }  # fmt: skip
    done = subprocess.run(["git", *words], cwd=folder, env=environ, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.fixture
def git() -> Callable[..., str]:
    """Runs git in a folder, away from the user's own settings: `git(folder, "add", ".")`."""
    return run_git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of `train.py`."""
    folder = tmp_path / "origin"
    folder.mkdir()
    run_git(folder, "init", "--quiet", "-b", "main")
    (folder / "train.py").write_text("print('first')\n")
    run_git(folder, "add", ".")
    run_git(folder, "commit", "--quiet", "-m", "first")
    return folder
