"""What this machine has and how busy it is, as the server shows it; and which of its GPUs a worker may use."""

from __future__ import annotations

import importlib
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from taskloom.domain.queue import Machine

ENV_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU: `index` as CUDA counts when nothing is hidden, bytes of memory."""

    index: int
    uuid: str
    name: str
    memory: int


def find_gpus() -> tuple[Gpu, ...]:
    """All of this machine, in order; none when there is no driver."""
    pynvml: Any = importlib.import_module("pynvml")  # it has no types
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _gpu(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError:  # some share their memory with the machine
        memory = 0
    return Gpu(index, _text(pynvml.nvmlDeviceGetUUID(handle)), _text(pynvml.nvmlDeviceGetName(handle)), memory)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def visible_gpus(environ: Mapping[str, str], gpus: Sequence[Gpu]) -> list[tuple[str, Gpu]]:
    """The GPUs that this worker may use, each under the name by which it was given: a number, a UUID or its beginning.

    As CUDA does it, the first name that is no GPU's ends the list.
    """
    chosen = environ.get(ENV_GPUS)
    if chosen is None:
        return [(str(gpu.index), gpu) for gpu in gpus]
    found: list[tuple[str, Gpu]] = []
    for name in (part.strip() for part in chosen.split(",")):
        gpu = next((gpu for gpu in gpus if name and (name == str(gpu.index) or _is_uuid_of(name, gpu))), None)
        if gpu is None:
            break
        found.append((name, gpu))
    return found


def _is_uuid_of(name: str, gpu: Gpu) -> bool:
    return name.startswith("GPU-") and gpu.uuid.startswith(name)


def look(data: Path, gpus: Sequence[Gpu], containers: str = "") -> Machine:
    memory = psutil.virtual_memory()
    return Machine(
        host=socket.gethostname(),
        os=platform.platform(terse=True),
        python=platform.python_version(),
        cpus=os.cpu_count() or 1,
        memory=memory.total,
        disk_free=psutil.disk_usage(str(data)).free,
        gpus=tuple(gpu.name for gpu in gpus),
        gpu_memory=tuple(gpu.memory for gpu in gpus),
        containers=containers,
        cpu_use=psutil.cpu_percent(),
        memory_use=memory.percent,
    )
