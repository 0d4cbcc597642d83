"""The seeds of the heavy frameworks, which are imported after `Task.init`: each draws what its own seed function gives."""

from __future__ import annotations

import json

import pytest
from tests.frameworks.conftest import HeavyBench, needs

pytestmark = pytest.mark.frameworks

SCRIPT = """
import json, sys
if sys.argv[1] == "taskloom":
    from taskloom import Task
    Task.set_random_seed(7)
    Task.init("seeds", "heavy")
    import torch
    import tensorflow
else:
    import random, torch, tensorflow
    random.seed(7); torch.manual_seed(7); tensorflow.random.set_seed(7)
import keras
import numpy
if sys.argv[1] != "taskloom":
    numpy.random.seed(7)
print(json.dumps([
    torch.rand(3).tolist(),
    torch.nn.Linear(2, 2).weight.tolist(),
    tensorflow.random.uniform([3]).numpy().tolist(),
    keras.layers.Dense(2).compute_output_shape((1, 2)) and keras.random.normal((2,)).numpy().tolist(),
    numpy.random.rand(2).tolist(),
]))
"""


def test_torch_tensorflow_and_numpy_draw_what_their_seeds_give_and_keras_the_same_again(heavy: HeavyBench) -> None:
    needs(heavy, "torch", "tensorflow", "keras")
    script = heavy.work / "seeds.py"
    script.write_text(SCRIPT)
    task = heavy.record(script, "taskloom", project="seeds")
    drawn = json.loads(heavy.stdout.splitlines()[-1])
    plain = heavy.script(script, "plain")
    said = json.loads(plain.stdout.splitlines()[-1])
    keras = 3  # draws its seed from Python's generator, which the imports before it drew from, too
    assert drawn[:keras] + drawn[keras + 1 :] == said[:keras] + said[keras + 1 :]
    again = heavy.script(script, "taskloom")
    assert drawn == json.loads(again.stdout.splitlines()[-1])
    assert task.runtime["random_seed"] == 7
