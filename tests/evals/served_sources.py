"""Sources of environments that tests serve, and processes that serve them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ANNOUNCEMENT = "HUD_SERVE_PORT="
PATIENCE = 30.0  # seconds that a process may take to end

ADD = """
import sys
from taskloom.evals import Environment
env = Environment("sums", version="2")
print("half a line, without an end", end="")

@env.initialize
async def begin():
    print("started", end="")

@env.shutdown
async def end():
    print("shut down", file=sys.stderr, flush=True)

@env.template(description="add two numbers")
async def add(a: int, b: int = 2):
    try:
        answer = yield f"What is {a} + {b}?"
        yield {"score": float(answer == str(a + b)), "content": "checked"}
    finally:
        print("closed", file=sys.stderr, flush=True)

@env.template()
async def chat():
    yield [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    yield 0.5
"""


@dataclass
class Process:
    """A serving process. `said`: its standard output up to the announcement. `errors`: a file."""

    process: subprocess.Popen[bytes]
    port: int
    said: bytes
    errors: Path

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def end(self, number: int) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(*words: str, folder: Path) -> Iterator[Process]:
    """`python -m taskloom.evals.serving WORDS`."""
    errors = folder / "errors.txt"
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskloom.evals.serving", *words],
            stdout=subprocess.PIPE,
            stderr=file,
            cwd=folder,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith(ANNOUNCEMENT.encode()), (line, errors.read_text())
        yield Process(process, int(line.decode().removeprefix(ANNOUNCEMENT)), line, errors)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE)
        process.stdout.close()


def taskloom(*words: str, data: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "taskloom.cli.main", *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TASKLOOM_DATA": str(data)},
        check=False,
    )
