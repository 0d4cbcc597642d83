"""The unmodified hud package as a client of our server, and a model service that adds numbers.

hud's Python comes from `make test-hud`, by the variable below. Everything that it may ask for is this test's server.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import House
from tests.evals.conftest import field  # noqa: F401 - a fixture of these tests, too

ENV_PYTHON = "TASKLOOM_TEST_HUD"
SOURCES = Path(__file__).parent / "sources"
PATIENCE = 240.0  # seconds of one command
KEY_OF_SERVICE = "key of the model service"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("hud")


class Hud:
    """A person's folder, in which hud's command and scripts run."""

    def __init__(self, python: Path, folder: Path, house: House, key: str, bytecode: Path) -> None:
        self._python, self.folder, self._house, self._key = python, folder, house, key
        self._bytecode = bytecode
        folder.mkdir()
        for source in SOURCES.iterdir():
            (folder / source.name).write_text(source.read_text("utf-8"))

    def variables(self) -> dict[str, str]:
        gone = ("HUD_", "TASKLOOM_", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(gone)}
        served = f"{self._house.url}/hud"
        own = {
            "HUD_API_URL": served,
            "HUD_TELEMETRY_URL": f"{served}/telemetry",
            "HUD_GATEWAY_URL": f"{served}/gateway",
            "HUD_RUNTIME_URL": served,
            "HUD_RL_URL": f"{served}/rl",
            "HUD_WEB_URL": self._house.url,
            "HUD_API_KEY": self._key,
            "HUD_CLI_ANALYTICS_ENABLED": "false",
            "HUD_SKIP_VERSION_CHECK": "1",
            "HOME": str(self.folder),
            "COLUMNS": "200",
            "PYTHONPYCACHEPREFIX": str(self._bytecode),  # the package takes seconds to load without
        }
        return {**kept, **own}

    def _run(self, words: list[str], code: int) -> str:
        done = subprocess.run(
            words,
            check=False,
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.errors = done.stderr
        assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def command(self, *words: str, code: int = 0) -> str:
        return self._run([str(self._python.parent / "hud"), *words], code)

    def told(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.command(*words, "--json", code=code))

    def script(self, name: str, *words: str) -> Any:
        """What a script of `sources` printed as JSON on its last line."""
        return json.loads(self._run([str(self._python), name, *words], 0).strip().splitlines()[-1])


@pytest.fixture(scope="session")
def hud_python() -> Path:
    named = os.environ.get(ENV_PYTHON, "")
    if not named:
        pytest.skip(f"{ENV_PYTHON} names no Python with the hud package; `make test-hud` makes one")
    return Path(named)


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def hud(hud_python: Path, bytecode: Path, house: House, tmp_path: Path) -> Hud:
    return Hud(hud_python, tmp_path / "person", house, house.make_key("member", "ada"), bytecode)


class _Adder(BaseHTTPRequestHandler):
    """A model that knows sums, as OpenAI's chat completions; for those who have the key of the service."""

    def do_GET(self) -> None:
        self._tell({"object": "list", "data": [{"id": "adder", "object": "model"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        numbers = re.findall("[0-9]+", json.dumps(asked["messages"][-1]["content"]))
        message = {"role": "assistant", "content": str(sum(map(int, numbers)))}
        usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._tell(
            {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": asked["model"],
                "choices": [choice],
                "usage": usage,
            }
        )

    def _tell(self, value: Any) -> None:
        known = self.headers.get("authorization") == f"Bearer {KEY_OF_SERVICE}"
        body = json.dumps(value if known else {"error": {"message": "wrong key"}}).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def gateway(house: House) -> Iterator[None]:
    """The house has a model gateway."""
    service = ThreadingHTTPServer(("127.0.0.1", 0), _Adder)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    house._environ |= {
        "TASKLOOM_EVAL_GATEWAY_URL": f"http://127.0.0.1:{service.server_address[1]}/v1",
        "TASKLOOM_EVAL_GATEWAY_KEY": KEY_OF_SERVICE,
    }
    house.restart()
    yield
    service.shutdown()
    service.server_close()
