"""The runtime of this machine: every run has the environment's source served by a process of its own.

    await taskset.run(agent, runtime=LocalRuntime("env.py"))

A source is loaded once, by a parent process (see zygote) from which each run's process is forked: that takes
milliseconds, and no run sees what another one changed. A source that changed on the disk gets a new parent. The process works
in the source's folder and is ended with everything that it started.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from taskloom.evals.channel.contract import ChannelLost
from taskloom.evals.runtimes.contract import Runtime
from taskloom.evals.runtimes.forking import Child, Parent, start_parent
from taskloom.evals.runtimes.kept import Kept
from taskloom.evals.runtimes.output import with_lines
from taskloom.evals.task import Task

IDLE_SECONDS = 30.0  # that a parent process stays without a run
NEWS_SECONDS = 0.5  # that the end of a process may take to be known after its line broke
log = logging.getLogger("taskloom.evals")

_parents = Kept[Parent](IDLE_SECONDS, Parent.is_fresh)
_busy: set[str] = set()  # sources of which was said that they are loaded anew for every run


class LocalRuntime:
    """A child process for each run, that serves a file or folder.

    path     Python source of the environment
    env      which of its environments to serve; by default the one that the row names
    preload  False: the source is loaded by every run's process and by nothing before it. Needed where loading it
             opens connections or files that runs must not share; done by itself where loading it starts threads

    ValueError for a path where nothing is.
    """

    def __init__(self, path: str | Path, env: str | None = None, *, preload: bool = True) -> None:
        self.path = Path(path).expanduser().resolve()
        if not self.path.exists():
            raise ValueError(f"LocalRuntime({str(path)!r}): there is no such file or folder")
        self.env = env
        self.preload = preload

    def __repr__(self) -> str:
        return f"LocalRuntime({str(self.path)!r})"

    @asynccontextmanager
    async def __call__(self, task: Task, /) -> AsyncGenerator[Runtime]:
        """Serve the row's environment. EnvironmentFailure when its source fails, with its last lines of output."""
        name = self.env or task.env
        preload = self.preload and str(self.path) not in _busy
        key = (self.path, preload, frozenset(os.environ.items()))  # children have those of their parent
        async with (
            _parents.lease(key, lambda: self._parent(preload=preload)) as parent,
            parent.child(name) as child,
        ):
            try:
                yield Runtime(f"tcp://127.0.0.1:{child.port}", origin=str(self.path))
            except ChannelLost as error:
                raise await _with_end(error, child) from None

    @asynccontextmanager
    async def _parent(self, *, preload: bool) -> AsyncGenerator[Parent]:
        async with start_parent(self.path, preload=preload) as (parent, why):
            if parent is not None:
                yield parent
                return
        _busy.add(str(self.path))
        log.warning("%s starts %s when it is loaded: it is loaded anew for every run", self.path, why)
        async with start_parent(self.path, preload=False) as (parent, why):
            assert parent is not None, "what loads nothing starts nothing"
            yield parent


async def _with_end(error: ChannelLost, child: Child) -> ChannelLost:
    """A line that broke because its process ended says so; the news of that may be a moment behind."""
    await asyncio.wait([child.ended], timeout=NEWS_SECONDS)
    if not child.ended.done():
        return error
    child.output.close()
    return ChannelLost(with_lines(f"{error}; the environment's process {child.ended.result()}", child.output))
