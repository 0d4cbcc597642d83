"""Machine metrics from this machine, and from a GPU driver that only this test knows."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from taskloom.domain.metrics import GPU_TITLE, MACHINE_TITLE
from taskloom.sdk.capture.resources import Meter, ResourceSampler

MACHINE = {
    "cpu_percent",
    "process_cpu_percent",
    "memory_used_gb",
    "memory_percent",
    "process_memory_gb",
    "disk_free_gb",
    "network_sent_mb_s",
    "network_received_mb_s",
}


class Points:
    def __init__(self) -> None:
        self.all: list[tuple[str, str, float, int]] = []
        self.grew = threading.Event()

    def __call__(self, title: str, series: str, value: float, iteration: int) -> None:
        self.all.append((title, series, value, iteration))
        self.grew.set()


def test_this_machine_is_told_in_finite_numbers():
    points = Points()
    sampler = ResourceSampler(points, 0.1)
    sampler.start()
    assert points.grew.wait(30)
    sampler.stop()
    machine = {series: value for title, series, value, _ in points.all if title == MACHINE_TITLE}
    assert machine.keys() >= MACHINE
    assert all(math.isfinite(value) and value >= 0 for value in machine.values())
    assert 0 < machine["memory_percent"] <= 100
    assert 0 < machine["process_memory_gb"] <= machine["memory_used_gb"] * 2


def test_a_short_run_gets_one_sample_when_it_stops():
    points = Points()
    sampler = ResourceSampler(points, 3600)
    sampler.start()
    sampler.stop(timeout=30)
    assert [series for _, series, _, _ in points.all].count("cpu_percent") == 1
    assert {iteration for *_, iteration in points.all} == {0}


def test_work_of_this_process_and_its_children_is_seen():
    meter = Meter()
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        values = {series: value for _, series, value in meter.read()}
    finally:
        child.kill()
        child.wait()
    alone = {series: value for _, series, value in meter.read()}
    assert values["process_cpu_percent"] > 30
    assert values["process_memory_gb"] > alone["process_memory_gb"]


def test_stop_in_a_forked_child_returns_at_once_and_leaves_the_parent_alone():
    points = Points()
    sampler = ResourceSampler(points, 3600)
    sampler.start()
    pid = os.fork()
    if pid == 0:
        sampler.stop()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert points.all == []
    sampler.stop(timeout=30)
    assert points.all


def test_a_report_that_fails_ends_the_sampler_and_nothing_else(caplog: pytest.LogCaptureFixture):
    def refuse(title: str, series: str, value: float, iteration: int) -> None:
        raise OSError("no room")

    sampler = ResourceSampler(refuse, 3600)
    sampler.start()
    sampler.stop(timeout=30)
    assert "machine metrics stopped" in caplog.text


class Driver:
    """Answers as the real library does for two cards, the second of which tells little."""

    class NVMLError(Exception):
        pass

    NVML_TEMPERATURE_GPU = 0

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=40 + handle)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=2 << 30, total=8 << 30)

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        if handle:
            raise self.NVMLError
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle:
            raise self.NVMLError
        return 123_400


def test_every_gpu_tells_what_it_can(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", Driver())  # type: ignore[arg-type]
    values = {series: value for title, series, value in Meter().read() if title == GPU_TITLE}
    assert values == {
        "gpu_0_percent": 40.0,
        "gpu_0_memory_gb": 2.0,
        "gpu_0_memory_percent": 25.0,
        "gpu_0_temperature_c": 61.0,
        "gpu_0_power_w": 123.4,
        "gpu_1_percent": 41.0,
        "gpu_1_memory_gb": 2.0,
        "gpu_1_memory_percent": 25.0,
    }


def test_without_a_driver_there_are_no_gpu_series(monkeypatch: pytest.MonkeyPatch):
    class NoDriver(Driver):
        def nvmlInit(self) -> None:
            raise self.NVMLError

    monkeypatch.setitem(sys.modules, "pynvml", NoDriver())  # type: ignore[arg-type]
    assert all(title != GPU_TITLE for title, _, _ in Meter().read())
    monkeypatch.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]
    assert all(title != GPU_TITLE for title, _, _ in Meter().read())
