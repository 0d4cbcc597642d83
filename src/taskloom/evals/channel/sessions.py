"""The sessions of one served environment: which are live, and which hold a task that is parked.

A session is live while a connection speaks for it. Its suspended task is parked when the connection is lost, and stays
so until somebody resumes the session, adopts the task, or the server stops; of more than PARKED tasks the oldest is
closed. One loop's thread calls everything here.
"""

from __future__ import annotations

import secrets

from taskloom.evals.environment.open_task import OpenTask

PARKED = 1000  # tasks that wait for somebody to come back


class WrongMoment(Exception):
    """The session cannot do that now; the text says why."""


class Sessions:
    def __init__(self) -> None:
        self._live: set[str] = set()
        self._held: dict[str, OpenTask] = {}  # suspended, of live sessions
        self._parked: dict[str, OpenTask] = {}  # of others, the oldest first
        self._open: set[OpenTask] = set()  # all that are not closed yet

    def open(self) -> str:
        """The id of a new live session."""
        while True:
            session = "sess-" + secrets.token_hex(4)
            if session not in self._live and session not in self._parked:
                self._live.add(session)
                return session

    def resume(self, own: str, wanted: str) -> None:
        """The connection of `own` speaks for `wanted` from now on; WrongMoment unless that one is parked."""
        if wanted in self._live:
            raise WrongMoment(f"session {wanted!r} has a live connection")
        if wanted not in self._parked:
            raise WrongMoment(f"unknown session: {wanted!r}")
        self.close(own)
        self._live.add(wanted)
        self._held[wanted] = self._parked.pop(wanted)

    def close(self, session: str) -> None:
        """Its connection is gone: park what it holds."""
        self._live.discard(session)
        task = self._held.pop(session, None)
        if task is None:
            return
        self._parked[session] = task
        if len(self._parked) > PARKED:
            self._parked.pop(next(iter(self._parked))).cancel()

    def begin(self, task: OpenTask) -> None:
        """Know of a task that was started, until it is closed."""
        self._open.add(task)
        task.when_closed(self._open.discard)

    def hold(self, session: str, task: OpenTask) -> None:
        """Keep the task of a live session."""
        self._held[session] = task

    def take(self, session: str) -> OpenTask | None:
        """The task that a session holds, which does not hold it any more."""
        return self._held.pop(session, None)

    def adopt(self) -> OpenTask:
        """The one parked task; WrongMoment when there is none, or more than one."""
        if not self._parked:
            raise WrongMoment("no task in progress")
        if len(self._parked) > 1:
            ids = ", ".join(sorted(self._parked))
            raise WrongMoment(
                f"{len(self._parked)} parked sessions ({ids}); resume one by sending hello with its session_id"
            )
        return self._parked.popitem()[1]

    def clear(self) -> list[OpenTask]:
        """All tasks that are not closed yet, for the end of the server."""
        self._held.clear()
        self._parked.clear()
        return list(self._open)
