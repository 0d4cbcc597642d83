"""TensorBoard's writers of torch, TensorFlow and Keras in scripts of their users: what every kind of summary becomes."""

from __future__ import annotations

import io
import json
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.frameworks.conftest import HeavyBench, needs

from taskloom.domain.task import Task

pytestmark = pytest.mark.frameworks

Points = list[tuple[int, float]]


def about(points: Points) -> Any:
    """The frameworks count in four bytes."""
    return [(n, pytest.approx(value, rel=1e-4, abs=1e-6)) for n, value in points]


def fitted(lr: float, epochs: int) -> tuple[Points, Points]:
    """A line through 3x by all points at once: squared errors and weights before each step."""
    x = np.linspace(-1, 1, 32)
    weight = 1.0
    losses: Points = []
    weights: Points = []
    for epoch in range(epochs + 1):
        error = weight * x - 3 * x
        losses.append((epoch, float((error**2).mean())))
        weights.append((epoch, weight))
        weight -= lr * 2 * float((error * x).mean())
    return losses, weights


def parts(
    bench: HeavyBench, task: Task
) -> tuple[dict[tuple[str, str, int], Any], dict[tuple[str, str, int], bytes]]:
    """The plots' first traces and the samples' bytes, by title, series and iteration."""
    plots = {(one.title, one.series, one.iteration): json.loads(one.figure)["data"] for one in bench.plots(task)}
    assert all(len(traces) == 1 for traces in plots.values())
    samples = {(one.title, one.series, one.iteration): bench.blob(one.digest) for one in bench.samples(task)}
    return {names: traces[0] for names, traces in plots.items()}, samples


def size_of(image: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(image)).size


def frames_of(sound: bytes) -> tuple[int, int]:
    with wave.open(io.BytesIO(sound)) as file:
        return file.getframerate(), file.getnframes()


def test_every_kind_of_torchs_summaries_arrives_and_an_edited_clone_draws_other_curves(heavy: HeavyBench) -> None:
    needs(heavy, "torch", "torch.utils.tensorboard")

    def expected(lr: float, epochs: int) -> dict[str, Any]:
        losses, weights = fitted(lr, epochs - 1)
        return {
            "hparam/loss": about(losses[-1:]),
            "loss/train": about(losses),
            "parameters/bias": about([(n, 0.0) for n, _ in weights]),
            "parameters/weight": about(weights),
            "weight/weight": about(weights),
        }

    task = heavy.record("04-metrics/tensorboard_torch.py", "--project", "torch", project="torch")

    assert heavy.parameters(task) == {
        "Args/lr": ("0.1", "float"),
        "Args/epochs": ("4", "int"),
        "Args/project": ("torch", "str"),
        "TB_hparams/epochs": ("4", "int"),
        "TB_hparams/lr": ("0.1", "float"),
        "TB_hparams/shuffle": ("0", "int"),  # torch itself writes a number
    }
    assert heavy.scalars(task) == expected(0.1, 4)
    plots, samples = parts(heavy, task)
    assert sorted(plots) == [
        ("Embeddings", "words", 3),
        ("errors", "train", 0),
        ("quality", "pr", 3),
        ("shapes", "pyramid", 3),
    ]
    surface = plots["errors", "train", 0]
    assert (surface["type"], surface["y"], len(surface["x"])) == ("surface", [0, 1, 2, 3], 50)
    assert [round(sum(row), 3) for row in surface["z"]] == [32.0] * 4
    curve = plots["quality", "pr", 3]
    assert (curve["x"], curve["y"]) == ([1.0, 1.0, 1.0, 0.5, 0.0], [0.5, pytest.approx(2 / 3), 1.0, 1.0, 0.0])
    body = plots["shapes", "pyramid", 3]
    assert {axis: body[axis] for axis in "xyzijk"} == {
        "x": [0.0, 1.0, 0.0, 0.0],
        "y": [0.0, 0.0, 1.0, 0.0],
        "z": [0.0, 0.0, 0.0, 1.0],
        "i": [0, 0],
        "j": [1, 1],
        "k": [2, 3],
    }
    words = plots["Embeddings", "words", 3]
    distances = np.array([words[axis] for axis in "xyz"]).T
    corners = np.array([[9.0, 0, 0], [0, 4, 0], [0, 0, 1], [0, 0, 0]])
    assert words["text"] == ["a", "b", "c", "d"]
    assert np.allclose(pairwise(distances), pairwise(corners))  # three dimensions lose nothing

    assert sorted(samples) == [
        ("Images", "samples", 3),
        ("fit", "line", 3),
        ("notes", "text_summary", 3),
        ("samples", "tone", 3),
    ]
    assert samples["notes", "text_summary", 3] == b"learning rate 0.1"
    assert size_of(samples["fit", "line", 3]) == (200, 200)
    assert size_of(samples["Images", "samples", 3]) == (16, 8)  # the batch side by side, as TensorBoard shows it
    assert frames_of(samples["samples", "tone", 3]) == (8000, 800)
    assert sorted(heavy.bindings(task)["tensorboard"]) == ["hooks", "version"]

    clone = heavy.clone(task, {"Args/lr": "0.4", "Args/epochs": "2"})

    assert heavy.scalars(clone) == expected(0.4, 2)


