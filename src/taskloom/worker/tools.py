"""What every attempt of a worker shares, built once in `daemon`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taskloom.domain.queue import Machine
from taskloom.providers.contract import NoPlace, Place, Program, Provider, Wanted
from taskloom.wire.send import AsyncClient
from taskloom.worker.workspace import Workspaces


@dataclass(frozen=True)
class Tools:
    """stopping  the worker has to go now: what runs is stopped and given back
    leaving      the worker goes and means to be back: what runs goes on for `leave` seconds
    gpus         the worker's GPUs by the names that CUDA takes, in the order in which the server knows them
    """

    client: AsyncClient
    provider: Provider
    containers: Provider
    workspaces: Workspaces
    data: Path
    folder: Path  # the worker's own
    ship_environ: Mapping[str, str]
    look: Callable[[], Machine]
    grace: float
    leave: float
    gpus: tuple[str, ...]
    stopping: asyncio.Event
    leaving: asyncio.Event

    def provider_of(self, image: str) -> Provider:
        return self.containers if image else self.provider


class NoContainers:
    """Stands where containers are not to be had, and says so."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def acquire(self, wanted: Wanted) -> Place:
        raise NoPlace(f"the task asks for the image {wanted.image}; {self._why}")

    async def adopt(self, handle: str) -> tuple[Place, Program]:
        raise NoPlace(f"the task runs in a container; {self._why}")
