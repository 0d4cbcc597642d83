"""joblib and safetensors in scripts of their users: which files become models, of which framework, and whose."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from tests.frameworks.conftest import Bench
from tests.frameworks.stored import tasks_of, told, weights

JOBLIB = {"version": joblib.__version__, "hooks": ["joblib.dump", "joblib.load"]}

MANY = """
import gzip, io, sys
from pathlib import Path

import joblib
import numpy as np
from joblib import dump, load
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from taskloom import Task

folder = Path(sys.argv[1])
PROJECT = "many objects"
original = vars(joblib.numpy_pickle)["dump"]
kept = {"dump": original}


def begin(name, **more):
    return Task.init(PROJECT, name, reuse_last_task_id=False, auto_resource_monitoring=False, **more)


class Own(BaseEstimator):
    pass


def doubled(x):
    return 2 * x


task = begin("kinds")
fitted = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
task.get_logger().report_scalar("loss", "train", 0.5, 7)
dump(fitted, folder / "linear.joblib")
dump(Own(), str(folder / "own.joblib"))
dump(XGBClassifier(n_estimators=1).fit(x, y), folder / "boosted.joblib")
dump(LGBMClassifier(n_estimators=1, verbose=-1).fit(x, y), folder / "light.joblib")
dump({"scaler": StandardScaler(), "names": ["a"]}, folder / "both.joblib")
dump(np.zeros(3), folder / "array.joblib")
with (folder / "opened.joblib").open("wb") as file:
    dump(fitted, file)
with gzip.open(folder / "packed.joblib.gz", "wb") as file:
    dump(fitted, file)
dump(fitted, io.BytesIO())
load(folder / "linear.joblib")
cached = joblib.Memory(folder / "cache", verbose=0).cache(doubled)
cached(x), cached(x)
big = np.zeros(300_000)
print(joblib.Parallel(2)(joblib.delayed(doubled)(one) for one in [big, big])[0].shape)
try:
    dump(fitted, folder / "nowhere" / "never.joblib")
except FileNotFoundError as error:
    print("the script's own error:", error.strerror)
task.close()
assert dump is joblib.dump is joblib.numpy_pickle.dump is kept["dump"], "put back"

for name, switches in {
    "joblib off": {"joblib": False},
    "scikit off": {"scikit": False},
    "wildcards": {"joblib": ["*.keep", "best*"], "scikit": "*.keep"},
    "all off": False,
}.items():
    task = begin(name, auto_connect_frameworks=switches)
    dump(fitted, folder / "a.keep")
    dump(np.zeros(2), folder / "best.bin")
    dump(fitted, folder / "c.other")
    task.close()

task = begin("twice", output_uri=True)
for epoch in range(3):
    task.get_logger().report_scalar("loss", "train", 1 / (epoch + 1), epoch)
    dump([epoch] * 1000, folder / "same.joblib")
