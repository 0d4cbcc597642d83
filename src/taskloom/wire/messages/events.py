"""Live events."""

from __future__ import annotations

from taskloom.wire.messages.base import Answer, Request


class EventsQuery(Request, frozen=True, kw_only=True):
    """Query string of the event stream: only what concerns one task or project, or everything."""

    task: str = ""
    project: str = ""


class LiveEvent(Answer, frozen=True, kw_only=True):
    """One server-sent event. `kind`: task, metrics, console, plots, artifacts, samples, evals, queue, worker, project,
    tunnel.

    Of evals, `task` is the job; what its end does to runs that it left is told by the end of the task alone.

    It says that something changed, not how: the page asks again for what it shows.
    """

    kind: str
    task: str = ""
    project: str = ""
    queue: str = ""
    status: str = ""
    time: float = 0.0
