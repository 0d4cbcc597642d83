"""The daemon: the one place where a worker is built, and the order of its start and stop.

Start: take the name (one process each), register, go on with what an earlier process left (see `adoption`), then let
the slots ask for tasks. Stop: claim nothing more, give running tasks `drain_timeout` seconds to end by themselves.
What still runs then is stopped and given back when the worker is stopped for good (Ctrl-C, or `leave` 0); after a
SIGTERM it goes on for up to `leave` seconds, and the next process of this worker adopts it. A second signal does not
wait. What cannot be told because the server is away stays on the disk for the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from taskloom.domain.errors import BadInput, Conflict, TaskloomError
from taskloom.domain.queue import Machine
from taskloom.domain.version import VERSION
from taskloom.providers.container import ContainerProvider, Engine, find_engine
from taskloom.providers.container_arguments import Rules
from taskloom.providers.contract import Provider
from taskloom.providers.local import LocalProvider
from taskloom.wire.client import Address
from taskloom.wire.messages import WorkerRegister
from taskloom.wire.operations import REGISTER_WORKER, UNREGISTER_WORKER
from taskloom.wire.send import AsyncClient
from taskloom.wire.worker_protocol import (
    DEFAULT_LEASE,
    ENV_API_KEY,
    ENV_DATA,
    ENV_JOURNAL,
    ENV_LEASE,
    ENV_TASK_FILE,
    ENV_TASK_ID,
    ENV_URL,
    MAX_LEASE,
    MIN_LEASE,
)
from taskloom.worker import machine
from taskloom.worker.adoption import recover
from taskloom.worker.files import Files
from taskloom.worker.git import Repositories
from taskloom.worker.packages import Environment, Environments, Limits
from taskloom.worker.record import AttemptFolder
from taskloom.worker.slot import Asking, Slots
from taskloom.worker.tools import NoContainers, Tools
from taskloom.worker.workspace import PackagesMode, Workspaces

log = logging.getLogger("taskloom.worker")
ABORT_GRACE = 2.0  # with a renewal every 2 seconds an abort is obeyed within 5
STOP_CALL_SECONDS = 5.0
AGAIN_FIRST, AGAIN_LAST = 0.5, 15.0
MAX_SLOTS = 1024
DEFAULT_LEAVE = 600.0
ContainersMode = Literal["auto", "docker", "podman", "none"]


@dataclass(frozen=True)
class WorkerSettings:
    """data      folder of this machine; the worker's own files are in `worker/` below it
    lease         seconds that the server waits for a sign of life before it gives the task to another worker
    grace         seconds between SIGTERM and SIGKILL when a task is aborted
    drain_timeout seconds that running tasks have to end by themselves when the worker is told to stop
    leave         seconds that those still running after that go on without a worker, when it was SIGTERM
    services      the slots are for many light tasks: no GPUs are offered
    containers    the command that runs containers; `auto`: podman or docker, whichever answers
    rules         what tasks in containers may ask for and see
    packages      `build` an environment for each task's packages, or `reuse` the worker's own
    environments  how many built environments are kept
    """

    data: Path
    address: Address
    queues: tuple[str, ...] = ("default",)
    slots: int = 1
    lease: float = DEFAULT_LEASE
    name: str = ""
    grace: float = ABORT_GRACE
    drain_timeout: float = 0.0
    leave: float = DEFAULT_LEAVE
    services: bool = False
    containers: ContainersMode = "auto"
    rules: Rules = field(default_factory=Rules)
    packages: PackagesMode = "build"
    environments: int = 20
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    def check(self) -> None:
        """Raises BadInput that names the first thing that could never work."""
        if not self.queues or not all(self.queues):
            raise BadInput("queues: expected at least one name")
        if not 1 <= self.slots <= MAX_SLOTS:
            raise BadInput(f"slots {self.slots}: expected 1 to {MAX_SLOTS}")
        if not MIN_LEASE <= self.lease <= MAX_LEASE:
            raise BadInput(f"lease {self.lease:g}: expected {MIN_LEASE:g} to {MAX_LEASE:g} seconds")
        if self.grace < 0 or self.drain_timeout < 0:
            raise BadInput("grace and drain timeout: expected seconds, 0 or more")
        if not 0 <= self.leave <= MAX_LEASE:
            raise BadInput(f"leave {self.leave:g}: expected 0 to {MAX_LEASE:g} seconds")
        if self.name and (self.name in {".", ".."} or not _is_plain(self.name)):
            raise BadInput(f"name {self.name[:80]!r}: expected 1 to 64 letters, digits, dots, dashes, underscores")


class Daemon:
    """One worker. `run` returns the exit code."""

    def __init__(self, settings: WorkerSettings, ready: Callable[[str], None]) -> None:
        settings.check()
        self._settings, self._ready = settings, ready
        self._root = settings.data / "worker"
        self.name, self._lock = take_name(self._root, settings.name)
        self._folder = self._root / self.name
        self._id = _own_id(self._folder / "id")
        self._draining, self._signals = asyncio.Event(), 0
        self._stopping, self._leaving = asyncio.Event(), asyncio.Event()
        self._code = 0
        self._stay = False  # what runs is to go on when the worker is gone
        self._gpus = [] if settings.services else machine.visible_gpus(settings.environ, machine.find_gpus())
        wanted = settings.containers
        self._engine = find_engine(wanted, settings.environ) if wanted != "none" else None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked, number)
        client = AsyncClient(self._settings.address)
        try:
            await self._serve(client)
        finally:
            await client.close()
            os.close(self._lock)
        return self._code

    def _asked(self, number: int) -> None:
        self._signals += 1
        self._code = 130 if number == signal.SIGINT else 0
        self._stay = number == signal.SIGTERM and self._settings.leave > 0
        self._draining.set()
        if self._signals > 1 or self._settings.drain_timeout == 0:
            self._go()

    def _go(self) -> None:
        """Nothing is waited for any more."""
        (self._leaving if self._stay else self._stopping).set()

    async def _serve(self, client: AsyncClient) -> None:
        tools = self._tools(client)
        left = AttemptFolder.left(self._folder / "attempts")
        slots = Slots(tools, self._asking(client), self._draining, self._settings.slots)
        for folder in left:  # before the server answers: what runs does not wait for long
            slots.occupy(recover(tools, folder), folder.record.task)
        if not await self._register_or_stop(client):
            await self._drain(slots)
            return
        asking = asyncio.create_task(slots.run())
        queues, number = ", ".join(self._settings.queues), self._settings.slots
        count = "1 slot" if number == 1 else f"{number} slots"
        self._ready(f"Worker {self.name} serves {queues} with {count} at {self._settings.address.url}")
        await self._draining.wait()
        log.info("stopping: no new tasks")
        await asking
        await self._drain(slots)
        if AttemptFolder.left(self._folder / "attempts"):
            return  # the server keeps knowing this worker: its next process comes for what is left
        with contextlib.suppress(TaskloomError, TimeoutError):
            async with asyncio.timeout(STOP_CALL_SECONDS):
                await client.call(UNREGISTER_WORKER, worker=self._id)

    async def _drain(self, slots: Slots) -> None:
        """Waits for running tasks as long as the settings and the next signal allow."""
        events = (self._stopping, self._leaving)
        going = [asyncio.create_task(event.wait()) for event in events]
        ends = asyncio.create_task(slots.ended())
        if slots.busy and not any(event.is_set() for event in events):
            log.info("waiting up to %g s for running tasks", self._settings.drain_timeout)
        await asyncio.wait(
            {*going, ends}, timeout=self._settings.drain_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        self._go()
        await ends
        for event in going:
            event.cancel()

    async def _register_or_stop(self, client: AsyncClient) -> bool:
        """Waits for a server that is away; False when the worker was told to stop meanwhile."""
        pause = AGAIN_FIRST
        while not self._draining.is_set():
            try:
                await self._register(client)
            except BadInput:
                raise
            except TaskloomError as error:
                if pause == AGAIN_FIRST:
                    log.warning("not registered yet: %s", error.message)
            else:
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), pause)
            pause = min(pause * 2, AGAIN_LAST)
        return False

    async def _register(self, client: AsyncClient) -> None:
        settings = self._settings
        body = WorkerRegister(
            id=self._id,
            name=self.name,
            queues=settings.queues,
            slots=settings.slots,
            machine=self._look(),
            version=VERSION,
            create_queues=True,
        )
        await client.call(REGISTER_WORKER, body)

    def _asking(self, client: AsyncClient) -> Asking:
        async def register() -> None:
            await self._register(client)

        return Asking(self._id, self._settings.queues, self._settings.lease, register)

    def _look(self) -> Machine:
        containers = self._engine.name if self._engine is not None else ""
        return machine.look(self._settings.data, [gpu for _, gpu in self._gpus], containers)

    def _containers(self, gpus: tuple[str, ...]) -> Provider:
        settings, engine = self._settings, self._engine
        if isinstance(engine, Engine):
            return ContainerProvider(engine, settings.environ, settings.rules, gpus)
        if settings.containers == "none":
            return NoContainers("this worker was started with --containers none")
        names = "neither podman nor docker" if settings.containers == "auto" else f"no {settings.containers}"
        return NoContainers(f"this worker has no containers: {names} answers here")

    def _tools(self, client: AsyncClient) -> Tools:
        settings, cache = self._settings, self._root / "cache"
        given = {
            ENV_URL: settings.address.url,
            ENV_API_KEY: settings.address.api_key,
            ENV_DATA: str(settings.data),
        }
        own = {ENV_LEASE, ENV_TASK_ID, ENV_TASK_FILE, ENV_JOURNAL}
        tools_environ = {k: v for k, v in settings.environ.items() if not k.startswith("TASKLOOM_")}
        gpus = tuple(name for name, _ in self._gpus)
        return Tools(
            client=client,
            provider=LocalProvider(gpus=len(gpus)),
            containers=self._containers(gpus),
            workspaces=Workspaces(
                Repositories(cache / "git", tools_environ),
                Environments(cache / "environments", tools_environ, Limits(count=settings.environments)),
                Files(cache / "files", client),
                cache,
                settings.environ,
                settings.packages,
                Environment(Path(sys.executable), None),
            ),
            data=settings.data,
            folder=self._folder,
            ship_environ={**{k: v for k, v in settings.environ.items() if k not in own}, **given},
            look=self._look,
            grace=settings.grace,
            leave=settings.leave,
            gpus=gpus,
            stopping=self._stopping,
            leaving=self._leaving,
        )


def take_name(root: Path, wanted: str) -> tuple[str, int]:
    """The worker's name and the lock that keeps it; without a wish the machine's name, numbered when taken.

    Raises Conflict when a worker of the wanted name runs already.
    """
    base = wanted or "".join(c if _is_plain(c) else "-" for c in socket.gethostname())[:48] or "worker"
    for number in range(1, MAX_SLOTS):
        name = base if number == 1 else f"{base}-{number}"
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            if wanted:
                raise Conflict(f"a worker named {wanted!r} runs already on {root}") from None
            continue
        return name, descriptor
    raise Conflict(f"too many workers run on {root}")


def _own_id(path: Path) -> str:
    """The worker's id, the same after every restart."""
    with contextlib.suppress(OSError):
        if (known := path.read_text(encoding="ascii").strip()) and _is_plain(known):
            return known
    fresh = uuid.uuid4().hex
    path.write_text(fresh, encoding="ascii")
    return fresh


def _is_plain(text: str) -> bool:
    return 1 <= len(text) <= 64 and text.isascii() and all(c.isalnum() or c in "._-" for c in text)
