"""What this machine has and how busy it is, as the server shows it; and which GPUs a slot may use."""

from __future__ import annotations

import importlib
import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from taskloom.domain.queue import Machine

ENV_GPUS = "CUDA_VISIBLE_DEVICES"


def gpu_names() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs in order; none when there is no driver."""
    pynvml: Any = importlib.import_module("pynvml")  # it has no types
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        count = pynvml.nvmlDeviceGetCount()
        names = [pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(n)) for n in range(count)]
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def look(data: Path, gpus: tuple[str, ...]) -> Machine:
    memory = psutil.virtual_memory()
    return Machine(
        host=socket.gethostname(),
        os=platform.platform(terse=True),
        python=platform.python_version(),
        cpus=os.cpu_count() or 1,
        memory=memory.total,
        disk_free=psutil.disk_usage(str(data)).free,
        gpus=gpus,
        cpu_use=psutil.cpu_percent(),
        memory_use=memory.percent,
    )


def visible_gpus(environ: Mapping[str, str], count: int) -> list[str]:
    """The GPUs that this worker may use, by the names that CUDA takes."""
    chosen = environ.get(ENV_GPUS)
    if chosen is None:
        return [str(number) for number in range(count)]
    return [name.strip() for name in chosen.split(",") if name.strip() and name.strip() != "-1"]


def share(gpus: list[str], slot: int, slots: int) -> list[str]:
    """The GPUs of one slot: an even part of them, or one that slots have to share when there are too few."""
    if slots == 1 or not gpus:
        return gpus
    if len(gpus) < slots:
        return [gpus[slot % len(gpus)]]
    each, more = divmod(len(gpus), slots)
    first = slot * each + min(slot, more)
    return gpus[first : first + each + (1 if slot < more else 0)]
