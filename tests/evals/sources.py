"""Sources of environments for the tests of runtimes, and what is to be seen of the processes that serve them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psutil

HEAD = """\
import asyncio, os, random, signal, subprocess, sys, threading, time
from pathlib import Path
from taskloom.evals.environment.declaration import Environment
env = Environment("world")
count = 0
"""

TELL = """
@env.template()
async def tell(what: str = ""):
    global count
    count += 1
    answer = yield str(eval(what)) if what else "say yes"
    yield float(answer == "yes")
"""


def write_source(folder: Path, more: str = "", *, tell: str = TELL, name: str = "world.py") -> Path:
    """A source with the template `tell`, whose prompt is the value of an expression."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"{HEAD}{more}\n{tell}")
    return path


def alive(pids: Iterable[int]) -> list[int]:
    """Those that still run."""
    found: list[int] = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def below() -> list[int]:
    """All processes that descend from this one."""
    return [process.pid for process in psutil.Process().children(recursive=True)]
