"""One connection to a served environment: its frames, in order, and the one task call that may run beside them.

The first frame decides: `tunnel.open` makes it a capability's stream, anything else a control session. A frame is
answered while it is read, without a task of its own; only the template runs in one. `cancel` and `bye` wait for the
end of what they interrupt, and hold up the frames behind them. A client that does not read is not read from. Source: HUD 0.6.21.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from taskloom.evals.channel.contract import MAX_FRAME
from taskloom.evals.channel.framing import (
    FAILED,
    NO_METHOD,
    WRONG_MOMENT,
    WRONG_PARAMS,
    LineBuffer,
    NotAFrame,
    Request,
    as_object,
    error_frame,
    read_request,
    result_frame,
)
from taskloom.evals.channel.sessions import Sessions, WrongMoment
from taskloom.evals.channel.streams import open_stream
from taskloom.evals.environment.declaration import Environment
from taskloom.evals.environment.open_task import OpenTask

WRITE_BUFFER = 2**18  # bytes that a client may leave unread before nothing more is read from it
log = logging.getLogger("taskloom.evals.channel")


class WrongParams(Exception):
    """The parameters of a request are none; the text says what was expected."""


class Connection(asyncio.Protocol):
    """`gone`: called once when the connection ended and nothing of it runs any more."""

    def __init__(self, environment: Environment, sessions: Sessions, gone: Callable[[Connection], None]) -> None:
        self._environment = environment
        self._sessions = sessions
        self._gone = gone
        self._session = ""
        self._buffer = LineBuffer()
        self._lines: deque[bytes] = deque()
        self._running: OpenTask | None = None
        self._running_id: Any = None
        self._running_method = ""
        self._held_up = False  # by an end that is awaited, or while a tunnel is dug
        self._full = False  # the client reads too slowly
        self.work: asyncio.Task[None] | None = None  # of an end or a stream

    # --- the line -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def data_received(self, data: bytes) -> None:
        lines = self._buffer.feed(data)
        if len(lines) == 1 and not self._lines and not self._held_up and not self._full:
            self._receive(lines[0])
            if not self._buffer.overflowed:
                return
        else:
            self._lines.extend(lines)
        self._read_on()

    def _read_on(self) -> None:
        """Act on the frames that wait, as long as nothing holds them up."""
        while self._lines and not self._held_up and not self._full and not self.transport.is_closing():
            self._receive(self._lines.popleft())
        if self._held_up or self._full:
            self.transport.pause_reading()
        elif self.transport.is_closing():
            self._lines.clear()
        elif self._buffer.overflowed:
            self._error(None, FAILED, f"a frame may have {MAX_FRAME} bytes, this one has more", always=True)
            self.transport.close()
        else:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._full = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Park what is suspended. A start goes on and is parked then, a grade has nobody to be told to."""
        self._lines.clear()
        if self._running is None:
            self._leave()
        elif self._running_method == "tasks.grade":
            self._running.cancel()

    def _leave(self) -> None:
        if self._session:
            self._sessions.close(self._session)
            self._session = ""
        self._gone(self)

    def hang_up(self) -> None:
        """The server ends: cut the line. It also stops the tasks."""
        self._running = None
        if self.work is not None:
            self.work.cancel()
        self.transport.abort()

    # --- frames -------------------------------------------------------------------------------------------

    def _receive(self, line: bytes) -> None:
        try:
            request = read_request(line)
        except NotAFrame as error:
            log.info("a connection is closed: %s", error)
            self.transport.close()
            return
        if not self._session:
            if request.method == "tunnel.open":
                self._open_tunnel(request)
                return
            self._session = self._sessions.open()
        try:
            self._act(request)
        except WrongParams as error:
            self._error(request.id, WRONG_PARAMS, f"{request.method}: {error}")
        except WrongMoment as error:
            self._error(request.id, WRONG_MOMENT, str(error))
        except Exception as error:
            self._error(request.id, FAILED, _message(error))

    def _act(self, request: Request) -> None:
        method = request.method
        if method in ("tasks.cancel", "bye"):
            self._end(request)
        elif self._running is not None:
            raise WrongMoment(f"{method}: a task call is still running")
        elif method == "hello":
            self._hello(request)
        elif method == "tasks.start":
            self._start(request)
        elif method == "tasks.grade":
            self._grade(request)
        elif method == "tasks.list":
            templates = self._environment.templates.values()
            self._result(request.id, {"tasks": [template.manifest for template in templates]})
        else:
            self._error(request.id, NO_METHOD, f"method not found: {method}")

    def _hello(self, request: Request) -> None:
        params = _params(request)
        wanted = params.get("session_id")
        if wanted is not None and wanted != self._session:
            if not isinstance(wanted, str):
                raise WrongParams("'session_id' must be a string")
            self._sessions.resume(self._session, wanted)
            self._session = wanted
        for key in ("workspace_routes", "connections"):
            asked = params.get(key)
            if asked is not None and not isinstance(asked, list):
                raise WrongParams(f"'{key}' must be a list")
            if asked:
                raise ValueError(f"'{key}' cannot be had here: no workspace of this environment takes them")
        environment = self._environment
        self._result(
            request.id,
            {
                "session_id": self._session,
                "env": {"name": environment.name, "version": environment.version},
                "bindings": [capability.to_manifest() for capability in environment.capabilities],
            },
        )

    # --- task calls ---------------------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        params = _params(request)
        id, args = params.get("id"), as_object({} if params.get("args") is None else params["args"])
        if not isinstance(id, str):
            raise WrongParams("'id' must be a string")
        if args is None:
            raise WrongParams("'args' must be an object")
        template = self._environment.templates.get(id)
        if template is None:
            self._error(request.id, WRONG_PARAMS, f"unknown task: {id!r}")
            return
        before = self._sessions.take(self._session)
        if before is not None:
            before.cancel()
        task = OpenTask(template, args)
        self._run(task, request)
        task.start(self._started, after=before)
        self._sessions.begin(task)

    def _run(self, task: OpenTask, request: Request) -> None:
        self._running, self._running_id, self._running_method = task, request.id, request.method

    def _started(self, outcome: dict[str, Any] | Exception) -> None:
        task, self._running = self._running, None
        if task is not None and isinstance(outcome, dict):
            self._sessions.hold(self._session, task)
            if not self._result(self._running_id, outcome):
                self._sessions.take(self._session)
                task.cancel()
        elif task is not None and isinstance(outcome, Exception):
            self._error(self._running_id, FAILED, _message(outcome))
        if self.transport.is_closing():
            self._leave()

    def _grade(self, request: Request) -> None:
        answer = _params(request).get("answer")
        task = self._sessions.take(self._session) or self._sessions.adopt()
        self._run(task, request)
        task.grade(answer, self._graded)

    def _graded(self, outcome: dict[str, Any] | Exception) -> None:
        task, self._running = self._running, None
        if task is not None and isinstance(outcome, dict):
            self._result(self._running_id, outcome)
        elif task is not None and isinstance(outcome, Exception):
            self._error(self._running_id, FAILED, _message(outcome))
        if self.transport.is_closing():
            self._leave()

    def _end(self, request: Request) -> None:
        """Cancel or bye: end what there is, then answer; the frames behind it wait."""
        task, self._running = self._running, None
        interrupted = task is not None
        task = task or self._sessions.take(self._session)
        if task is None:
            self._ended(request, False)
            return
        self._held_up = True
        self.transport.pause_reading()
        self.work = asyncio.get_running_loop().create_task(self._await_end(task, request, interrupted))

    async def _await_end(self, task: OpenTask, request: Request, interrupted: bool) -> None:
        await task.stop()
        self._held_up = False
        self._ended(request, interrupted)
        if self.transport.is_closing():
            self._leave()
        else:
            self._read_on()

    def _ended(self, request: Request, interrupted: bool) -> None:
        if interrupted:
            self._error(self._running_id, FAILED, f"{request.method} interrupted the task")
        if request.method == "bye":
            self._result(request.id, {"goodbye": True})
            self.transport.close()
        else:
            self._result(request.id, {"cancelled": True})

    # --- answers ------------------------------------------------------------------------------------------

    def _result(self, id: Any, result: dict[str, Any]) -> bool:
        """False when it cannot be sent as a frame; the client has an error instead."""
        try:
            frame = result_frame(id, result)
        except Exception as error:  # also out of the author's models
            self._error(id, FAILED, f"the answer is no JSON: {_message(error)}")
            return False
        if len(frame) > MAX_FRAME + 1:
            self._error(id, FAILED, f"the answer has {len(frame) - 1} bytes: a frame may have {MAX_FRAME}")
            return False
        if id is not None and not self.transport.is_closing():
            self.transport.write(frame)
        return True

    def _error(self, id: Any, code: int, message: str, *, always: bool = False) -> None:
        if (id is None and not always) or self.transport.is_closing():
            return
        frame = error_frame(id, code, message)
        if len(frame) > MAX_FRAME + 1:
            frame = error_frame(
                None, FAILED, f"the error has {len(frame) - 1} bytes: a frame may have {MAX_FRAME}"
            )
        self.transport.write(frame)

    # --- streams ------------------------------------------------------------------------------------------

    def _open_tunnel(self, request: Request) -> None:
        self._held_up = True
        self.transport.pause_reading()
        early = b"".join(line + b"\n" for line in self._lines) + self._buffer.rest()
        self._lines.clear()
        self.work = asyncio.get_running_loop().create_task(
            open_stream(self._environment, self.transport, request, early, lambda: self._gone(self))
        )


def _params(request: Request) -> dict[str, Any]:
    params = as_object(request.params or {})
    if params is None:
        raise WrongParams("'params' must be an object")
    return params


def _message(error: Exception) -> str:
    """What an exception says; the name of one that says nothing, or cannot even do that."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
