"""A process as a worker starts it, so that a job goes into the journal of its task."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.evals.running.stage import Journal, environment, served

from taskloom.evals import Runtime


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    task = uuid.uuid4().hex
    folder = tmp_path / "journal" / task
    monkeypatch.setenv("TASKLOOM_LEASE", "token")
    monkeypatch.setenv("TASKLOOM_TASK_ID", task)
    monkeypatch.setenv("TASKLOOM_JOURNAL", str(folder))
    return Journal(folder)


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with served(environment()) as place:
        yield place
