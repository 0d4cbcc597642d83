"""A process as a worker starts it, so that a job goes into the journal of its task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.evals.running.stage import TASK, Journal, environment, served

from taskloom.evals import Runtime


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    folder = tmp_path / "journal" / TASK
    monkeypatch.setenv("TASKLOOM_LEASE", "token")
    monkeypatch.setenv("TASKLOOM_TASK_ID", TASK)
    monkeypatch.setenv("TASKLOOM_JOURNAL", str(folder))
    return Journal(folder)


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with served(environment()) as place:
        yield place
