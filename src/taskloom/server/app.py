"""The one place where a server is built: databases, services, routes, and the order of start and stop.

A `House` holds the data folder's lock for as long as it is open, so a folder has one server. What a feature does
stands in its own room; here it only gets what it needs. Sockets and signals are not known here: see serve.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import AsyncIterator
from functools import cache
from typing import Protocol

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from taskloom.domain.errors import Conflict, ServerFault, Unavailable
from taskloom.domain.version import VERSION
from taskloom.server.accounts.routes import handlers as account_handlers
from taskloom.server.accounts.service import AccountService
from taskloom.server.artifacts.routes import handlers as artifact_handlers
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.binding import Binding
from taskloom.server.blobs import FileBlobs
from taskloom.server.call import Call, Caller, Handler, Handlers
from taskloom.server.compat.clearml.call import Rooms
from taskloom.server.compat.clearml.door import Door
from taskloom.server.compat.clearml.tokens import Tokens
from taskloom.server.compat.clearml.unserved import Unserved
from taskloom.server.compat.hud.call import Rooms as HudRooms
from taskloom.server.compat.hud.door import Door as HudDoor
from taskloom.server.compat.hud.tunnel import HudTunnels
from taskloom.server.db import Database
from taskloom.server.evals.routes import handlers as eval_handlers
from taskloom.server.evals.service import EvalService
from taskloom.server.events import EventBus, Subscription
from taskloom.server.lineage.routes import handlers as lineage_handlers
from taskloom.server.lineage.service import LineageService
from taskloom.server.metrics.routes import handlers as metrics_handlers
from taskloom.server.metrics.service import MetricsService
from taskloom.server.migrations import prepare
from taskloom.server.projects.routes import handlers as project_handlers
from taskloom.server.projects.service import ProjectService
from taskloom.server.queues.routes import handlers as queue_handlers
from taskloom.server.queues.service import QueueService
from taskloom.server.secrets.routes import handlers as secret_handlers
from taskloom.server.secrets.service import SecretService
from taskloom.server.secrets.vault import KEYS_FILE, Vault
from taskloom.server.settings import Clock, Settings
from taskloom.server.tasks.routes import handlers as task_handlers
from taskloom.server.tasks.service import TaskService
from taskloom.server.tunnels.door import TunnelDoor
from taskloom.server.tunnels.routes import handlers as tunnel_handlers
from taskloom.server.tunnels.service import TunnelService
from taskloom.wire.client import JSON
from taskloom.wire.messages import EventsQuery, Health, ServerInfo, UnservedList
from taskloom.wire.operations import OPERATIONS

KEEP_ALIVE = 15.0  # seconds between two comments on a quiet event stream
TOKENS_FILE = "token.secret"  # signs the tokens of ClearML's clients
LOOK_AT_KEY = 1.0  # seconds after which a stream of a revoked key ends


class Service(Protocol):
    """What a service has when it works by itself, too (a sweeper, a flusher)."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class House:
    """A server without a socket: an ASGI application over one data folder."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.bus = EventBus()
        with contextlib.ExitStack() as undo:  # a start that fails leaves nothing open
            lock = _lock_folder(settings)
            undo.callback(os.close, lock)
            self.main, self.telemetry = (_open_database(settings, name, undo) for name in ("main", "telemetry"))
            self.accounts = AccountService(self.main, clock, settings)
            self._unserved = Unserved(self.main, clock)
            self._services: list[Service] = [self.accounts]
            handlers = self._build()
            missing = sorted(OPERATIONS.keys() - handlers.keys())
            if missing:
                raise ServerFault(f"operations without a handler: {', '.join(missing)}")
            guests = [self.clearml, self.hud]
            self._binding = Binding(OPERATIONS, handlers, self.accounts.authenticate, settings, guests)
            self._closing = undo.pop_all()

    def _build(self) -> dict[str, Handler]:
        """Every feature with what it needs, floor by floor; all handlers by operation."""
        settings, clock, bus = self.settings, self.clock, self.bus
        projects = ProjectService(self.main, bus, clock, settings)
        metrics = MetricsService(self.main, self.telemetry, bus, clock, settings)
        artifacts = ArtifactService(self.main, FileBlobs(settings.folder / "blobs"), bus, clock, settings)
        evals = EvalService(self.main, self.telemetry, bus, clock, settings)
        tasks = TaskService(self.main, bus, clock, settings, projects, metrics, artifacts, evals)
        secrets = SecretService(self.main, clock, projects, Vault(settings.folder / KEYS_FILE))
        queues = QueueService(self.main, bus, clock, settings, self.accounts, tasks, secrets)
        self._services += [artifacts, evals, tasks, queues]
        tunnels = TunnelService(self.main, bus, clock)
        self._tunnel_door = HudTunnels(TunnelDoor(tunnels, self.accounts.still_valid), tunnels)
        rooms = Rooms(self.accounts, projects, metrics, artifacts, tasks, queues, settings, clock)
        tokens = Tokens(settings.folder / TOKENS_FILE, clock)
        self.clearml = Door(rooms, tokens, self._unserved)
        self.hud = HudDoor(HudRooms(self.accounts, projects, tasks, evals, queues, tunnels, settings, clock))
        self._services.append(self.hud.closer)
        return _joined(
            self._own_handlers(),
            account_handlers(self.accounts),
            project_handlers(projects),
            metrics_handlers(metrics),
            artifact_handlers(artifacts),
            task_handlers(tasks),
            lineage_handlers(LineageService(self.main)),
            eval_handlers(evals),
            queue_handlers(queues),
            secret_handlers(secrets),
            tunnel_handlers(tunnels),
        )

    def admin_key(self) -> str:
        """The key that programs on this machine find in the connection file."""
        return self.accounts.admin_key(self.settings.data)

    async def start(self) -> None:
        for service in self._services:
            await service.start()

    async def stop(self) -> None:
        """Everything handed in is finished; nothing that was acknowledged is in memory only."""
        for service in reversed(self._services):
            await service.stop()
        self.close()

    def close(self) -> None:
        self.bus.close()
        self._closing.close()  # the databases in reverse order, then the lock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._binding(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._binding.socket(scope, receive, send, self._tunnel_door)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # --- the server's own operations --------------------------------------------------------------------

    def _own_handlers(self) -> Handlers:
        async def health(_: Call) -> Health:
            return Health(status="ok", version=VERSION)

        async def openapi(_: Call) -> Response:
            return Response(_document(), media_type=JSON)

        async def server_info(call: Call) -> ServerInfo:
            return ServerInfo(
                version=VERSION,
                time=self.clock(),
                database=self.settings.database_kind,
                role=call.caller.role,
                user=call.caller.user,
                limits=self.settings.limits(),
            )

        async def events(call: Call) -> Response:
            query: EventsQuery = call.query
            live = self.bus.subscribe(query.task, query.project)
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            return StreamingResponse(
                self._stream(live, call.caller), headers=headers, media_type="text/event-stream"
            )

        async def list_unserved(_: Call) -> UnservedList:
            return UnservedList(calls=list(await self._unserved.list()))

        return {
            "health": health,
            "openapi": openapi,
            "server_info": server_info,
            "list_unserved": list_unserved,
            "events": events,
        }

    async def _stream(self, live: Subscription, caller: Caller) -> AsyncIterator[bytes]:
        """Events as they come; a comment now and then, so that both sides notice a dead connection."""
        spoke = looked = time.monotonic()
        async with live:
            yield b": live\n\n"
            while True:
                try:
                    event = await live.next(LOOK_AT_KEY)
                except Unavailable:  # the server stops
                    return
                now = time.monotonic()
                if now - looked >= LOOK_AT_KEY:
                    looked = now
                    if not await self.accounts.still_valid(caller):
                        return
                if event is not None:
                    spoke = now
                    yield b"data: " + _encode_event(event) + b"\n\n"
                elif now - spoke >= KEEP_ALIVE:
                    spoke = now
                    yield b": still here\n\n"


_encode_event = msgspec.json.Encoder().encode


@cache
def _document() -> bytes:
    """Made when first asked for: a start does not wait for it."""
    from taskloom.server.openapi import describe

    return msgspec.json.encode(describe(OPERATIONS, VERSION))


def _joined(*parts: Handlers) -> dict[str, Handler]:
    """One table of handlers; two for one operation is a mistake of ours."""
    whole: dict[str, Handler] = {}
    for part in parts:
        twice = whole.keys() & part.keys()
        if twice:
            raise ServerFault(f"operations with two handlers: {', '.join(sorted(twice))}")
        whole.update(part)
    return whole


def _open_database(settings: Settings, name: str, undo: contextlib.ExitStack) -> Database:
    """The schema is brought up first, while nobody else has the file open."""
    url = settings.database(name)
    prepare(url, name)
    database = Database(url)
    undo.callback(database.close)
    return database


def _lock_folder(settings: Settings) -> int:
    """The lock of the data folder, held by the open descriptor; the kernel frees it however we end."""
    folder = settings.folder
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in (settings.data, folder):
        path.chmod(0o700)
    descriptor = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise Conflict(
            f"another server works on {settings.data} ({holder}); stop it, or choose another folder"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
    return descriptor
