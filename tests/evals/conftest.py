"""A server with real workers, which this process knows as its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import House
from tests.unit.worker.conftest import Field


@pytest.fixture
def field(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    """`field.worker()` starts a worker; evaluations in this process find the house."""
    monkeypatch.setenv("TASKLOOM_URL", house.url)
    monkeypatch.setenv("TASKLOOM_API_KEY", house.key)
    made = Field(house, tmp_path / "machines")
    yield made
    for worker in made.workers:
        if worker.process.poll() is None:
            worker.process.kill()
        worker.process.wait(90)
    made.end_what_was_left()
