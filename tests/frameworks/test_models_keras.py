"""Keras 3 and TensorFlow in scripts of their users: models, weights, SavedModels and checkpoints."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks.conftest import PATIENCE, HeavyBench, needs
from tests.frameworks.stored import tasks_of, told, unpacked, weights

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module", autouse=True)
def _installed(heavy: HeavyBench) -> None:
    needs(heavy, "keras", "tensorflow", "torch")


KERAS_HOOKS = [
    "keras.Model.save",
    "keras.Model.save_weights",
    "keras.Model.load_weights",
    "keras.Model.export",
    "keras.saving.save_model",
    "keras.saving.load_model",
    "keras.saving.save_weights",
    "keras.saving.load_weights",
]

CORNERS = """
import os, sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
from taskloom import Task

folder = Path(sys.argv[1])


def begin(name, **more):
    return Task.init("keras corners", name, reuse_last_task_id=False, auto_resource_monitoring=False, **more)


task = begin("saving")
import numpy as np
import keras
import tensorflow as tf
from tensorflow.keras.models import load_model as load_by_tf

model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = np.ones((4, 1))
task.get_logger().report_scalar("loss", "train", 0.5, 3)
model.fit(x, x, epochs=2, verbose=0, callbacks=[
    keras.callbacks.ModelCheckpoint(str(folder / "epoch-{epoch}.keras")),
    keras.callbacks.BackupAndRestore(folder / "backup"),
])
keras.saving.save_model(model, folder / "function.keras")
model.compile("sgd", keras.losses.MeanSquaredError())  # Keras cannot read "mse" back from HDF5
keras.models.save_model(model, str(folder / "old.h5"))
model.save_weights(folder / "only.weights.h5")
model.export(folder / "exported", verbose=False)
checkpoint = tf.train.Checkpoint(step=tf.Variable(1))
checkpoint.write(folder / "written")
checkpoint.save(str(folder / "numbered"))
tf.saved_model.save(tf.Module(), str(folder / "module"))
try:
    model.save(folder / "wrong.ending")
except ValueError:
    print("the script's own error")
task.close()
for one in (keras.Model.save, keras.saving.save_model, keras.models.load_model, keras.Model.load_weights, load_by_tf,
            tf.keras.models.load_model, tf.saved_model.load, tf.train.Checkpoint.save):
    assert one.__code__.co_name != "ours", one

task = begin("loading")
keras.models.load_model(folder / "function.keras")
load_by_tf(folder / "epoch-1.keras")
tf.keras.models.load_model(str(folder / "old.h5"))
model.load_weights(folder / "only.weights.h5")
tf.saved_model.load(folder / "exported")
checkpoint.read(str(folder / "written"))
checkpoint.restore(folder / "numbered-1")
manager = tf.train.CheckpointManager(checkpoint, folder / "none yet", max_to_keep=1)
print("restored", manager.restore_or_initialize())
task.close()

