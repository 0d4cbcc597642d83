"""fastai in scripts of its users: metrics of every epoch, and learners saved, exported and loaded."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks.conftest import PATIENCE, HeavyBench, needs
from tests.frameworks.stored import tasks_of, told, weights

pytestmark = pytest.mark.frameworks

HOOKS = [
    "fastai.learner.Learner.export",
    "fastai.learner.Learner.save",
    "fastai.learner.Learner.load",
    "fastai.learner.load_learner",
    "fastai.learner.Recorder.after_epoch",
]

# What fastai itself says of the example's training, with nothing of ours loaded.
ALONE = """
import runpy, sys, types
class Task:
    @staticmethod
    def init(**_): pass
sys.modules["taskloom"] = types.SimpleNamespace(Task=Task)
from fastai.learner import Recorder
rows = []
plain = Recorder.after_epoch
def after_epoch(self):
    plain(self)
    rows.append([float(value) for value in self.log[1:4]] + [self.lrs[-1]])
Recorder.after_epoch = after_epoch
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print("ROWS", rows)
"""

CORNERS = """
import sys
from pathlib import Path

import pandas as pd
from fastai.tabular.all import *

from taskloom import Task

folder = Path(sys.argv[1])


def begin(name, **more):
    return Task.init("fastai corners", name, reuse_last_task_id=False, auto_resource_monitoring=False, **more)


task = begin("training")
table = pd.DataFrame({"x": [float(n % 7) for n in range(40)], "y": [float(n % 7) for n in range(40)]})
data = TabularDataLoaders.from_df(table, folder, procs=[Normalize], cont_names=["x"], y_names="y",
                                  y_block=RegressionBlock(), valid_idx=list(range(8)), bs=8)
learner = tabular_learner(data, layers=[4], metrics=[mae], path=folder, y_range=(0, 7))
with learner.no_bar(), learner.no_logging():
    learner.lr_find(num_it=30, show_plot=False)
    learner.recorder.train_metrics = True
    learner.fit(2, 0.01, cbs=[SaveModelCallback(fname="best", every_epoch=True)])
learner.save(folder / "elsewhere")
learner.export(folder / "whole.pkl")
task.close()

task = begin("loading")
learner.load("best_1")
load_learner(folder / "whole.pkl")
task.close()

task = begin("off", auto_connect_frameworks={"fastai": False, "pytorch": False})
with learner.no_bar(), learner.no_logging():
    learner.fit(1, 0.01)
learner.save("not told")
task.close()
"""


def test_metrics_of_every_epoch_are_fastais_own_and_learners_come_back(heavy: HeavyBench, tmp_path: Path) -> None:
    needs(heavy, "fastai")
    script = "05-models/fastai_learner.py"
    arguments = ("--folder", str(tmp_path), "--project", "fastai")
    task = heavy.record(script, *arguments, project="fastai")
    assert heavy.stdout.splitlines()[-1] == "setosa, and 3 kinds, with learning rate 0.01"
    assert heavy.bindings(task)["fastai"]["hooks"] == HOOKS
    assert [one for one in heavy.bindings(task).values() if "fault" in one] == []

    alone = Path(__file__).parents[2] / "examples" / script
    command = [heavy.python, "-c", ALONE, alone, "--folder", tmp_path / "alone"]
    (tmp_path / "alone").mkdir()
    done = subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True, text=True)
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("ROWS ")]
    rows: list[list[float]] = eval(line.removeprefix("ROWS "))
    assert len(rows) == 3, "two epochs, and one of the second fit"

    def curve(column: int) -> list[tuple[int, Any]]:
        return [(epoch, pytest.approx(row[column], abs=1e-6)) for epoch, row in enumerate(rows)]

    assert heavy.scalars(task) == {
        "loss/train": curve(0),
        "loss/valid": curve(1),
        "accuracy/valid": curve(2),
        "lr/lr": curve(3),
    }
    assert told(heavy, task) == {
        "fastai - weights": {"framework": "PyTorch", "iteration": 2, "file": "weights.pth", "stored": True},
        "fastai - learner": {"framework": "PyTorch", "iteration": 2, "file": "learner.pkl", "stored": True},
    }
    assert told(heavy, task, "input") == {}
    back = tmp_path / "back.pkl"
    back.write_bytes(weights(heavy, task, "fastai - learner"))
    words = (
        "import sys, torch; from fastai.learner import load_learner; "
        "first, second = (load_learner(path).model.state_dict() for path in sys.argv[1:]); "
        "assert len(first) > 2 and all(torch.equal(first[name], second[name]) for name in first)"
    )
    subprocess.run([heavy.python, "-c", words, tmp_path / "learner.pkl", back], check=True, timeout=PATIENCE)

    edited = heavy.clone(task, {"Args/lr": "0.05", "Args/epochs": "1", "Args/folder": tmp_path})
    assert "setosa, and 3 kinds, with learning rate 0.05" in heavy.console(edited.id).splitlines()
    assert heavy.scalars(edited)["lr/lr"] == [(0, pytest.approx(0.05)), (1, pytest.approx(0.05))]


def test_searches_for_a_learning_rate_are_not_told_and_callbacks_are(heavy: HeavyBench, tmp_path: Path) -> None:
    needs(heavy, "fastai")
    script = tmp_path / "corners.py"
    script.write_text(CORNERS)
    done = heavy.script(script, str(tmp_path))
    assert done.returncode == 0, done.stderr.decode()
    tasks = tasks_of(heavy, "fastai corners")
    training, loading = tasks["training"], tasks["loading"]
    assert {name: len(points) for name, points in heavy.scalars(training).items()} == {
        "loss/train": 2,
        "mae/train": 2,
        "loss/valid": 2,
        "mae/valid": 2,
        "lr/lr": 2,
    }
    assert {name: one["uri"] for name, one in told(heavy, training, folder=tmp_path).items()} == {
        "training - best_0": "FOLDER/models/best_0.pth",
        "training - best_1": "FOLDER/models/best_1.pth",
        "training - elsewhere": "FOLDER/elsewhere.pth",
        "training - whole": "FOLDER/whole.pkl",
    }
    made = {link.name: link.model for link in training.models}
    assert {link.model for link in loading.models if link.direction == "input"} == {
        made["training - best_1"],
        made["training - whole"],
    }
    assert heavy.scalars(tasks["off"]) == {} and told(heavy, tasks["off"]) == {}
    for task in tasks.values():
        assert [one for one in heavy.bindings(task).values() if "fault" in one] == []
