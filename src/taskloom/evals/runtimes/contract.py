"""The contract of placement: who brings up a fresh substrate for a row, and how it is reached.

A provider is any function that, called with the row, gives an async context manager. ENTER brings one environment up
for this run alone and yields its `Runtime`; EXIT takes it down, also after errors and cancellation at any point, and
returns when nothing of it is left. What cannot be brought up raises `InfrastructureFailure` with a sentence for people
(`EnvironmentFailure` when the environment's own code is at fault). Many calls run side by side. A `Runtime` is a
provider of itself, without a life to look after.

A provider of whole runs (`runs_whole`) takes the agent along: it has no runtime to yield, see `hosted`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from taskloom.evals.channel.contract import read_address

if TYPE_CHECKING:
    from taskloom.evals.task import Task


@dataclass(frozen=True)
class Runtime:
    """The address of a served control channel, `tcp://HOST:PORT`.

    params: `ready_timeout` in seconds, until which its first answer has to come. `origin`: for people, what it is.
    ValueError for an address of another form.
    """

    url: str
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    origin: str = ""

    def __post_init__(self) -> None:
        read_address(self.url)

    @asynccontextmanager
    async def _itself(self) -> AsyncGenerator[Runtime]:
        yield self

    def __call__(self, task: Task, /) -> AbstractAsyncContextManager[Runtime]:
        """Attach every row to this address; whoever serves it looks after it."""
        return self._itself()

    async def __aenter__(self) -> Runtime:
        """So that a provider may give a runtime as it is: `lambda task: RUNTIMES[task.env]`."""
        return self

    async def __aexit__(self, *raised: object) -> None:
        pass


class Provider(Protocol):
    """Called with the row that is being placed."""

    def __call__(self, task: Task, /) -> AbstractAsyncContextManager[Runtime]: ...
