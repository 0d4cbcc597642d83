"""tensorboardX in scripts of its users: what every kind of summary becomes, and that its own files stay as they are."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from tests.frameworks.conftest import Bench

from taskloom.domain.task import Task

EXAMPLE = "04-metrics/tensorboardx.py"


def single(value: float) -> float:
    """As TensorBoard keeps it: in four bytes."""
    return struct.unpack("f", struct.pack("f", value))[0]


def descent(lr: float, epochs: int) -> list[float]:
    weight, found = 4.0, []
    for _ in range(epochs):
        weight -= lr * 2 * weight
        found.append(weight)
    return found


def expected_scalars(lr: float, epochs: int) -> dict[str, list[tuple[int, float]]]:
    weights = descent(lr, epochs)
    plain = [(n, single(abs(w))) for n, w in enumerate(weights)]
    squared = [(n, single(w**2)) for n, w in enumerate(weights)]
    return {
        "errors/absolute": plain,
        "errors/squared": squared,
        "hparam/loss": squared[-1:],
        "loss/train": squared,
        "weight/weight": [(n, single(w)) for n, w in enumerate(weights)],
    }


def test_every_kind_of_summary_arrives_and_an_edited_clone_draws_other_curves(bench: Bench) -> None:
    task = bench.record(EXAMPLE, "--project", "tbx", project="tbx")

    assert bench.parameters(task) == {
        "Args/lr": ("0.1", "float"),
        "Args/epochs": ("5", "int"),
        "Args/project": ("tbx", "str"),
        "TB_hparams/epochs": ("5", "int"),
        "TB_hparams/lr": ("0.1", "float"),
    }
    assert bench.scalars(task) == expected_scalars(0.1, 5)

    plots = {(one.title, one.series, one.iteration): json.loads(one.figure) for one in bench.plots(task)}
    assert sorted(plots) == [("Embeddings", "words", 4), ("quality", "pr", 4), ("weights", "layer", 0)]
    (surface,) = plots["weights", "layer", 0]["data"]
    assert (surface["type"], surface["y"], len(surface["x"])) == ("surface", [0, 1, 2, 3, 4], 50)
    assert [round(sum(row), 3) for row in surface["z"]] == [200.0] * 5
    (curve,) = plots["quality", "pr", 4]["data"]
    assert (curve["x"], curve["y"]) == ([1.0, 1.0, 1.0, 0.5, 0.0], [0.5, single(2 / 3), 1.0, 1.0, 0.0])
    (words,) = plots["Embeddings", "words", 4]["data"]
    assert (words["type"], words["text"], words["marker"]["color"]) == (
        "scatter3d",
        list("aabbcc"),
        [0, 0, 1, 1, 2, 2],
    )

    samples = {(one.title, one.series): one for one in bench.samples(task)}
    assert {names: (one.iteration, one.media_type) for names, one in samples.items()} == {
        ("notes", "text_summary"): (4, "text/plain"),
        ("samples", "noise"): (4, "image/png"),
    }
    assert bench.blob(samples["notes", "text_summary"].digest) == b"learning rate 0.1"
    assert Image.open(io.BytesIO(bench.blob(samples["samples", "noise"].digest))).size == (8, 8)

    assert {name: sorted(told) for name, told in bench.bindings(task).items() if name == "tensorboardx"} == {
        "tensorboardx": ["hooks", "version"]  # and no fault
    }

    clone = bench.clone(task, {"Args/lr": "0.25", "Args/epochs": "2"})

    assert bench.scalars(clone) == expected_scalars(0.25, 2)


ODD = """
import sys, tempfile
from pathlib import Path
import numpy as np
from tensorboardX import SummaryWriter
from tensorboardX.event_file_writer import EventFileWriter
from taskloom import Logger, Task

project, root = sys.argv[1], Path(tempfile.mkdtemp())
plain = EventFileWriter.add_event

def write(folder):
    with SummaryWriter(str(folder)) as writer:
        for step in range(3):
            writer.add_scalar("loss", step, step, walltime=1.0)

