"""A conversation: each turn is a whole run of a template that takes `messages`, under one job. Source: HUD's chats.

    async with Chat(talk, agent, LocalRuntime("env.py")) as chat:
        reply = await chat.send("Hello")

The history goes along as the template's argument `messages`, so that a turn needs no environment that stays up. A turn that fails
raises, and its user message stays in the history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from taskloom.evals.failures import (
    AgentFailure,
    EnvironmentFailure,
    GraderFailure,
    InfrastructureFailure,
    RunFailure,
)
from taskloom.evals.job import Job
from taskloom.evals.task import Task

if TYPE_CHECKING:
    from types import TracebackType

    from taskloom.evals.limits import Limits
    from taskloom.evals.run import Run

MESSAGES = "messages"  # the argument that takes the history
MAX_TURNS = 10_000  # of one conversation, of which every turn sends all before it

_FAILURES: dict[str, type[RunFailure]] = {
    kind.boundary: kind for kind in (InfrastructureFailure, EnvironmentFailure, AgentFailure, GraderFailure)
}


class Chat:
    """`task`: a row whose other arguments stay as they are, or a template's handle, called with `messages=`.

    messages  the history, role and content
    job       the receipt of all turns, once the first was sent
    runs      one for each turn
    """

    def __init__(
        self,
        task: Task | Callable[..., Task],
        agent: Any,
        runtime: Any = None,
        *,
        name: str = "",
        project: str = "",
        limits: Limits | None = None,
    ) -> None:
        self._task, self._agent, self._runtime = task, agent, runtime
        self._name, self._project, self._limits = name, project, limits
        self.messages: list[dict[str, Any]] = []
        self.job: Job | None = None

    @property
    def runs(self) -> list[Run]:
        return [] if self.job is None else self.job.runs

    async def send(self, text: str) -> str:
        """The agent's reply to another turn of the user; a RunFailure of the boundary that a failed turn crossed."""
        if not isinstance(text, str) or not text:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"a turn {text!r:.80}: expected a text")
        if len(self.messages) >= 2 * MAX_TURNS:
            raise ValueError(f"this conversation has had its {MAX_TURNS} turns")
        self.messages.append({"role": "user", "content": text})
        task = self._row()
        if self.job is None:
            self.job = await Job.start(self._name or f"chat {task.id}", project=self._project, taskset=task.id)
        before = len(self.job.runs)
        await task.run(self._agent, runtime=self._runtime, job=self.job, limits=self._limits)
        run = self.job.runs[before]
        if run.status != "completed":
            raise _FAILURES.get(run.boundary, RunFailure)(run.error or f"the turn ended as {run.status}")
        answer = run.trace.content
        reply = answer if isinstance(answer, str) else "" if answer is None else str(answer)
        self.messages.append({"role": "assistant", "content": reply})
        return reply

    def _row(self) -> Task:
        history = [dict(message) for message in self.messages]
        if isinstance(self._task, Task):
            row = self._task.model_copy(update={"args": {**self._task.args, MESSAGES: history}})
        else:
            row = self._task(messages=history)
        row.slug = f"turn-{sum(message['role'] == 'user' for message in history)}"
        return row

    async def close(self) -> None:
        """End the job."""
        if self.job is not None:
            await self.job.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.job is not None:
            await self.job.__aexit__(kind, error, traceback)
