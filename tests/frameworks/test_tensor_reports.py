"""Tensors of torch and TensorFlow in reports, compared in full with what the server tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.frameworks.conftest import HeavyBench, needs
from tests.frameworks.test_reports import pixels, plots_of

pytestmark = pytest.mark.frameworks
SCRIPT = Path(__file__).parent / "scripts" / "tensors.py"


def test_tensors_are_numbers_points_and_pixels(heavy: HeavyBench) -> None:
    needs(heavy, "torch", "tensorflow", "PIL")
    task = heavy.record(SCRIPT, project="tests/tensors", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    ramp = np.arange(60).reshape(3, 4, 5) * 4
    two = np.arange(40).reshape(4, 5, 2) * 4
    assert {f"{s.title}/{s.series}": pixels(heavy, s).tolist() for s in heavy.samples(task)} == {
        "torch/on a graph": ramp.transpose(1, 2, 0).tolist(),
        "torch/bfloat16": ramp.transpose(1, 2, 0).tolist(),
        "torch/half": ramp[0].tolist(),
        "torch/bytes": np.zeros((4, 3, 3), int).tolist(),
        "torch/mask": ((ramp[0] > 8) * 255).tolist(),
        "tensorflow/floats": two.tolist(),
        "tensorflow/bfloat16": two[:, :, 0].tolist(),
    }
    assert heavy.scalars(task) == {
        "loss/on a graph": [(3, 118.0)],
        "losses/a": [(4, 118.0)],
        "losses/b": [(4, 1.0)],
        "loss/tensorflow": [(1, 2.5)],
    }
    found = {name: figure["data"][0] for name, (_, _, figure) in plots_of(heavy, task).items()}
    assert found["plots/bars"]["y"] == [0, 1, 2]
    assert (found["plots/points"]["x"], found["plots/points"]["y"]) == ([0, 2], [1, 3])
    told = [line for line in heavy.stderr.splitlines() if line.startswith("taskloom: image")]
    assert [line.partition(":")[2].partition("recorded")[0] for line in told] == [
        " image 'torch' / 'batch' is not "
    ]
