"""A stage for each scenario; see stage.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.scenarios.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    work = tmp_path / "work"
    work.mkdir()
    stage = Stage(tmp_path / "data", work)
    yield stage
    stage.close()
