"""Houses for tests: a real server on a real socket over its own folder, in a thread or as a process of its own.

`house` is quick and shares this process; `house_process` can be killed. `clock` is the server's clock of a
`house`: it goes on by itself and can be put forward. Nothing here touches the user's own data folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskloom.server.serve import Listener
from taskloom.server.settings import read_settings
from taskloom.wire.client import Address
from taskloom.wire.connection import read_connection
from taskloom.wire.messages import KeyCreate, Role
from taskloom.wire.operations import CREATE_KEY
from taskloom.wire.send import Client

READY = "Taskloom is ready at "
PATIENCE = 30.0  # seconds that a start or stop may take on a busy machine
ENV_POSTGRES = "TASKLOOM_TEST_POSTGRES"


class Clock:
    """Real time, and as much more as a test has put it forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += seconds


class _Found:
    """What every house offers to a test once it listens."""

    data: Path
    url: str

    def __init__(self) -> None:
        self._clients: list[Client] = []

    @property
    def key(self) -> str:
        """The administrator's key, as programs on this machine find it."""
        written = read_connection(self.data)
        assert written is not None
        return written.api_key

    @property
    def client(self) -> Client:
        """A client of the administrator."""
        return self.client_of(self.key)

    def client_of(self, key: str) -> Client:
        for known in self._clients:
            if known.address == Address(self.url, key):
                return known
        self._clients.append(Client(Address(self.url, key)))
        return self._clients[-1]

    def make_key(self, role: Role = "member", user: str = "") -> str:
        return self.client.call(CREATE_KEY, KeyCreate(label=f"test {role}", role=role, user=user)).key

    def environment(self) -> dict[str, str]:
        """For child processes: they find this server and no other."""
        gone = {"TASKLOOM_URL", "TASKLOOM_API_KEY"}
        kept = {name: value for name, value in os.environ.items() if name not in gone}
        return {**kept, "TASKLOOM_DATA": str(self.data), "TASKLOOM_URL": self.url, "TASKLOOM_API_KEY": self.key}

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()


class House(_Found):
    """A server in a thread of this process."""

    def __init__(self, data: Path, clock: Clock | None = None, database_url: str = "") -> None:
        super().__init__()
        self.data = data
        self.clock = clock or Clock()
        self._environ = {"TASKLOOM_DATABASE_URL": database_url}
        self._port = 0
        self.start()

    def start(self) -> None:
        ready = threading.Event()
        settings = read_settings(self.data, "127.0.0.1", self._port, self._environ)
        self.listener = Listener(settings, self.clock, lambda _: ready.set())
        self._thread = threading.Thread(target=self.listener.serve_for_ever, name="house", daemon=True)
        self._thread.start()
        assert ready.wait(PATIENCE), "the server did not start"
        self.url = self.listener.url
        self._port = int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        self.close_clients()
        self.listener.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server did not stop"

    def restart(self) -> None:
        """On the same port and folder, as after an upgrade."""
        self.stop()
        self.start()


class HouseProcess(_Found):
    """A server as `taskloom server` starts it."""

    def __init__(self, data: Path, environ: dict[str, str] | None = None) -> None:
        super().__init__()
        self.data = data
        self._environ = environ or {}
        self._port = 0
        self.start()

    def start(self, *, expect_ready: bool = True) -> None:
        """Start it, on the port it had before if it ran; returns when it is ready."""
        self.errors = self.data.with_suffix(".stderr")
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taskloom.server", "--data", str(self.data), "--port", str(self._port)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **self._environ},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not expect_ready:
            return
        assert line.startswith(READY), f"{line!r}; {self.errors.read_text()}"
        self.url = line.removeprefix(READY).strip()
        self._port = int(self.url.rpartition(":")[2])

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self.close_clients()

    def stop(self) -> int:
        """SIGTERM, as service managers do; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self.close_clients()
        return code


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's own server, key or journals."""
    monkeypatch.setenv("TASKLOOM_DATA", str(tmp_path / "own"))
    for name in ("TASKLOOM_URL", "TASKLOOM_API_KEY", "TASKLOOM_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(tmp_path: Path, clock: Clock) -> Iterator[House]:
    running = House(tmp_path / "house", clock)
    yield running
    running.stop()


@pytest.fixture
def house_process(tmp_path: Path) -> Iterator[HouseProcess]:
    running = HouseProcess(tmp_path / "house")
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.wait(PATIENCE)
    running.close_clients()


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait until something is true; for what other processes do in their own time."""

    def wait(true: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, "it did not become true"
            time.sleep(0.02)

    return wait
