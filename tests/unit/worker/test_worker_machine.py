"""Which GPUs a worker offers, and by which name each is given to a task."""

from __future__ import annotations

from pathlib import Path

from taskloom.worker.machine import Gpu, look, visible_gpus

EIGHT = [Gpu(n, f"GPU-{n}aaa-bbbb", "H200", 141 << 30) for n in range(8)]


def names(chosen: str | None) -> list[tuple[str, int]]:
    environ = {} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen}
    return [(name, gpu.index) for name, gpu in visible_gpus(environ, EIGHT)]


def test_without_a_word_all_gpus_are_offered() -> None:
    assert names(None) == [(str(n), n) for n in range(8)]


def test_only_the_gpus_that_the_worker_sees_are_offered_in_its_order() -> None:
    assert names("5, 2") == [("5", 5), ("2", 2)]
    assert names("GPU-3aaa,1") == [("GPU-3aaa", 3), ("1", 1)]


def test_as_in_cuda_the_first_name_of_no_gpu_ends_the_list() -> None:
    assert names("") == names("-1") == names("NoDevFiles") == []
    assert names("2,17,3") == [("2", 2)]


def test_a_machine_tells_the_gpus_that_are_offered_with_their_memory(tmp_path: Path) -> None:
    told = look(tmp_path, EIGHT[:2], "podman")
    assert (told.gpus, told.gpu_memory, told.containers) == (("H200", "H200"), (141 << 30, 141 << 30), "podman")
    assert told.cpus >= 1