def read(folder):
    from tensorboardX.proto.event_pb2 import Event
    (file,) = folder.iterdir()
    data, found = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return [one.SerializeToString() for one in found if not one.file_version]

write(root / "untouched")
task = Task.init(project, "odd values", reuse_last_task_id=False, auto_resource_monitoring=False)
assert EventFileWriter.add_event is not plain
write(root / "watched")
assert read(root / "watched") == read(root / "untouched") and len(read(root / "watched")) == 3
with SummaryWriter(str(root / "a" / "train")) as one, SummaryWriter(str(root / "b" / "valid")) as two:
    one.add_scalar("shared/loss", float("nan"), 1)
    one.add_scalar("shared/loss", float("inf"), 2)
    two.add_scalar("shared/loss", 3.0, 1)
    one.add_scalar("deep/er/loss", 1.0, 1)
    one.add_histogram("flat", np.zeros(10), 1)
    for step in range(25):
        two.add_histogram("many", np.arange(4.0), step)
    one.add_image("alone", np.zeros((3, 2, 2)), 1)
    two.add_image("alone", np.zeros((3, 2, 2)), 1)
    Logger.tensorboard_auto_group_scalars(True)
    one.add_scalar("lonely", 1.0, 1)
    Logger.tensorboard_auto_group_scalars(False)
    Logger.tensorboard_single_series_per_graph(True)
    one.add_scalar("split/up", 1.0, 1)
    Logger.tensorboard_single_series_per_graph(False)
    one.add_scalar("after/" + "x" * 2000, 1.0, 1)  # a name that is too long is told, and costs nobody a thing
    one.add_scalar("after/all", 1.0, 1)
task.close()
assert EventFileWriter.add_event is plain
Task.init(project, "switched off", reuse_last_task_id=False, auto_connect_frameworks={"tensorboard": False})
write(root / "off")
assert EventFileWriter.add_event is plain
"""


def test_odd_values_several_folders_and_switches(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "odd.py"
    script.write_text(ODD)
    done = bench.script(script, "tbx odd")
    assert done.returncode == 0, done.stderr.decode()
    assert "series has 2000 characters; at most 1024 are possible" in done.stderr.decode()
    odd, off = tasks(bench, "tbx odd", ["odd values", "switched off"])

    told = {names: [(n, str(v)) for n, v in points] for names, points in bench.scalars(odd).items()}
    assert told == {
        "loss/loss": [(0, "0.0"), (1, "1.0"), (2, "2.0")],
        "shared/loss": [(1, "NaN"), (2, "Infinity")],
        "shared/b/valid: loss": [(1, "3.0")],
        "deep_er/loss": [(1, "1.0")],
        "Scalars/lonely": [(1, "1.0")],
        "split/up/up": [(1, "1.0")],
        "after/all": [(1, "1.0")],
    }
    plots = {(one.title, one.series): json.loads(one.figure)["data"][0] for one in bench.plots(odd)}
    assert sorted(plots) == [("Histograms", "flat"), ("Histograms", "many")]
    assert (plots["Histograms", "flat"]["type"], sum(plots["Histograms", "flat"]["y"])) == ("bar", 10)
    assert plots["Histograms", "many"]["y"] == list(range(25))  # the last ones were drawn at the end
    assert [(one.title, one.series) for one in bench.samples(odd)] == [
        ("Images", "alone"),
        ("Images b/valid", "alone"),
    ]
    assert bench.scalars(off) == {}
    assert "tensorboardx" not in bench.bindings(off)


MESSAGES = """
import struct, sys, tempfile
from tensorboardX import SummaryWriter
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from taskloom import Task

def shape(*sizes):
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])

def of(plugin):
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))

