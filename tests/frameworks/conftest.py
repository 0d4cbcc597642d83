"""Real frameworks in scripts as their users write them: run as processes, read back from a real server, cloned,
edited, and run again by a real worker.

The everyday frameworks are installed beside the tests (`make test-scripts`). The heavy ones live in an environment of their own, whose
Python `TASKLOOM_TEST_FRAMEWORKS` names (`make test-frameworks`); their tests bear the marker `frameworks`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.scenarios.stage import PATIENCE, Stage

from taskloom.domain.artifact import Model, Sample
from taskloom.domain.parameters import Parameter, flatten
from taskloom.domain.status import Status
from taskloom.domain.task import ConfigurationObject, Task, TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAVY = "TASKLOOM_TEST_FRAMEWORKS"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that stands here runs whole scripts, one after another: a target of its own."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("scripts")


class Bench(Stage):
    """A server, a worker that uses the scripts' own Python, and questions about what arrived."""

    python = sys.executable

    def script(self, path: Path | str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run a script (of `examples/` when the path is relative) to its end, whatever that is."""
        return subprocess.run(
            [self.python, str(EXAMPLES / path), *arguments],
            cwd=self.work,
            env=self.environment(**environment),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def start_script(self, path: Path | str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Begin a script whose standard input is ours; what it says goes into a log in the work folder."""
        log = (self.work / f"script-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [self.python, str(EXAMPLES / path), *arguments],
            cwd=self.work,
            env=self.environment(**environment),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    def record(self, path: Path | str, *arguments: str, project: str, **environment: str) -> Task:
        """Run it to a good end; the one task that it made in `project`, ended and wholly shipped."""
        done = self.script(path, *arguments, **environment)
        assert done.returncode == 0, f"{done.stdout.decode()}\n{done.stderr.decode()}"
        self.stderr = done.stderr.decode()
        self.stdout = done.stdout.decode()
        return self.ended(self.only_task(project).id)

    def clone(
        self,
        task: Task,
        parameters: Mapping[str, Any] | None = None,
        configuration: Mapping[str, str] | None = None,
    ) -> Task:
        """A copy with edited values (`{'Args/epochs': 3}`), run by the worker, ended as completed."""
        copy = self.client.call(ops.CLONE_TASK, m.TaskClone(name=f"{task.name}, edited"), task=task.id)
        known = flatten(copy.parameters)
        sections: dict[str, dict[str, Parameter | None]] = {}
        for flat, value in (parameters or {}).items():
            section, name = flat.split("/", 1)
            kind = known[flat].type if flat in known else ""
            sections.setdefault(section, {})[name] = Parameter(str(value), kind)
        texts = {
            name: ConfigurationObject(text, copy.configuration[name].type)
            for name, text in (configuration or {}).items()
        }
        edit = TaskEdit(parameters=sections or None, configuration=dict(texts) or None)
        self.client.call(ops.EDIT_TASK, m.TaskEditRequest(edit=edit), task=copy.id)
        self.client.call(ops.ENQUEUE_TASK, m.Enqueue(), task=copy.id)
        ended = self.ended(copy.id)
        assert ended.status is Status.COMPLETED, self.console_tail(copy.id)()
        return ended

    # --- what arrived -------------------------------------------------------------------------------------

    def parameters(self, task: Task) -> dict[str, tuple[str, str]]:
        """`{'Args/lr': ('0.1', 'float')}`"""
        return {name: (one.value, one.type) for name, one in flatten(task.parameters).items()}

    def scalars(self, task: Task) -> dict[str, list[tuple[int, float]]]:
        """Every point of every curve but the machine's, by `title/series`, in order."""
        found: dict[str, list[tuple[int, float]]] = {}
        for one in task.metrics:
            if not one.title.startswith(":"):
                points = self.points(task.id, one.title, one.series)
                found[f"{one.title}/{one.series}"] = list(zip(points.iteration, points.value, strict=True))
        return found

    def plots(self, task: Task) -> list[Any]:
        return list(self.client.call(ops.LIST_PLOTS, query=m.PlotsQuery(), task=task.id).plots)

    def samples(self, task: Task) -> list[Sample]:
        return list(
            self.client.call(ops.LIST_SAMPLES, query=m.SamplesQuery(all_iterations=True), task=task.id).samples
        )

    def models(self, task: Task, direction: str = "output") -> dict[str, Model]:
        """By the name under which the task refers to them."""
        return {
            link.name: self.client.call(ops.GET_MODEL, model=link.model)
            for link in task.models
            if link.direction == direction
        }

    def blob(self, digest: str) -> bytes:
        from taskloom.wire.client import build_call

        call = build_call(self.client.address, ops.GET_BLOB, digest=digest)
        answer = self.client.http.get(call.url, headers=call.headers)
        answer.raise_for_status()
        return answer.content

    def bindings(self, task: Task) -> dict[str, Any]:
        """What was hooked, by binding."""
        return task.runtime.get("bindings", {})


class HeavyBench(Bench):
    python = os.environ.get(HEAVY, "")


def _opened(made: Bench) -> Iterator[Bench]:
    made.serve()
    try:
        log = (made.work / "worker.log").open("wb")
        command = [
            "-m",
            "taskloom.cli.main",
            "worker",
            "--queue",
            "default",
            "--name",
            "bench",
            "--packages",
            "reuse",
        ]
        worker = subprocess.Popen(
            [made.python, *command], cwd=made.work, env=made.environment(), stdout=log, stderr=subprocess.STDOUT
        )
        made.processes.append(worker)
        yield made
    finally:
        for process in reversed(made.processes):
            process.terminate()
            process.wait(PATIENCE)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One server and worker for a file of tests: each test uses projects of its own."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "work").mkdir()
    yield from _opened(Bench(folder / "data", folder / "work"))


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeavyBench]:
    """The same with the Python that has the heavy frameworks."""
    if not HeavyBench.python:
        pytest.skip(f"{HEAVY} names no Python with the heavy frameworks (make test-frameworks)")
    folder = tmp_path_factory.mktemp("heavy")
    (folder / "work").mkdir()
    for opened in _opened(HeavyBench(folder / "data", folder / "work")):
        assert isinstance(opened, HeavyBench)
        yield opened


def needs(heavy: HeavyBench, *modules: str) -> None:
    """Skip where the environment lacks a framework: not every one installs on every machine."""
    words = "; ".join(f"import {name}" for name in modules)
    found = subprocess.run([heavy.python, "-c", words], capture_output=True, check=False, timeout=PATIENCE)
    if found.returncode:
        pytest.skip(f"{', '.join(modules)}: {found.stderr.decode().strip().splitlines()[-1]}")