def pairwise(places: Any) -> Any:
    return np.linalg.norm(places[:, None] - places[None], axis=2)


def test_tensorflow_eager_in_a_graph_and_keras_arrive_and_an_edited_clone_draws_other_curves(
    heavy: HeavyBench,
) -> None:
    needs(heavy, "tensorflow", "keras")

    def expected(lr: float, epochs: int) -> dict[str, Any]:
        parabola = [(n, 16 * (1 - 2 * lr) ** (2 * n + 2)) for n in range(epochs)]
        losses = [value for _, value in fitted(lr, epochs)[0]]
        after = list(enumerate(losses[1:]))
        return {
            "epoch_learning_rate/epoch_learning_rate": about([(n, lr) for n in range(epochs)]),
            "epoch_loss/epoch_loss": about(list(enumerate(losses[:-1]))),
            "epoch_loss/validation: epoch_loss": about(after),
            "evaluation_loss_vs_iterations/evaluation_loss_vs_iterations": about([(n + 1, v) for n, v in after]),
            "graph/loss": about(parabola),
            "loss/train": about(parabola),
        }

    task = heavy.record("04-metrics/tensorboard_tensorflow.py", "--project", "tensorflow", project="tensorflow")

    assert heavy.scalars(task) == expected(0.1, 3)
    plots, samples = parts(heavy, task)
    (names,) = plots
    assert names == ("layers", "weights", 0)
    surface = plots[names]
    assert (surface["type"], surface["y"]) == ("surface", [0, 1, 2])
    assert [round(sum(row), 3) for row in surface["z"]] == [2.0, 3.0, 4.0]
    assert sorted(samples) == [
        ("Text", "notes", 2),
        ("samples", "noise_0", 2),
        ("samples", "noise_1", 2),
        ("samples", "tone", 2),
    ]
    assert samples["Text", "notes", 2] == b"learning rate 0.1"
    assert size_of(samples["samples", "noise_0", 2]) == (8, 8)
    assert frames_of(samples["samples", "tone", 2]) == (8000, 800)
    assert sorted(heavy.bindings(task)["tensorboard"]) == ["hooks", "version"]

    clone = heavy.clone(task, {"Args/lr": "0.3", "Args/epochs": "2"})

    assert heavy.scalars(clone) == expected(0.3, 2)


ODD_TORCH = """
import sys, tempfile
from pathlib import Path
import torch
from torch.utils.tensorboard import SummaryWriter
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from taskloom import Task

root, plain = Path(tempfile.mkdtemp()), EventFileWriter.add_event

def write(folder):
    with SummaryWriter(str(folder)) as writer:
        for step in range(3):
            writer.add_scalar("loss", step, step, walltime=1.0)
        writer.add_histogram("h", torch.arange(5.0), 1, walltime=1.0)

def read(folder):
    (file,) = folder.iterdir()
    data, found = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return [one.SerializeToString() for one in found if not one.file_version]

write(root / "untouched")
task = Task.init(sys.argv[1], "odd torch", reuse_last_task_id=False)
write(root / "watched")
assert read(root / "watched") == read(root / "untouched") and len(read(root / "watched")) == 4
with SummaryWriter(str(root / "odd")) as writer:
    writer.add_scalar("nan", float("nan"), 1)
    writer.add_scalar("precise", 0.1, 1, new_style=True, double_precision=True)
    writer.add_scalars("deep/er", {"a/b": 1.0, "c": 2.0}, 1)
    writer.add_scalar("steps/none", 1.0)
    writer.add_histogram("nan", torch.tensor([1.0, 2.0]), 1)
    writer.add_tensor("vector", torch.ones(3), 1)  # nobody's curve
    writer.add_custom_scalars({"a": {"b": ["Multiline", ["nan"]]}})
    writer.add_graph(torch.nn.Linear(1, 1), torch.ones(1, 1))
    writer.add_embedding(torch.ones(1, 2), global_step=1)
    try:
        writer.add_scalar("wrong", "no number", 1)
    except Exception as error:
        print("REFUSED", type(error).__name__)
task.close()
assert EventFileWriter.add_event is plain
"""


