"""The unmodified hud package in a workspace of ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ENV_PYTHON = "TASKLOOM_TEST_HUD"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("hud")


@pytest.fixture
def hud_python() -> Path:
    named = os.environ.get(ENV_PYTHON, "")
    if not named:
        pytest.skip(f"{ENV_PYTHON} names no Python with the hud package; `make test-hud` makes one")
    return Path(named)
