"""Where rows run when nobody says so: decided by what is known of them, and told in one line.

Rows that come out of a source have it served in child processes, each its own; rows of a taskset of the server have
their environments brought up by a worker, as they were before. The providers are loaded when one is chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskloom.evals.runtimes.contract import Runtime
    from taskloom.evals.task import Task

SHOWN = 3  # environments or sources that a line names


def choose_runtime(tasks: Sequence[Task], *, from_server: bool = False) -> Any:
    """A provider for these rows; ValueError that says what to give when nothing is known."""
    unknown = [task for task in tasks if not task.source]
    if not unknown:
        sources = list(dict.fromkeys(task.source for task in tasks if task.source))
        tell(f"no runtime is given: environments are served from {_some(sources)}, a process for each run")
        return BySource()
    names = list(dict.fromkeys(task.env for task in unknown))
    if from_server and _were_brought_up(names):
        from taskloom.evals.runtimes.leased import LeasedRuntime

        tell("no runtime is given: workers bring the environments up, as they did before")
        return LeasedRuntime()
    raise ValueError(
        f"nothing is known of where the environments of these rows are ({_some(names)}): give runtime=, such as "
        'LocalRuntime("env.py"), DockerRuntime("image") or Runtime("tcp://host:port")'
    )


def _were_brought_up(names: Sequence[str]) -> bool:
    """Whether the server has the source of each, from a worker that brought it up."""
    from taskloom.wire.connection import find_address

    address = find_address()
    if address is None:
        return False
    from taskloom.evals.runtimes.leased import earlier_tasks, newest_execution
    from taskloom.wire.operations import QUERY_TASKS
    from taskloom.wire.send import Client

    client = Client(address)
    try:
        found = (newest_execution(client.call(QUERY_TASKS, earlier_tasks(name)).tasks) for name in names)
        return all(one is not None for one in found)
    finally:
        client.close()


class BySource:
    """Serves each row from its own source."""

    def __init__(self) -> None:
        self._providers: dict[tuple[str, str], Any] = {}

    def __call__(self, task: Task, /) -> AbstractAsyncContextManager[Runtime]:
        from taskloom.evals.runtimes.local import LocalRuntime

        key = task.source or "", task.env
        provider = self._providers.get(key)
        if provider is None:
            provider = self._providers[key] = LocalRuntime(key[0], env=key[1])
        return provider(task)


def tell(text: str) -> None:
    """A line for people, beside whatever a script prints; once in a process."""
    if text not in _told:
        _told.add(text)
        print(f"taskloom: {text}", file=sys.stderr)


_told: set[str] = set()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
