"""Unmodified ClearML clients beside a real house: scripts run by an environment of their own, over a real socket.

`clearml.run` runs a script as its users would, with ClearML's own variables pointing at the house, and gives what
it printed; what arrived is then read through our own API. The environment is made by `make test-clearml`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.conftest import Clock, House

ENV_PYTHON = "TASKLOOM_TEST_CLEARML"
THREADS = "sdk { development { report_use_subprocess: false } }\n"
"""The client's own way out of forking a reporter, which is slow to begin and now and then hangs beside its threads."""
PATIENCE = 240.0  # seconds that a script may take on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("clearml")


@dataclass
class Ran:
    """What a script left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def ok(self) -> Ran:
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self

    def said(self, word: str) -> str:
        """The rest of the line that begins with `word=`: how scripts tell ids."""
        for line in self.out.splitlines():
            if line.startswith(f"{word}="):
                return line.removeprefix(f"{word}=").strip()
        raise AssertionError(f"no line {word}= in\n{self.out}\n{self.err}")


@dataclass
class ClearML:
    """ClearML's programs, pointed at one house. `folder` is home and working directory of everything they do."""

    house: House
    python: Path
    folder: Path
    extra: dict[str, str] = field(default_factory=dict)

    def configure(self, text: str = "") -> None:
        """What clearml.conf says; nothing at all: the client's defaults, which report from a fork."""
        (self.folder / "clearml.conf").write_text(text)

    def environment(self) -> dict[str, str]:
        access, _, secret = self.house.key.removeprefix("tl_").partition("_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLEARML_", "TRAINS_", "TASKLOOM_"))}
        return {
            **kept,
            "HOME": str(self.folder),
            "PATH": f"{self.python.parent}{os.pathsep}{kept.get('PATH', '')}",
            "CLEARML_CONFIG_FILE": str(self.folder / "clearml.conf"),
            "CLEARML_API_HOST": self.house.url,
            "CLEARML_WEB_HOST": self.house.url,
            "CLEARML_FILES_HOST": f"{self.house.url}/files",
            "CLEARML_API_ACCESS_KEY": access,
            "CLEARML_API_SECRET_KEY": secret,
            "CLEARML_CACHE_DIR": str(self.folder / "cache"),
            "MPLBACKEND": "Agg",
            **self.extra,
        }

    def start(
        self, script: str, *arguments: str, name: str = "script.py", **variables: str
    ) -> subprocess.Popen[str]:
        """The script as a process of its own, not waited for."""
        path = self.folder / name
        path.write_text(textwrap.dedent(script))
        return self.program(str(self.python), str(path), *arguments, **variables)

    def program(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env={**self.environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str, name: str = "script.py", **variables: str) -> Ran:
        """The script to its end; `.ok()` of the answer asserts that it went well."""
        return finish(self.start(script, *arguments, name=name, **variables))

    def command(self, program: str, *arguments: str, **variables: str) -> Ran:
        """One of the installed programs (`clearml-task`, `clearml-data`, `clearml-agent`) to its end."""
        return finish(self.program(str(self.python.parent / program), *arguments, **variables))


def finish(process: subprocess.Popen[str], patience: float = PATIENCE) -> Ran:
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {patience} s\n{out}\n{err}") from None
    return Ran(process.returncode, out, err)


@contextlib.contextmanager
def our_worker(clearml: ClearML, queue: str = "default", slots: int = 2) -> Iterator[subprocess.Popen[bytes]]:
    """A real `taskloom worker` that serves the queue; what it says lies in `worker.log`."""
    words = ["-m", "taskloom.cli.main", "worker", "--queue", queue, "--slots", str(slots), "--name", "ours"]
    with (clearml.folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, *words], env=clearml.house.environment(), stdout=log, stderr=log, cwd=clearml.folder
        )
    try:
        yield worker
    finally:
        worker.terminate()
        try:
            worker.wait(30)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


@pytest.fixture(scope="session")
def clearml_python() -> Path:
    """The interpreter of the environment that has ClearML's packages."""
    found = os.environ.get(ENV_PYTHON)
    if not found:
        pytest.skip(f"{ENV_PYTHON} is not set: run `make test-clearml`")
    return Path(found)


@pytest.fixture
def clearml(house: House, clearml_python: Path, tmp_path: Path) -> ClearML:
    folder = tmp_path / "clearml"
    folder.mkdir()
    made = ClearML(house, clearml_python, folder)
    made.configure(THREADS)
    return made


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for the tests of a module that do not get in each other's way: clients start slowly."""
    running = House(tmp_path_factory.mktemp("shared") / "house", Clock())
    yield running
    running.stop()


@pytest.fixture
def clearml_of(clearml_python: Path, tmp_path: Path) -> Callable[[House], ClearML]:
    def made(house: House) -> ClearML:
        folder = tmp_path / "clearml"
        folder.mkdir(exist_ok=True)
        client = ClearML(house, clearml_python, folder)
        client.configure(THREADS)
        return client

    return made
