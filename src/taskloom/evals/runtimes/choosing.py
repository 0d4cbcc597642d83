"""Where rows run when nobody says so: decided by what is known of them, and told in one line.

Rows that come out of a source have it served in child processes, each its own; rows of a taskset of the server have
their environments brought up by a worker. The providers are loaded when one is chosen.
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
        tell(f"no runtime= given: environments are served from {_some(sources)}, a process for each run")
        return BySource()
    if from_server:
        from taskloom.wire.connection import find_address

        if find_address() is not None:
            from taskloom.evals.runtimes.leased import LeasedRuntime

            tell("no runtime= given: the taskset came from the server, so workers bring its environments up")
            return LeasedRuntime()
    names = list(dict.fromkeys(task.env for task in unknown))
    raise ValueError(
        f"nothing is known of where the environments of these rows are ({_some(names)}): give runtime=, such as "
        'LocalRuntime("env.py"), DockerRuntime("image") or Runtime("tcp://host:port")'
    )


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
    """A line for people, beside whatever a script prints."""
    print(f"taskloom: {text}", file=sys.stderr)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
