"""The stage of the scenarios: run a script as a user would, wait for a task, tell its state in stable words."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskloom.domain.errors import NotFound
from taskloom.domain.parameters import flatten
from taskloom.domain.status import ENDED
from taskloom.domain.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as ops
from taskloom.wire.client import Address
from taskloom.wire.connection import read_connection
from taskloom.wire.send import Client

HERE = Path(__file__).parent
READY = "Taskloom is ready at "
PATIENCE = 120.0  # seconds after which something hangs; nothing is measured with it


class Stage:
    """A data folder for the scripts, a way to run them, and the server's answers."""

    def __init__(self, data: Path, work: Path) -> None:
        self.data = data
        self.work = work
        self.address: Address | None = None
        self.processes: list[subprocess.Popen[bytes]] = []

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TASKLOOM_")}
        here = {"TASKLOOM_DATA": str(self.data)}
        if self.address is not None:
            here |= {"TASKLOOM_URL": self.address.url, "TASKLOOM_API_KEY": self.address.api_key}
        return {**kept, **here, **more}

    def run(self, script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=self.work,
            env=self.environment(**environment),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def command(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [sys.executable, "-m", "taskloom.cli.main", *arguments],
            cwd=self.work,
            env=self.environment(**environment),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr.decode()
        return done

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        log = (self.work / f"process-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.work,
            env=self.environment(**environment),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    def serve(self) -> subprocess.Popen[bytes]:
        """A server of its own; started again it takes the same address."""
        port = "0" if self.address is None else self.address.url.rsplit(":", 1)[1]
        server = self.start("-m", "taskloom.cli.main", "server", "--data", str(self.data), "--port", port)
        log = self.work / f"process-{len(self.processes) - 1}.log"
        wait_for(lambda: READY in log.read_text() or server.poll() is not None, "the server", log.read_text)
        assert server.poll() is None, log.read_text()
        connection = read_connection(self.data)
        assert connection is not None
        self.address = Address(connection.url, connection.api_key)
        return server

    def worker(self, name: str, *arguments: str, lease: float = 2.0) -> subprocess.Popen[bytes]:
        options = ["--queue", "default", "--name", name, "--lease", str(lease), *arguments]
        return self.start("-m", "taskloom.cli.main", "worker", *options)

    @property
    def client(self) -> Client:
        assert self.address is not None
        return Client(self.address)

    def only_task(self, project: str) -> Task:
        """The project's one task; the shipper may still be on its way with it."""
        query = m.TaskQuery(project=project)
        wait_for(lambda: bool(self.client.call(ops.QUERY_TASKS, query).tasks), f"a task in {project}")
        found = self.client.call(ops.QUERY_TASKS, query).tasks
        assert len(found) == 1, [t.name for t in found]
        return found[0]

    def task(self, task_id: str) -> Task:
        return self.client.call(ops.GET_TASK, task=task_id)

    def ended(self, task_id: str) -> Task:
        wait_for(lambda: self._has_ended(task_id), f"the end of {task_id}", self.console_tail(task_id))
        return self.task(task_id)

    def _has_ended(self, task_id: str) -> bool:
        try:
            return self.task(task_id).status in ENDED
        except NotFound:  # its journal is still on the way
            return False

    def console_tail(self, task_id: str) -> Callable[[], str]:
        return lambda: f"{self.task(task_id).status_message}\n{self.console(task_id)[-4000:]}"

    def console(self, task_id: str) -> str:
        text, after = "", 0
        while True:
            page = self.client.call(ops.GET_CONSOLE, query=m.ConsoleQuery(after=after), task=task_id)
            if not page.entries:
                return text
            text += "".join(entry.text for entry in page.entries)
            after = page.entries[-1].number

    def points(self, task_id: str, title: str, series: str) -> m.Points:
        query = m.PointsQuery(title=title, series=series, points=0)
        return self.client.call(ops.GET_POINTS, query=query, task=task_id)

    def state(self, task_id: str, console: list[str]) -> dict[str, Any]:
        """What expected.json holds; of the console only those expected lines that it does have."""
        task = self.task(task_id)
        lines = self.console(task_id).splitlines()
        return {
            "status": task.status.value,
            "name": task.name,
            "project": task.project,
            "tags": list(task.tags),
            "progress": task.progress,
            "last_iteration": task.last_iteration,
            "parameters": {k: p.value for k, p in flatten(task.parameters).items()},
            "properties": {k: p.value for k, p in task.properties.items()},
            "metrics": {
                f"{s.title}/{s.series}": {"count": s.count, "last": s.last, "min": s.min, "max": s.max}
                for s in task.metrics
                if not s.title.startswith(":")
            },
            "plots": [
                f"{p.title}/{p.series}"
                for p in self.client.call(ops.LIST_PLOTS, query=m.PlotsQuery(), task=task_id).plots
            ],
            "artifacts": {a.name: a.kind for a in task.artifacts},
            "models": [f"{link.direction}:{link.name}" for link in task.models],
            "console": [line for line in console if line in lines],
        }

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(holds: Callable[[], bool], what: str, tell: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}: {tell()}"
        time.sleep(0.1)
