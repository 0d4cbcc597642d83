"""tensorboardX in scripts of its users: what every kind of summary becomes, and that its own files stay as they are."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path

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
    (flat,) = bench.plots(odd)
    (bars,) = json.loads(flat.figure)["data"]
    assert (flat.title, flat.series, bars["type"], sum(bars["y"])) == ("Histograms", "flat", "bar", 10)
    assert [(one.title, one.series) for one in bench.samples(odd)] == [
        ("Images", "alone"),
        ("Images b/valid", "alone"),
    ]
    assert bench.scalars(off) == {}
    assert "tensorboardx" not in bench.bindings(off)


def tasks(bench: Bench, project: str, names: Sequence[str]) -> list[Task]:
    from taskloom.wire import messages as m
    from taskloom.wire import operations as ops

    found = {one.name: one for one in bench.client.call(ops.QUERY_TASKS, m.TaskQuery(project=project)).tasks}
    return [bench.ended(found[name].id) for name in names]