Task.init(sys.argv[1], "messages", reuse_last_task_id=False)
with SummaryWriter(tempfile.mkdtemp()) as writer:
    def write(step, **fields):
        writer.file_writer.add_summary(Summary(value=[Summary.Value(**fields)]), step)

    write(1, tag="half", metadata=of("scalars"), tensor=TensorProto(dtype="DT_HALF", tensor_content=struct.pack("<e", 0.5)))
    write(1, tag="double", tensor=TensorProto(dtype="DT_DOUBLE", tensor_content=struct.pack("<d", 0.1)))
    write(1, tag="whole", tensor=TensorProto(dtype="DT_INT64", int64_val=[7]))
    write(1, tag="vector", tensor=TensorProto(dtype="DT_INT64", int64_val=[7], tensor_shape=shape(3)))  # no curve
    write(1, tag="complex", tensor=TensorProto(dtype="DT_COMPLEX64", tensor_content=bytes(8)))
    write(2, tag="film", image=Summary.Image(encoded_image_string=b"GIF89a...", width=1, height=1, colorspace=3))
    write(2, tag="sound", audio=Summary.Audio(encoded_audio_string=b"RIFF....WAVE"))
    spoken = TensorProto(dtype="DT_STRING", string_val=[b"RIFF1", b"label", b"RIFF2", b"label"], tensor_shape=shape(2, 2))
    write(2, tag="spoken", metadata=of("audio"), tensor=spoken)
    shown = TensorProto(dtype="DT_STRING", string_val=[b"1", b"1", b"\\x89PNG"], tensor_shape=shape(3))
    write(2, tag="shown", metadata=of("images"), tensor=shown)
    buckets = TensorProto(dtype="DT_DOUBLE", double_val=[0, 1, 5, 1, 2, 6], tensor_shape=shape(2, 3))
    write(3, tag="layer", metadata=of("histograms"), tensor=buckets)
    write(4, tag="layer", tensor=buckets)  # the plugin is told once
    write(5, tag="equal", metadata=of("pr_curves"), tensor=TensorProto(dtype="DT_FLOAT", float_val=[1], tensor_shape=shape(6, 2)))
"""


def test_messages_of_every_make_are_read_and_an_unknown_one_is_told(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "messages.py"
    script.write_text(MESSAGES)
    task = bench.record(script, "tbx messages", project="tbx messages")
    assert bench.scalars(task) == {"half/half": [(1, 0.5)], "double/double": [(1, 0.1)], "whole/whole": [(1, 7.0)]}
    fault = "BadInput: a tensor of TensorFlow's type 8 is not read"
    assert bench.bindings(task)["tensorboardx"]["fault"] == fault
    assert bench.stderr.count(fault) == 1
    samples = {
        (one.title, one.series, one.iteration): (one.name, bench.blob(one.digest)) for one in bench.samples(task)
    }
    assert samples == {
        ("Images", "film", 2): ("film_00000002.gif", b"GIF89a..."),
        ("Audio", "sound", 2): ("sound_00000002.wav", b"RIFF....WAVE"),
        ("spoken", "0", 2): ("0_00000002.wav", b"RIFF1"),
        ("spoken", "1", 2): ("1_00000002.wav", b"RIFF2"),
        ("Images", "shown", 2): ("shown_00000002.png", b"\x89PNG"),
    }
    plots = {
        (one.title, one.series, one.iteration): json.loads(one.figure)["data"][0] for one in bench.plots(task)
    }
    assert plots["Histograms", "layer", 0]["y"] == [3, 4]
    assert [sum(row) for row in plots["Histograms", "layer", 0]["z"]] == [pytest.approx(11.0)] * 2
    assert (plots["equal", "equal", 5]["x"], plots["equal", "equal", 5]["y"]) == ([1.0, 1.0], [1.0, 1.0])
    assert len(plots) == 2


def tasks(bench: Bench, project: str, names: Sequence[str]) -> list[Task]:
    from taskloom.wire import messages as m
    from taskloom.wire import operations as ops

    found = {one.name: one for one in bench.client.call(ops.QUERY_TASKS, m.TaskQuery(project=project)).tasks}
    return [bench.ended(found[name].id) for name in names]
