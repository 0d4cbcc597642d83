"""The unmodified hud package on one side of the control channel, Taskloom on the other.

hud's Python comes from `make test-hud`, by the variable below; nothing is downloaded by a test. Its processes have no
telemetry and no address but closed ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ENV_PYTHON = "TASKLOOM_TEST_HUD"
SOURCES = Path(__file__).parent / "sources"
ANNOUNCEMENT = "HUD_SERVE_PORT="
OURS = "from taskloom.evals import Capability, Environment, EvaluationResult, SubScore\n"
THEIRS = (
    "from hud import Environment\nfrom hud.capabilities import Capability\n"
    "from hud.graders import EvaluationResult, SubScore\n"
)
CLOSED = "http://127.0.0.1:9"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("hud")


@pytest.fixture(scope="session")
def hud_python() -> Path:
    named = os.environ.get(ENV_PYTHON, "")
    if not named:
        pytest.skip(f"{ENV_PYTHON} names no Python with the hud package; `make test-hud` makes one")
    return Path(named)


def variables() -> dict[str, str]:
    """For hud's processes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HUD_", "TASKLOOM_"))}
    closed = {f"HUD_{name}_URL": CLOSED for name in ("API", "TELEMETRY", "GATEWAY", "RUNTIME", "RL", "WEB")}
    off = {"HUD_TELEMETRY_ENABLED": "false", "HUD_CLI_ANALYTICS_ENABLED": "false", "HUD_SKIP_VERSION_CHECK": "1"}
    return {**kept, **closed, **off}


def write_world(folder: Path, package: str) -> Path:
    """The environment's source for one of the packages."""
    path = folder / "world.py"
    path.write_text(package + (SOURCES / "world.py").read_text("utf-8"))
    return path


@contextmanager
def serving(command: list[str], folder: Path, environment: dict[str, str], *, code: int) -> Iterator[int]:
    """A serving process; its port. SIGTERM ends it with this exit code."""
    with (folder / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, env=environment)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith(ANNOUNCEMENT.encode()):
                yield int(line.decode().removeprefix(ANNOUNCEMENT))
                break
        else:
            pytest.fail(f"it never listened: {(folder / 'errors.txt').read_text()[-2000:]}")
    finally:
        process.terminate()
        process.stdout.close()
        try:
            ended = process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert ended == code


@pytest.fixture(scope="module")
def our_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An environment that Taskloom serves."""
    folder = tmp_path_factory.mktemp("ours")
    path = write_world(folder, OURS)
    with serving(
        [sys.executable, "-m", "taskloom.evals.serving", str(path)], folder, dict(os.environ), code=0
    ) as port:
        yield port


@pytest.fixture(scope="module")
def their_port(tmp_path_factory: pytest.TempPathFactory, hud_python: Path) -> Iterator[int]:
    """The same environment, served by hud."""
    folder = tmp_path_factory.mktemp("theirs")
    path = write_world(folder, THEIRS)
    with serving(
        [str(hud_python), "-m", "hud.environment.server", str(path)], folder, variables(), code=143
    ) as port:
        yield port
