"""The owner's side of a pre-forked parent: start it, have it fork a child for a run, learn how the child ended.

What is said between the two stands in `zygote`. Everything here belongs to one event loop, and nothing blocks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskloom.evals.failures import EnvironmentFailure, InfrastructureFailure
from taskloom.evals.runtimes.output import Tail, with_lines
from taskloom.providers.local import readable
from taskloom.providers.supervisor import descendants, kill_all

START_SECONDS = 120.0  # that an environment may take until it serves; loading its source included
GRACE_SECONDS = 10.0  # that its orderly end may take
HURRY_SECONDS = 1.0  # the same, of one that never served
MESSAGE = 2**17
REPORT = 2**14  # bytes of a child's report
_ZYGOTE = "taskloom.evals.runtimes.zygote"


@dataclass(frozen=True)
class Exit:
    """How a child ended. `lost`: nobody knows, since its parent was killed."""

    code: int | None = None
    signal: int | None = None
    lost: bool = False

    def __str__(self) -> str:
        if self.lost:
            return "was lost with its parent process"
        return f"was killed by signal {self.signal}" if self.signal else f"ended with exit code {self.code}"


@dataclass(eq=False)
class Child:
    """One run's process. `port`: where it serves."""

    number: int
    output: Tail
    port: int = 0
    ended: asyncio.Future[Exit] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Parent:
    """A parent process that is ready to fork. `files`: what it loaded of the source, as it was then."""

    def __init__(self, line: socket.socket, output: Tail, files: Sequence[Sequence[Any]]) -> None:
        self._line, self._output, self._files = line, output, files
        self._children: dict[int, Child] = {}
        self._count = 0
        self._lost = False
        asyncio.get_running_loop().add_reader(line.fileno(), self._hear)

    def is_fresh(self) -> bool:
        """Whether it lives, and no file that it loaded has changed."""
        return not self._lost and all(_state(path) == (changed, size) for path, changed, size in self._files)

    @asynccontextmanager
    async def child(self, name: str) -> AsyncGenerator[Child]:
        """A fork that serves the environment of that name. EnvironmentFailure when it cannot, by its own words."""
        child, report = await self._fork(name)
        try:
            await self._until_served(child, report)
            yield child
        finally:
            await self._end(child)
            child.output.close()

    def close(self) -> None:
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().remove_reader(self._line.fileno())
        self._line.close()
        for child in self._children.values():
            if not child.ended.done():
                child.ended.set_result(Exit(lost=True))

    # --- one child ------------------------------------------------------------------------------------------

    async def _fork(self, name: str) -> tuple[Child, int]:
        report, report_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            output, output_end = os.pipe2(os.O_CLOEXEC)
        except OSError:  # no descriptors are left
            os.close(report)
            os.close(report_end)
            raise
        os.set_blocking(report_end, True)
        self._count += 1
        child = Child(self._count, Tail(output))
        try:
            await self._say({"start": child.number, "name": name}, (report_end, output_end))
        except BaseException:
            os.close(report)
            child.output.close()
            raise
        finally:
            os.close(report_end)
            os.close(output_end)
        self._children[child.number] = child
        return child, report

    async def _until_served(self, child: Child, report: int) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                told = await _read_report(report)
                end = None if "port" in told else await asyncio.shield(child.ended)
        except TimeoutError:
            raise EnvironmentFailure(
                with_lines(f"it did not serve within {START_SECONDS:g} s", child.output)
            ) from None
        finally:
            os.close(report)
        if end is None:
            child.port = int(told["port"])
            return
        child.output.close()  # with what it wrote last
        if "lost" in told or end.lost:
            raise InfrastructureFailure(str(told.get("lost", f"the environment's process {end}")))
        text = str(told.get("error", f"its process {end} before it served"))
        raise EnvironmentFailure(with_lines(text, child.output))

    async def _end(self, child: Child) -> None:
        """Returns when nothing of it is left. Cancelled, the parent process goes on with it."""
        if not child.ended.done():
            with contextlib.suppress(InfrastructureFailure):
                grace = GRACE_SECONDS if child.port else HURRY_SECONDS
                await asyncio.shield(self._say({"stop": child.number, "grace": grace}))
        await asyncio.shield(child.ended)

    # --- the line -------------------------------------------------------------------------------------------

    async def _say(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        data = json.dumps(message).encode()
        loop = asyncio.get_running_loop()
        while not self._lost:
            try:
                socket.send_fds(self._line, [data], list(descriptors))
                return
            except BlockingIOError:  # hundreds of words that the parent has not heard yet
                await _writable(loop, self._line.fileno())
            except OSError as error:
                raise InfrastructureFailure(f"the environment's parent process is gone: {error}") from None
        raise InfrastructureFailure(with_lines("the environment's parent process is gone", self._output))

    def _hear(self) -> None:
        try:
            data = self._line.recv(MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        told = json.loads(data)
        child = self._children.pop(told.get("ended", 0), None)
        if child is not None and not child.ended.done():
            child.ended.set_result(Exit(told.get("code"), told.get("signal")))


@asynccontextmanager
async def start_parent(path: Path, *, preload: bool) -> AsyncGenerator[tuple[Parent | None, str]]:
    """A parent process for a source; None and why when it has to be loaded in every child instead.

    EnvironmentFailure when loading failed, with the source's own words.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output, output_end = os.pipe2(os.O_CLOEXEC)
    tail = Tail(output)
    try:
        process = _spawn(path, preload, theirs, output_end)
    except OSError as error:
        ours.close()
        tail.close()
        raise InfrastructureFailure(f"{sys.executable} cannot be run in {path.parent}: {error}") from None
    finally:
        theirs.close()
        os.close(output_end)
    ours.setblocking(False)
    parent: Parent | None = None
    try:
        told = await _first_word(ours, process, tail)
        if told["busy"]:
            yield None, str(told["busy"])
        else:
            parent = Parent(ours, tail, told["ready"])
            yield parent, ""
    finally:
        if parent is not None:
            parent.close()
        ours.close()
        await _until_gone(process)
        tail.close()


def _spawn(path: Path, preload: bool, line: socket.socket, output: int) -> subprocess.Popen[bytes]:
    words = [str(line.fileno()), str(path), "preload" if preload else ""]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", _ZYGOTE, *words],  # what the source's folder holds is not for its own imports
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=path if path.is_dir() else path.parent,
        pass_fds=[line.fileno()],
        start_new_session=True,  # a Ctrl-C at the terminal is for this process, which then ends that one
    )


async def _first_word(line: socket.socket, process: subprocess.Popen[bytes], tail: Tail) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(START_SECONDS):
            data = await loop.sock_recv(line, MESSAGE)
    except TimeoutError:
        _kill_tree(process)
        raise EnvironmentFailure(with_lines(f"its source did not load within {START_SECONDS:g} s", tail)) from None
    except OSError:
        data = b""
    if not data:
        await _until_gone(process)
        tail.close()
        end = Exit(process.returncode) if process.returncode >= 0 else Exit(signal=-process.returncode)
        raise EnvironmentFailure(with_lines(f"the process that loads its source {end}", tail))
    told: dict[str, Any] = json.loads(data)
    if "failed" in told:
        raise EnvironmentFailure(str(told["failed"]))
    return told


async def _until_gone(process: subprocess.Popen[bytes]) -> None:
    """It ends by itself when nobody holds its line; what it is given here bounds that."""
    if process.returncode is not None:
        return
    descriptor = os.pidfd_open(process.pid)
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await readable(descriptor)
    except TimeoutError:
        _kill_tree(process)
    finally:
        os.close(descriptor)
        process.wait()


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    kill_all([*descendants(process.pid), process.pid], signal.SIGKILL)


async def _read_report(report: int) -> dict[str, Any]:
    """The one line; empty when the child ended without it."""
    data = b""
    while not data.endswith(b"\n"):
        await readable(report)
        piece = os.read(report, REPORT)
        data += piece
        if not piece or len(data) > REPORT:
            return {}
    return json.loads(data)


async def _writable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - several a run
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
