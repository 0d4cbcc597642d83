"""The client of the control channel: connect, say hello, start, grade. Source: HUD 0.6.21.

One call at a time. Whatever breaks a call (a lost line, another id, garbage, the caller's cancellation) makes the line
unusable, and every later call says so with `ChannelLost`. A call that is cancelled tells the environment to end the
task, in the background. A session that lost its line between prompt and grade is resumed once, over a new one.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, cast

from taskloom.evals.capabilities import Capability
from taskloom.evals.channel.contract import READY_TIMEOUT, ChannelLost, Refused, read_address
from taskloom.evals.channel.line import Line
from taskloom.evals.channel.tunnels import Forwards

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5  # seconds between two attempts to connect
HEARTBEAT_EVERY = 120.0  # seconds between two signs of life
HEARTBEAT_PATIENCE = 5.0  # seconds until one has to be answered
CANCEL_PATIENCE = 2.0  # seconds that the environment gets to close a cancelled task
RESUME_PATIENCE = 2.0  # seconds until the environment must have noticed that the old line is gone


class Address(Protocol):
    """Where to connect: a `runtimes.contract.Runtime`."""

    @property
    def url(self) -> str: ...

    @property
    def params(self) -> dict[str, Any]: ...


class Client:
    """A `channel.contract.Control` over one line. Made by `connect`."""

    def __init__(self, line: Line, host: str, port: int, welcome: dict[str, Any]) -> None:
        self._line = line
        self._host, self._port = host, port
        self._forwards: Forwards | None = None
        self._suspended = False  # a task waits for its grade
        self._beat: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None
        self._read_welcome(welcome)
        self._plan_beat()

    def _read_welcome(self, welcome: dict[str, Any]) -> None:
        try:
            self.session_id = str(welcome["session_id"])
            self.env_name = str(welcome["env"]["name"])
            self.env_version = str(welcome["env"]["version"])
            self._native = tuple(Capability.from_manifest(entry) for entry in welcome["bindings"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._line.lose(f"its hello cannot be read ({type(error).__name__}: {error})") from None

    # --- capabilities -------------------------------------------------------------------------------------

    @property
    def bindings(self) -> Sequence[Capability]:
        """See the contract."""
        return tuple(self._forwarded(capability) for capability in self._native)

    async def binding(self, reference: str) -> Capability:
        found = [one for one in self._native if reference in (one.name, one.protocol, one.family)]
        if len(found) != 1:
            shown = ", ".join(f"{one.name} ({one.protocol})" for one in found or self._native) or "none"
            raise ValueError(
                f"capability {reference!r} is ambiguous: {shown}; use a name"
                if found
                else f"no capability {reference!r}; the environment offers: {shown}"
            )
        return self._forwarded(found[0])

    def _forwarded(self, capability: Capability) -> Capability:
        if self._forwards is None:
            self._forwards = Forwards(self._host, self._port)
        return self._forwards.forwarded(capability)

    # --- tasks --------------------------------------------------------------------------------------------

    async def list_tasks(self) -> list[dict[str, Any]]:
        tasks: Any = (await self._call("tasks.list", {})).get("tasks") or []
        if not isinstance(tasks, list):
            raise self._line.lose("its list of tasks is none")
        return cast("list[dict[str, Any]]", tasks)

    async def start(self, template: str, args: dict[str, Any]) -> dict[str, Any]:
        frame = await self._call("tasks.start", {"id": template, "args": args})
        self._suspended = True
        return frame

    async def grade(self, answer: Any) -> dict[str, Any]:
        if self._line.lost is not None and self._suspended:
            await self._resume(self._line.lost)
        self._suspended = False
        return await self._call("tasks.grade", {"answer": answer})

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if self._beating is not None:  # it lasts no longer than HEARTBEAT_PATIENCE
            await asyncio.wait([self._beating])
        try:
            return await self._line.call(method, params)
        except asyncio.CancelledError:
            self._line.abandon(CANCEL_PATIENCE)
            raise

    async def cancel(self) -> None:
        """End the task, also while another call runs, which is lost then; waits CANCEL_PATIENCE for it.

        Never raises for a line that is lost.
        """
        self._suspended = False
        if self._line.is_busy:
            self._line.abandon(CANCEL_PATIENCE)
        if await self._line.left():
            return
        try:
            async with asyncio.timeout(CANCEL_PATIENCE):
                await self._call("tasks.cancel", {})
        except (TimeoutError, ChannelLost, Refused):
            self._line.abandon(0.0)

    async def _resume(self, lost: ChannelLost) -> None:
        """Come back to the session over a new line, once; `lost` when that cannot be."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RESUME_PATIENCE
        while True:
            try:
                self._line, welcome = await _hello(self._host, self._port, self.session_id, deadline)
                break
            except Refused as refused:
                # The old connection may still look alive over there.
                if "live" not in refused.message or loop.time() > deadline:
                    raise ChannelLost(f"{lost}; its session cannot be resumed: {refused.message}") from None
                await asyncio.sleep(FIRST_PAUSE)
            except (OSError, ChannelLost) as error:
                raise ChannelLost(f"{lost}; it cannot be reached again: {_cause(error)}") from None
        self._read_welcome(welcome)
        self._plan_beat()

    # --- signs of life ------------------------------------------------------------------------------------

    def _plan_beat(self) -> None:
        self._beat = asyncio.get_running_loop().call_later(HEARTBEAT_EVERY, self._begin_beat)

    def _begin_beat(self) -> None:
        if self._line.lost is not None:
            return
        if self._line.is_busy:  # the call that runs will notice
            self._plan_beat()
            return
        self._beating = asyncio.get_running_loop().create_task(self._say_hello())

    async def _say_hello(self) -> None:
        try:
            async with asyncio.timeout(HEARTBEAT_PATIENCE):
                await self._line.call("hello", {"session_id": self.session_id})
        except TimeoutError:
            self._line.lose(f"it gave no sign of life in {HEARTBEAT_PATIENCE:g} s")
        except ChannelLost:
            pass
        except Refused:
            return  # it lives, and does not want to be asked
        finally:
            self._beating = None
        self._plan_beat()

    def on_lost(self, told: Callable[[ChannelLost], None]) -> None:
        """Call this when the line breaks, at once when it is broken; not when it is closed from here."""
        self._line.on_lost(told)

    # --- the end ------------------------------------------------------------------------------------------

    async def close(self) -> None:
        self._leave()
        await self._line.close()

    def abort(self) -> None:
        self._leave()
        self._line.abort()

    def _leave(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        if self._beating is not None:
            self._beating.cancel()
        if self._forwards is not None:
            self._forwards.close()


class connect:
    """`async with connect(runtime) as client`: an open session, closed at the end without ending its task.

    Refused connections, and lines that are closed before the first answer, are tried again until `ready_timeout`
    seconds are over (`runtime.params["ready_timeout"]`, or READY_TIMEOUT). session_id: resume that session.
    ValueError for an address that is none. ChannelLost when nobody answers, Refused when the environment says no.
    """

    def __init__(self, runtime: Address, *, ready_timeout: float | None = None, session_id: str = "") -> None:
        self._runtime = runtime
        self._host, self._port = read_address(runtime.url)
        self._timeout = _read_timeout(runtime, ready_timeout)
        self._session = session_id
        self._client: Client | None = None

    async def __aenter__(self) -> Client:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        pause, why = FIRST_PAUSE, "no answer"
        while True:
            try:
                line, welcome = await _hello(self._host, self._port, self._session, deadline)
                self._client = Client(line, self._host, self._port, welcome)
                return self._client
            except TimeoutError:
                break
            except (OSError, ClosedEarly) as error:
                why = _cause(error)
            if loop.time() + pause >= deadline:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        raise ChannelLost(f"{self._runtime.url} was not ready in {self._timeout:g} s: {why}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()


class ClosedEarly(ChannelLost):
    """The line was closed before the first answer: nothing serves there yet."""


async def _hello(host: str, port: int, session: str, deadline: float) -> tuple[Line, dict[str, Any]]:
    """A new line and the answer to its hello. TimeoutError at the deadline of the loop's clock."""
    async with asyncio.timeout_at(deadline):
        line = await Line.open(host, port)
        try:
            return line, await line.call("hello", {"session_id": session} if session else {})
        except ChannelLost as lost:
            if line.closed_by_peer and not line.heard:
                raise ClosedEarly(str(lost)) from None
            raise
        except BaseException:
            line.abort()
            raise


def _read_timeout(runtime: Address, given: float | None) -> float:
    timeout: Any = runtime.params.get("ready_timeout", READY_TIMEOUT) if given is None else given
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise ValueError(f"ready_timeout {timeout!r}: expected a number of seconds above 0")
    return float(timeout)


def _cause(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error) or type(error).__name__