task = begin("switches", auto_connect_frameworks={"keras": ["*.keras"], "tensorflow": False})
model.save(folder / "a.keras")
model.save_weights(folder / "b.weights.h5")
tf.saved_model.save(tf.Module(), folder / "c")
task.close()
"""


def test_models_of_keras_are_stored_with_their_design_and_come_back_equal(
    heavy: HeavyBench, tmp_path: Path
) -> None:
    task = heavy.record(
        "05-models/keras_model.py", "--folder", str(tmp_path), "--project", "keras", project="keras"
    )
    assert heavy.bindings(task)["keras"]["hooks"] == KERAS_HOOKS
    assert [one for one in heavy.bindings(task).values() if "fault" in one] == []
    assert heavy.parameters(task) == {
        "Args/lr": ("0.1", "float"),
        "Args/epochs": ("3", "int"),
        "Args/folder": (str(tmp_path), "str"),
        "Args/project": ("keras", "str"),
    }
    found = told(heavy, task)
    for one in found.values():
        design = json.loads(one.pop("design"))
        assert [layer["class_name"] for layer in design["config"]["layers"]] == ["InputLayer", "Dense"]
    assert found == {
        "Keras - best.weights": {"framework": "Keras", "file": "best.weights.h5", "stored": True},
        "Keras - line": {"framework": "Keras", "file": "line.keras", "stored": True},
    }
    assert told(heavy, task, "input") == {}
    back = tmp_path / "back.keras"
    back.write_bytes(weights(heavy, task, "Keras - line"))
    words = (
        "import sys, keras; first, second = map(keras.saving.load_model, sys.argv[1:]); "
        "assert [(one == two).all() for one, two in zip(first.get_weights(), second.get_weights())] == [True] * 2"
    )
    command = [heavy.python, "-c", words, tmp_path / "line.keras", back]
    subprocess.run(command, check=True, timeout=PATIENCE, env=heavy.environment(KERAS_BACKEND="torch"))

    edited = heavy.clone(task, {"Args/lr": "0.5", "Args/epochs": "1", "Args/folder": tmp_path / "clone"})
    said = [line for line in heavy.console(edited.id).splitlines() if line.startswith("weight ")]
    assert len(said) == 1 and said[0].endswith("with learning rate 0.5")
    assert list(told(heavy, edited)) == ["Keras, edited - best.weights", "Keras, edited - line"]


def test_checkpoints_of_tensorflow_are_one_model_each_and_those_removed_lose_their_weights(
    heavy: HeavyBench, tmp_path: Path
) -> None:
    arguments = ("--folder", str(tmp_path), "--project", "tensorflow")
    task = heavy.record("05-models/tensorflow_saved_model.py", *arguments, project="tensorflow")
    assert [one for one in heavy.bindings(task).values() if "fault" in one] == []
    assert heavy.stdout.splitlines()[-1] == "before 2.00, at the end 2.50"

    def model(file: str, **more: Any) -> dict[str, Any]:
        return {"framework": "TensorFlow", "file": file, **more}

    kept = {"stored": True, "system_tags": ("package",)}
    assert told(heavy, task, folder=tmp_path) == {
        "TensorFlow - ckpt-1": model("ckpt-1.zip", system_tags=("removed",)),
        "TensorFlow - ckpt-2": model("ckpt-2.zip", **kept),
        "TensorFlow - ckpt-3": model("ckpt-3.zip", **kept),
        "TensorFlow - line": model("line.zip", **kept),
    }
    back = unpacked(heavy, task, "TensorFlow - ckpt-3", tmp_path / "back")
    unpacked(heavy, task, "TensorFlow - line", tmp_path / "back" / "line")
    words = """
import sys, tensorflow as tf
line = tf.saved_model.load(f"{sys.argv[1]}/line")
print(line(tf.constant([1.0])).numpy()[0])
print(tf.train.load_checkpoint(f"{sys.argv[1]}/ckpt-3").get_tensor("model/weight/.ATTRIBUTES/VARIABLE_VALUE"))
"""
    command = [heavy.python, "-c", words, back]
    done = subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["2.5", "2.5"]

    edited = heavy.clone(task, {"Args/step": "1.0", "Args/folder": tmp_path / "clone"})
    assert "before 3.00, at the end 4.00" in heavy.console(edited.id).splitlines()


def test_every_way_of_keras_and_tensorflow_to_save_and_load_is_told_once(
    heavy: HeavyBench, tmp_path: Path
) -> None:
    script = tmp_path / "corners.py"
    script.write_text(CORNERS)
    done = heavy.script(script, str(tmp_path))
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == ["the script's own error", "restored None"]
    tasks = tasks_of(heavy, "keras corners")
    saving, loading = tasks["saving"], tasks["loading"]
    frameworks = {
        name.removeprefix("saving - "): (one["framework"], one.get("iteration"), one["uri"], "design" in one)
        for name, one in told(heavy, saving, folder=tmp_path).items()
    }
    assert frameworks == {
        "epoch-1": ("Keras", 3, "FOLDER/epoch-1.keras", True),
        "epoch-2": ("Keras", 3, "FOLDER/epoch-2.keras", True),
        "function": ("Keras", 3, "FOLDER/function.keras", True),
        "old": ("Keras", 3, "FOLDER/old.h5", True),
        "only.weights": ("Keras", 3, "FOLDER/only.weights.h5", True),
        "exported": ("TensorFlow", 3, "FOLDER/exported", True),
        "written": ("TensorFlow", 3, "FOLDER/written", False),
        "numbered-1": ("TensorFlow", 3, "FOLDER/numbered-1", False),
        "module": ("TensorFlow", 3, "FOLDER/module", False),
    }
    made = {link.name.removeprefix("saving - "): link.model for link in saving.models}
    assert {link.model for link in loading.models if link.direction == "input"} == {
        made[name] for name in ("function", "epoch-1", "old", "only.weights", "exported", "written", "numbered-1")
    }
    assert told(heavy, loading) == {}
    assert list(told(heavy, tasks["switches"])) == ["switches - a"]
    for task in tasks.values():
        assert [one for one in heavy.bindings(task).values() if "fault" in one] == []
