"""What a task wants of a machine, what a machine has, and whether the one fits the other.

Pure arithmetic over what workers tell and what their open leases reserve. A task is packed on one host and its GPUs
are its alone. Who says nothing about GPUs gets its slot's share of those that are free and waits for none. What a
worker does not tell (0 CPUs, 0 bytes) it does not have.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import msgspec

from taskloom.domain.execution import Execution
from taskloom.domain.gpus import is_type
from taskloom.domain.queue import Machine

Kind = Literal["nodes", "containers", "gpus", "memory", "cpus", "disk", "slots"]


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a task wants of the place it runs at; see `Resources`. container: somebody who runs its image."""

    cpus: float = 0.0
    memory: int = 0
    disk: int = 0
    gpus: int | None = None
    gpu_type: str = ""
    nodes: int = 1
    container: bool = False


class Gpu(msgspec.Struct, frozen=True):
    """`index`: its place in `Machine.gpus`. memory in bytes, 0 when it is not known."""

    index: int
    name: str
    memory: int = 0


@dataclass(frozen=True)
class Place:
    """What is there: of a whole worker, or what its leases leave of it."""

    slots: int
    cpus: float
    memory: int
    disk: int
    gpus: tuple[Gpu, ...]
    containers: bool


@dataclass(frozen=True)
class Lack:
    """What a place has too little of."""

    kind: Kind
    wanted: float
    offered: float


def wanted_by(execution: Execution) -> Wanted:
    asked = execution.resources
    gpus = 1 if asked.gpus is None and asked.gpu_type else asked.gpus
    return Wanted(
        cpus=asked.cpus or 0.0,
        memory=asked.memory or 0,
        disk=asked.disk or 0,
        gpus=gpus,
        gpu_type=asked.gpu_type.lower() if gpus else "",
        nodes=asked.nodes,
        container=bool(execution.image),
    )


def shape_of(wanted: Wanted) -> str:
    """One text for all tasks that want the same; empty for those that want nothing in particular."""
    return "" if wanted == _ANYTHING else _encode(wanted).decode()


@lru_cache(maxsize=4096)
def read_shape(shape: str) -> Wanted:
    return _decode(shape) if shape else _ANYTHING


def whole_place(machine: Machine, slots: int) -> Place:
    memory = (*machine.gpu_memory, *([0] * len(machine.gpus)))
    return Place(
        slots=slots,
        cpus=float(machine.cpus),
        memory=machine.memory,
        disk=machine.disk_free,
        gpus=tuple(Gpu(index, name, memory[index]) for index, name in enumerate(machine.gpus)),
        containers=bool(machine.containers),
    )


def without(place: Place, wanted: Wanted, gpus: Collection[int]) -> Place:
    """What is left when a task with these GPUs runs there."""
    return replace(
        place,
        slots=place.slots - 1,
        cpus=place.cpus - wanted.cpus,
        memory=place.memory - wanted.memory,
        disk=place.disk - wanted.disk,
        gpus=tuple(gpu for gpu in place.gpus if gpu.index not in gpus) if gpus else place.gpus,
    )


def lacks(wanted: Wanted, place: Place) -> tuple[Lack, ...]:
    """What keeps the task from running there; nothing when it fits."""
    if wanted == _ANYTHING:
        return () if place.slots >= 1 else (Lack("slots", 1, place.slots),)
    told: tuple[tuple[Kind, float, float], ...] = (
        ("nodes", wanted.nodes, 1),
        ("containers", int(wanted.container), int(place.containers)),
        ("gpus", wanted.gpus or 0, len(matching(wanted, place.gpus)) if wanted.gpus else 0),
        ("memory", wanted.memory, place.memory),
        ("cpus", wanted.cpus, place.cpus),
        ("disk", wanted.disk, place.disk),
        ("slots", 1, place.slots),
    )
    return tuple(Lack(*row) for row in told if row[1] > row[2] and row[1] > 0)


def fits(wanted: Wanted, place: Place) -> bool:
    return not lacks(wanted, place)


def matching(wanted: Wanted, gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Those of the type that is wanted."""
    if not wanted.gpu_type:
        return tuple(gpus)
    return tuple(gpu for gpu in gpus if is_type(wanted.gpu_type, gpu.name, gpu.memory))


def choose_gpus(wanted: Wanted, free: Place, whole: Place) -> tuple[int, ...] | None:
    """Which GPUs a task that fits gets; None where the machine has none and nobody asked for any."""
    if wanted.gpus is not None:
        return tuple(gpu.index for gpu in matching(wanted, free.gpus)[: wanted.gpus])
    if not whole.gpus:
        return None
    share = max(len(whole.gpus) // max(whole.slots, 1), 1)
    return tuple(gpu.index for gpu in free.gpus[:share])


_ANYTHING = Wanted()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Wanted).decode
