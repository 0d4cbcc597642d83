"""What people write for a GPU, held against what drivers tell."""

from __future__ import annotations

import pytest

from taskloom.domain.gpus import GIB, is_type


@pytest.mark.parametrize(
    ("asked", "name", "memory"),
    [
        ("A100-80GB", "NVIDIA A100-SXM4-80GB", 0),
        ("a100-80gb", "NVIDIA A100 80GB PCIe", 0),
        ("A100", "NVIDIA A100-SXM4-40GB", 0),
        ("A100-SXM4", "NVIDIA A100-SXM4-40GB", 0),
        ("RTX3090", "NVIDIA GeForce RTX 3090", 24 * GIB),
        ("RTX 3090", "NVIDIA GeForce RTX 3090", 24 * GIB),
        ("GeForce RTX 3090", "NVIDIA GeForce RTX 3090", 0),
        ("3090", "NVIDIA GeForce RTX 3090", 0),
        ("RTX3090-24GB", "NVIDIA GeForce RTX 3090", 24 * GIB),
        ("RTX3080Ti", "NVIDIA GeForce RTX 3080 Ti", 0),
        ("RTXA6000", "NVIDIA RTX A6000", 0),
        ("H100-80GB", "NVIDIA H100 PCIe", 81_559 * 2**20),
        ("H100-80GB", "NVIDIA H100 80GB HBM3", 0),
        ("H200-141GB", "NVIDIA H200", 143_771 * 2**20),
        ("V100-16GB", "Tesla V100-SXM2-16GB", 16_160 * 2**20),
        ("T4", "Tesla T4", 0),
        ("MI250X", "AMD Instinct MI250X", 0),
        ("80GB", "NVIDIA H100 PCIe", 81_559 * 2**20),
        ("", "anything", 0),
    ],
)
def test_a_gpu_is_known_by_what_people_call_it(asked: str, name: str, memory: int) -> None:
    assert is_type(asked, name, memory)


@pytest.mark.parametrize(
    ("asked", "name", "memory"),
    [
        ("A10", "NVIDIA A100-SXM4-80GB", 0),
        ("A100", "NVIDIA A10", 0),
        ("A100-80GB", "NVIDIA A100-SXM4-40GB", 40 * GIB),
        ("A100-80GB", "NVIDIA A100-PCIE", 0),  # nobody says how much it has
        ("L4", "NVIDIA L40", 0),
        ("L40", "NVIDIA L40S", 0),
        ("RTX3080", "NVIDIA GeForce RTX 3080 Ti", 0),
        ("RTX6000", "NVIDIA RTX 6000 Ada Generation", 0),
        ("H100-80GB", "NVIDIA H100 NVL", 94 * GIB),
        ("T4", "Quadro T400", 0),
        ("A6000", "NVIDIA RTX 6000", 0),
    ],
)
def test_another_model_or_another_memory_is_another_type(asked: str, name: str, memory: int) -> None:
    assert not is_type(asked, name, memory)