def test_odd_values_through_torch_and_the_files_stay_as_they_are(heavy: HeavyBench, tmp_path: Path) -> None:
    needs(heavy, "torch", "torch.utils.tensorboard")
    script = tmp_path / "odd.py"
    script.write_text(ODD_TORCH)
    task = heavy.record(script, "odd torch", project="odd torch")
    assert "REFUSED" in heavy.stdout
    single = struct.unpack("f", struct.pack("f", 1.0))[0]
    assert {name: [(n, str(v)) for n, v in points] for name, points in heavy.scalars(task).items()} == {
        "loss/loss": [(0, "0.0"), (1, "1.0"), (2, "2.0")],
        "nan/nan": [(1, "NaN")],
        "precise/precise": [(1, "0.1")],
        "deep_er/a/b": [(1, str(single))],
        "deep_er/c": [(1, "2.0")],
        "steps/none": [(0, "1.0")],
    }
    plots, _ = parts(heavy, task)
    assert {names: trace["type"] for names, trace in plots.items()} == {
        ("Histograms", "h", 0): "bar",
        ("Histograms", "nan", 0): "bar",
        ("Embeddings", "default", 1): "scatter3d",
    }
    assert sorted(heavy.bindings(task)["tensorboard"]) == ["hooks", "version"]


ODD_TENSORFLOW = """
import sys, tempfile
import tensorflow as tf
from tensorboard.plugins.hparams import api as hp
from taskloom import Task

early = tf.summary.create_file_writer(tempfile.mkdtemp())
task = Task.init(sys.argv[1], "odd tensorflow", reuse_last_task_id=False)
root = tempfile.mkdtemp()
one, two = tf.summary.create_file_writer(root + "/one"), tf.summary.create_file_writer(root + "/two")
tf.summary.scalar("nowhere", 1.0, step=1)  # no writer: TensorBoard does not get it either
with early.as_default():
    tf.summary.scalar("early", 1.0, step=1)
with one.as_default(step=7):
    tf.summary.scalar("shared", 1.0)
    hp.hparams({"units": 16, "optimizer": "adam"})
    with tf.summary.record_if(False):
        tf.summary.scalar("not wanted", 1.0)
    with tf.name_scope("scope"):
        tf.summary.scalar("inner", float("nan"))
with two.as_default():
    tf.summary.scalar("shared", 2.0, step=tf.constant(7, tf.int64))

@tf.function
def every_other(step):
    with tf.summary.record_if(step % 2 == 0):
        tf.summary.scalar("graph", tf.cast(step, tf.float32), step=step)
        tf.summary.text("words", "said", step=step)

with one.as_default():
    for step in range(4):
        every_other(tf.constant(step, tf.int64))
old = tf.compat.v1.summary.FileWriter
with tf.Graph().as_default():
    message = tf.compat.v1.Summary(value=[tf.compat.v1.Summary.Value(tag="old/loss", simple_value=0.5)])
    writer = old(root + "/old")
    writer.add_summary(message, 3)
    writer.close()
task.close()
with one.as_default():
    every_other(tf.constant(8, tf.int64))  # the traced graph lives on, and tells nobody
    tf.summary.scalar("after the end", 1.0, step=1)
"""


def test_odd_ways_of_tensorflow(heavy: HeavyBench, tmp_path: Path) -> None:
    needs(heavy, "tensorflow", "tensorboard")
    script = tmp_path / "odd.py"
    script.write_text(ODD_TENSORFLOW)
    task = heavy.record(script, "odd tf", project="odd tf")
    assert {name: [(n, str(v)) for n, v in points] for name, points in heavy.scalars(task).items()} == {
        "early/early": [(1, "1.0")],
        "shared/shared": [(7, "1.0")],
        "shared/two: shared": [(7, "2.0")],
        "scope/inner": [(7, "NaN")],
        "graph/graph": [(0, "0.0"), (2, "2.0")],
        "old/loss": [(3, "0.5")],
    }
    assert heavy.parameters(task) == {
        "TB_hparams/optimizer": ("adam", "str"),
        "TB_hparams/units": ("16", "int"),
    }
    _, samples = parts(heavy, task)
    assert samples == {("Text", "words", 0): b"said", ("Text", "words", 2): b"said"}
    assert sorted(heavy.bindings(task)["tensorboard"]) == ["hooks", "version"]
