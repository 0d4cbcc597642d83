"""The runtime without a process: an environment is served by this very one, on a port of its own.

The quickest, and the one to debug in. What an environment does to the process (its folder, its modules, a crash) it
does to the evaluation; where that matters, see local.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from taskloom.domain.errors import TaskloomError
from taskloom.evals.channel.server import ControlServer
from taskloom.evals.environment.declaration import Environment
from taskloom.evals.environment.loading import load_environment
from taskloom.evals.failures import EnvironmentFailure, RunFailure
from taskloom.evals.run import describe
from taskloom.evals.runtimes.contract import Runtime
from taskloom.evals.runtimes.kept import Kept
from taskloom.evals.serving.process import served
from taskloom.evals.task import Task

IDLE_SECONDS = 1.0  # that a live environment is served on without a run

_served = Kept[ControlServer](IDLE_SECONDS)


class InProcessRuntime:
    """A source that is executed anew for each run; or a live environment, which all runs share.

    Runs of a live environment are apart as sessions are: each has its own task, all have its module's variables. Its
    hooks run when the first run comes and when no run is left.
    """

    def __init__(self, source: str | Path | Environment, env: str | None = None) -> None:
        if not isinstance(source, Environment):
            source = Path(source).expanduser().resolve()
            if not source.exists():
                raise ValueError(f"InProcessRuntime({str(source)!r}): there is no such file or folder")
        self._source, self._env = source, env

    @asynccontextmanager
    async def __call__(self, task: Task, /) -> AsyncGenerator[Runtime]:
        """EnvironmentFailure when the source or a hook raises."""
        if isinstance(self._source, Environment):
            live = self._source
            async with _served.lease(live, lambda: _serve(live)) as server:
                yield _address(server)
            return
        try:
            environment = load_environment(self._source, self._env or task.env)
        except TaskloomError as error:
            raise EnvironmentFailure(error.message) from None
        async with _serve(environment) as server:
            yield _address(server)


def _address(server: ControlServer) -> Runtime:
    return Runtime(f"tcp://127.0.0.1:{server.port}", origin="this process")


@asynccontextmanager
async def _serve(environment: Environment) -> AsyncGenerator[ControlServer]:
    """Tells what its start raises apart from what the run does."""
    begun = False
    try:
        async with served(environment) as server:
            begun = True
            yield server
    except RunFailure:
        raise
    except Exception as error:
        if begun:
            raise
        raise EnvironmentFailure(
            f"environment {environment.name!r} cannot be started: {describe(error)}"
        ) from error
