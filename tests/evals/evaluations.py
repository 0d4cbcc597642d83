"""A folder with an environment and agents, and the command as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import HouseProcess

ENVIRONMENT = """
from taskloom.evals import Environment

env = Environment("sums")

@env.template(id="add")
async def add(a: int, b: int):
    answer = yield f"What is {a} + {b}?"
    yield float(str(answer).strip() == str(a + b))

tasks = [add(a=n, b=n) for n in range(COUNT)]
"""

AGENTS = '''
import asyncio, os, re
from pathlib import Path

HERE = Path(__file__).parent

async def solve(run):
    """Right, once the file `go` is there; until then only the first FREE of them answer."""
    with (HERE / "begun").open("a") as log:
        log.write(run.slug + "\\n")
    while run.position >= int(os.environ.get("FREE", "1000000")) and not (HERE / "go").exists():
        await asyncio.sleep(0.02)
    a, b = map(int, re.findall("[0-9]+", run.prompt_text))
    run.trace.content = str(a + b)

async def fail(run):
    """Wrong for odd positions, and raises for every fourth."""
    a, b = map(int, re.findall("[0-9]+", run.prompt_text))
    run.trace.content = str(a + b + run.position % 2)
    if run.position % 4 == 3:
        raise RuntimeError("it fell")
'''


class Folder:
    """Where a person evaluates."""

    def __init__(self, path: Path, house: HouseProcess | None, count: int = 6) -> None:
        path.mkdir()
        self.path, self.house = path, house
        self.write("env.py", ENVIRONMENT.replace("COUNT", str(count)))
        self.write("agent.py", AGENTS)

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def environment(self, **variables: str) -> dict[str, str]:
        """With room for every column of a table."""
        mine = os.environ if self.house is None else self.house.environment()
        return {**mine, "COLUMNS": "300", **variables}

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "taskloom.cli.main", "eval", *words],
            cwd=self.path,
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def eval(self, *words: str, code: int = 0, **variables: str) -> str:
        """What it printed; the exit code is looked at."""
        process = self.start(*words, **variables)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, f"{process.returncode}: {out}\n{err}"
        self.errors = err
        return out

    def told(self, *words: str, code: int = 0, **variables: str) -> Any:
        return json.loads(self.eval(*words, "--json", code=code, **variables))

    def begun(self) -> list[str]:
        """The runs whose agent began, one after the other."""
        file = self.path / "begun"
        return file.read_text().split() if file.exists() else []

    def children(self) -> list[str]:
        """Processes that work in this folder."""
        found: list[str] = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "cwd").startswith(str(self.path)):
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found


def interrupt(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=120)