(folder / "same.joblib").unlink()
task.close()
"""


def trained(penalty: float) -> tuple[LogisticRegression, float]:
    features, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(features / 16, labels, random_state=0)
    model = LogisticRegression(C=1 / penalty, max_iter=200).fit(x_train, y_train)
    return model, float(model.score(x_test, y_test))


def test_a_classifier_is_stored_comes_back_equal_and_an_edited_clone_trains_another(
    bench: Bench, tmp_path: Path
) -> None:
    task = bench.record(
        "05-models/sklearn_joblib.py", "--folder", str(tmp_path), "--project", "joblib", project="joblib"
    )
    model, accuracy = trained(1.0)
    assert bench.bindings(task) == {"joblib": JOBLIB}
    assert bench.parameters(task) == {
        "Args/penalty": ("1.0", "float"),
        "Args/folder": (str(tmp_path), "str"),
        "Args/project": ("joblib", "str"),
    }
    assert bench.scalars(task) == {"accuracy/test": [(0, pytest.approx(accuracy))]}
    assert told(bench, task) == {
        "scikit-learn - digits": {
            "framework": "ScikitLearn",
            "iteration": 0,
            "file": "digits.joblib",
            "stored": True,
        }
    }
    assert told(bench, task, "input") == {}, "what a task made itself is no input of it"
    back: Any = joblib.load(io.BytesIO(weights(bench, task, "scikit-learn - digits")))
    assert np.array_equal(back.coef_, model.coef_)

    edited = bench.clone(task, {"Args/penalty": "4.0"})
    model, accuracy = trained(4.0)
    assert f"accuracy {accuracy:.4f} with penalty 4.0" in bench.console(edited.id).splitlines()
    assert bench.scalars(edited) == {"accuracy/test": [(0, pytest.approx(accuracy))]}
    back = joblib.load(io.BytesIO(weights(bench, edited, "scikit-learn, edited - digits")))
    assert back.C == 0.25 and np.array_equal(back.coef_, model.coef_)


def test_what_joblib_writes_is_told_by_what_it_is_and_by_the_switches(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "many.py"
    script.write_text(MANY)
    done = bench.script(script, str(tmp_path))
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == ["(300000,)", "the script's own error: No such file or directory"]
    tasks = tasks_of(bench, "many objects")

    def file(name: str, framework: str) -> dict[str, Any]:
        return {"framework": framework, "iteration": 7, "file": name, "uri": f"FOLDER/{name}"}

    kinds = tasks["kinds"]
    assert told(bench, kinds, folder=tmp_path) == {
        "kinds - linear": file("linear.joblib", "ScikitLearn"),
        "kinds - own": file("own.joblib", "ScikitLearn"),
        "kinds - boosted": file("boosted.joblib", "XGBoost"),
        "kinds - light": file("light.joblib", "LightGBM"),
        "kinds - both": file("both.joblib", "ScikitLearn"),
        "kinds - array": file("array.joblib", "Joblib"),
        "kinds - opened": file("opened.joblib", "ScikitLearn"),
        "kinds - packed.joblib": file("packed.joblib.gz", "ScikitLearn"),
    }
    assert told(bench, kinds, "input") == {}
    assert {name: state["hooks"] for name, state in bench.bindings(kinds).items() if name == "joblib"} == {
        "joblib": JOBLIB["hooks"]
    }
    assert [one for one in bench.bindings(kinds).values() if "fault" in one] == []

    def names(task: str) -> list[str]:
        return [name.removeprefix(f"{task} - ") for name in told(bench, tasks[task])]

    assert names("joblib off") == []
    assert names("scikit off") == ["best"]
    assert names("wildcards") == ["a", "best"]
    assert names("all off") == [] and bench.bindings(tasks["all off"]) == {}
    assert told(bench, tasks["twice"]) == {
        "twice - same": {"framework": "Joblib", "iteration": 2, "file": "same.joblib", "stored": True}
    }
    assert joblib.load(io.BytesIO(weights(bench, tasks["twice"], "twice - same"))) == [2] * 1000


def test_weights_of_numpy_are_known_again_by_the_task_that_reads_them(bench: Bench, tmp_path: Path) -> None:
    done = bench.script("05-models/safetensors_model.py", "--folder", str(tmp_path), "--project", "tensors")
    assert done.returncode == 0, done.stderr.decode()
    tasks = tasks_of(bench, "tensors")
    made, used = tasks["safetensors, made"], tasks["safetensors, used"]
    model = {
        "framework": "NumPy",
        "metadata": {"units": "metres"},
        "file": "line.safetensors",
        "stored": True,
    }
    assert told(bench, made) == {"safetensors, made - line": model}
    assert told(bench, used) == {}
    (link,) = used.models
    assert (link.direction, link.model) == ("input", made.models[0].model), "by its bytes"
    back = load_tensors(weights(bench, made, "safetensors, made - line"))
    assert np.array_equal(back["weight"], np.arange(6.0) * 2.0) and np.array_equal(back["bias"], np.zeros(1))
    assert bench.parameters(made)["Args/scale"] == ("2.0", "float")

    edited = bench.clone(made, {"Args/scale": "3.0"})
    assert "sum 45.0 in metres" in bench.console(edited.id).splitlines()
