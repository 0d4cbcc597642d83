"""How busy the machine is while the script runs: one light thread that looks every half minute or so.

Series of `MACHINE_TITLE`: `cpu_percent` (all cores together, 0 to 100), `process_cpu_percent` (this process
and its children, 100 is one core), `memory_used_gb`, `memory_percent`, `process_memory_gb` (resident, with
children), `disk_free_gb` (of the working folder), `disk_read_mb_s`, `disk_write_mb_s`, `network_sent_mb_s`,
`network_received_mb_s`. Series of `GPU_TITLE`, each per GPU number N: `gpu_N_percent`, `gpu_N_memory_gb`,
`gpu_N_memory_percent`, `gpu_N_temperature_c`, `gpu_N_power_w`. GB is 2**30 bytes, MB 2**20. The iteration of
a point is the number of whole seconds since `start`. A number that the machine does not tell has no point.

After a fork the child has no such thread, and `stop` in it does nothing.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taskloom.domain.metrics import GPU_TITLE, MACHINE_TITLE

Report = Callable[[str, str, float, int], None]

FIRST_AFTER = 2.0  # seconds until the first points, so that a short run has some
_GB, _MB = float(1 << 30), float(1 << 20)
_DRIVER = ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia")
_log = logging.getLogger("taskloom")


class ResourceSampler:
    """Reports from `start` to `stop`, every `interval` seconds; `report(title, series, value, iteration)`."""

    def __init__(self, report: Report, interval: float = 30.0) -> None:
        self._report = report
        self._interval = interval
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def start(self) -> None:
        """Everything that costs time happens in the thread."""
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="taskloom-resources", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End it; a run too short for a sample gets one now. Waits at most `timeout` seconds."""
        if self._thread is None or self._pid != os.getpid():
            return
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._thread = None

    def _run(self) -> None:
        try:
            self._sample_until_ended()
        except Exception:  # the tracker's failure is never the script's
            _log.exception("taskloom: machine metrics stopped")

    def _sample_until_ended(self) -> None:
        began = time.monotonic()
        meter = Meter()
        wait = min(FIRST_AFTER, self._interval)
        taken = False
        while True:
            ended = self._ended.wait(wait)
            if ended and taken:
                return
            iteration = int(time.monotonic() - began)
            for title, series, value in meter.read():
                self._report(title, series, value, iteration)
            taken = True
            if ended:
                return
            wait = self._interval - (wait if wait < self._interval else 0.0)


class Meter:
    """Reads the machine; rates are since the reading before, or since it was made."""

    def __init__(self) -> None:
        self._psutil: Any = importlib.import_module("psutil")
        self._own = self._psutil.Process()
        self._time = time.monotonic()
        self._busy: dict[tuple[int, float], float] = {}
        self._psutil.cpu_percent(None)
        self._process_seconds()
        self._counters = self._count()
        self._gpus = _open_gpus()

    def read(self) -> Iterator[tuple[str, str, float]]:
        """Title, series and value of everything that can be read now."""
        now = time.monotonic()
        elapsed = max(now - self._time, 1e-3)
        self._time = now
        for series, value in (*self._machine(elapsed), *self._rates(elapsed)):
            yield MACHINE_TITLE, series, value
        for series, value in _read_gpus(self._gpus):
            yield GPU_TITLE, series, value

    def _machine(self, elapsed: float) -> Iterator[tuple[str, float]]:
        yield "cpu_percent", self._psutil.cpu_percent(None)
        seconds, resident = self._process_seconds()
        yield "process_cpu_percent", 100.0 * seconds / elapsed
        memory = self._psutil.virtual_memory()
        yield "memory_used_gb", memory.used / _GB
        yield "memory_percent", memory.percent
        yield "process_memory_gb", resident / _GB
        try:
            yield "disk_free_gb", self._psutil.disk_usage(os.getcwd()).free / _GB  # noqa: PTH109
        except OSError:
            pass  # the folder is gone

    def _rates(self, elapsed: float) -> Iterator[tuple[str, float]]:
        before, self._counters = self._counters, self._count()
        for series, count in self._counters.items():
            if series in before:
                yield series, max(count - before[series], 0) / _MB / elapsed

    def _count(self) -> dict[str, int]:
        """Bytes since the machine started; absent where the system does not tell."""
        found: dict[str, int] = {}
        try:
            disk = self._psutil.disk_io_counters()
            if disk is not None:
                found |= {"disk_read_mb_s": disk.read_bytes, "disk_write_mb_s": disk.write_bytes}
            network = self._psutil.net_io_counters()
            if network is not None:
                found |= {
                    "network_sent_mb_s": network.bytes_sent,
                    "network_received_mb_s": network.bytes_recv,
                }
        except (OSError, RuntimeError, NotImplementedError):
            pass
        return found

    def _process_seconds(self) -> tuple[float, float]:
        """CPU seconds that this process and its children used since the last call, and their resident bytes."""
        used: dict[tuple[int, float], float] = {}
        resident = 0
        for process in self._tree():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    used[process.pid, process.create_time()] = times.user + times.system
                    resident += process.memory_info().rss
            except self._psutil.Error:
                continue  # it ended meanwhile
        seconds = sum(max(total - self._busy.get(key, 0.0), 0.0) for key, total in used.items())
        self._busy = used
        return seconds, resident

    def _tree(self) -> list[Any]:
        try:
            return [self._own, *self._own.children(recursive=True)]
        except self._psutil.Error:
            return [self._own]


def _open_gpus() -> list[tuple[Any, int, Any]]:
    """(library, number, handle) of each GPU; none where there is no driver."""
    if "pynvml" not in sys.modules and not any(Path(place).exists() for place in _DRIVER):
        return []  # loading the library takes longer than all the rest
    try:
        library: Any = importlib.import_module("pynvml")
    except ImportError:
        return []
    try:
        library.nvmlInit()
        count = library.nvmlDeviceGetCount()
        return [(library, number, library.nvmlDeviceGetHandleByIndex(number)) for number in range(count)]
    except (library.NVMLError, OSError):
        return []


def _read_gpus(gpus: list[tuple[Any, int, Any]]) -> Iterator[tuple[str, float]]:
    for library, number, handle in gpus:
        for read in (_gpu_use, _gpu_memory, _gpu_temperature, _gpu_power):
            try:
                for series, value in read(library, handle):
                    yield f"gpu_{number}_{series}", value
            except library.NVMLError:
                continue  # this card does not tell this


def _gpu_use(library: Any, handle: Any) -> list[tuple[str, float]]:
    return [("percent", float(library.nvmlDeviceGetUtilizationRates(handle).gpu))]


def _gpu_memory(library: Any, handle: Any) -> list[tuple[str, float]]:
    memory = library.nvmlDeviceGetMemoryInfo(handle)
    return [("memory_gb", memory.used / _GB), ("memory_percent", 100.0 * memory.used / max(memory.total, 1))]


def _gpu_temperature(library: Any, handle: Any) -> list[tuple[str, float]]:
    return [("temperature_c", float(library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU)))]


def _gpu_power(library: Any, handle: Any) -> list[tuple[str, float]]:
    return [("power_w", library.nvmlDeviceGetPowerUsage(handle) / 1000.0)]
