"""Transformer Lab's package, unmodified, in an environment of its own, under a real worker of ours.

`lab.run` queues a script as a task file would and gives the task when it is over. The environment is made by
`make test-lab`; nothing is downloaded by a test.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.worker.conftest import Field, field, run_git

from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Sections
from taskloom.domain.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as op

ENV_PYTHON = "TASKLOOM_TEST_LAB"
SCRIPTS = Path(__file__).parent / "scripts"
__all__ = ["field"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("lab")


@dataclass
class Lab:
    """Scripts with the package, beside one worker."""

    field: Field
    python: Path
    repository: Path

    def start(self, script: str, parameters: Sections | None = None, **more: Any) -> str:
        """Queues `scripts/NAME.py`, as it lies in a repository."""
        execution = Execution(repository=str(self.repository), run=f"{self.python} {script}.py", **more)
        create = m.TaskCreate(
            name=script, project="lab tests/nets", execution=execution, parameters=parameters or {}
        )
        task = self.field.client.call(op.CREATE_TASK, create).id
        self.field.client.call(op.ENQUEUE_TASK, m.Enqueue(create=True), task=task)
        return task

    def run(self, script: str, parameters: Sections | None = None, **more: Any) -> Task:
        return self.field.ended(self.start(script, parameters, **more))

    def points(self, task: Task, title: str, series: str) -> list[tuple[int, float]]:
        query = m.PointsQuery(title=title, series=series, points=0)
        told = self.field.client.call(op.GET_POINTS, query=query, task=task.id)
        return list(zip(told.iteration, told.value, strict=True))

    def blob(self, digest: str) -> bytes:
        headers = {"Authorization": f"Bearer {self.field.house.key}"}
        return self.field.client.http.get(f"{self.field.house.url}/api/blobs/{digest}", headers=headers).content


@pytest.fixture
def lab(field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    python = os.environ.get(ENV_PYTHON)
    if not python:
        pytest.skip(f"{ENV_PYTHON} is not set: run `make test-lab`")
    monkeypatch.setattr("tests.unit.worker.conftest.PATIENCE", 240.0)  # the package takes its time to begin
    repository = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, repository)
    run_git(repository, "init", "--quiet", "-b", "main")
    run_git(repository, "add", ".")
    run_git(repository, "commit", "--quiet", "-m", "scripts")
    field.worker("w1", "--slots", "2")
    return Lab(field, Path(python), repository)
