"""CatBoost in a script of its users: metrics of every set and iteration, importance, models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks.conftest import HeavyBench, needs

pytestmark = pytest.mark.frameworks

EXPECTED = """
import json, sys
from catboost import CatBoostClassifier
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

features, labels = load_iris(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(features, labels, random_state=0)
model = CatBoostClassifier(iterations=int(sys.argv[2]), learning_rate=float(sys.argv[1]), eval_metric="Accuracy",
                           random_seed=0, thread_count=1, verbose=False, allow_writing_files=False)
model.fit(x_train, y_train, eval_set=(x_test, y_test))
print(json.dumps([model.evals_result_, model.feature_importances_.tolist()]))
"""


def trained(heavy: HeavyBench, tmp_path: Path, rate: float, iterations: int) -> tuple[dict[str, Any], list[float]]:
    """What CatBoost itself measures, without Taskloom."""
    script = tmp_path / "expected.py"
    script.write_text(EXPECTED)
    done = heavy.script(script, str(rate), str(iterations))
    assert done.returncode == 0, done.stderr.decode()
    told, importance = json.loads(done.stdout)
    scalars = {
        f"{dataset}/{metric}": list(enumerate(values))
        for dataset, metrics in told.items()
        for metric, values in metrics.items()
    }
    return scalars, importance


def test_metrics_importance_and_model_arrive_and_an_edited_clone_trains_otherwise(
    heavy: HeavyBench, tmp_path: Path
) -> None:
    needs(heavy, "catboost")
    task = heavy.record("04-metrics/catboost_train.py", "--project", "catboost", project="catboost")

    assert heavy.parameters(task) == {
        "Args/learning_rate": ("0.1", "float"),
        "Args/iterations": ("10", "int"),
        "Args/project": ("catboost", "str"),
    }
    scalars, importance = trained(heavy, tmp_path, 0.1, 10)
    assert heavy.scalars(task) == scalars
    (plot,) = heavy.plots(task)
    (bars,) = json.loads(plot.figure)["data"]
    assert (plot.title, plot.series) == ("feature importance", "PredictionValuesChange")
    found = dict(zip(bars["x"], bars["y"], strict=True))
    assert [found[name] for name in "0123"] == importance
    (model,) = heavy.models(task).values()
    assert (model.name, model.framework, model.filename, model.iteration) == (
        "CatBoost - iris",
        "CatBoost",
        "iris.cbm",
        9,
    )
    assert json.loads(model.design)["iterations"] == 10
    assert model.metadata["format"] == "cbm"
    assert sorted(heavy.bindings(task)["catboost"]) == ["hooks", "version"]

    clone = heavy.clone(task, {"Args/learning_rate": "0.5", "Args/iterations": "4"})

    assert heavy.scalars(clone) == trained(heavy, tmp_path, 0.5, 4)[0]


ALL_ROADS = """
import pickle, sys
import catboost, numpy as np
from sklearn.base import clone
from taskloom import Task

plain = catboost.CatBoost._fit, catboost.cv, catboost.core.cv
task = Task.init(sys.argv[1], "all roads", reuse_last_task_id=False, auto_resource_monitoring=False)
random = np.random.default_rng(0)
x, y = random.random((120, 3)), np.arange(120) % 2
quiet = {"verbose": False, "allow_writing_files": False, "thread_count": 1, "random_seed": 0}

class Mine:
    seen = 0
    def after_iteration(self, info):
        self.seen += 1
        return self.seen < 7

mine = [Mine()]
model = catboost.CatBoostClassifier(iterations=40, **quiet)
model.fit(x, y, callbacks=mine)
assert len(mine) == 1 and mine[0].seen == 7 and model.tree_count_ == 7, (mine[0].seen, model.tree_count_)
assert "callbacks" not in model.get_params()
clone(model), pickle.loads(pickle.dumps(model)), pickle.loads(pickle.dumps(catboost.cv))
early = catboost.CatBoostRegressor(iterations=60, early_stopping_rounds=3, **quiet)
early.fit(x[:90], y[:90], eval_set=(x[90:], y[90:]))
print("EARLY", len(early.evals_result_["validation"]["RMSE"]))
rare = catboost.CatBoost({"iterations": 11, "metric_period": 5, **quiet})
rare.fit(x, y)
print("RARE", rare.evals_result_["learn"]["RMSE"])
catboost.cv(catboost.Pool(x, y), {"iterations": 3, "loss_function": "Logloss", "thread_count": 1},
            fold_count=3, logging_level="Silent")
try:
    catboost.CatBoostClassifier(**quiet).fit(x, y, callbacks=7)
except catboost.CatBoostError as error:
    print("REFUSED", str(error).replace("\\n", " "))
task.close()
assert plain == (catboost.CatBoost._fit, catboost.cv, catboost.core.cv)
"""


def test_every_road_to_a_training_with_the_scripts_own_callbacks_untouched(
    heavy: HeavyBench, tmp_path: Path
) -> None:
    needs(heavy, "catboost")
    script = tmp_path / "roads.py"
    script.write_text(ALL_ROADS)
    task = heavy.record(script, "roads", project="roads")
    said = dict(line.split(" ", 1) for line in heavy.stdout.splitlines() if line.split(" ", 1)[0].isupper())

    scalars = heavy.scalars(task)
    rare = [value for _, value in scalars["learn - 2/RMSE"]]
    assert rare == json.loads(said["RARE"])
    assert [n for n, _ in scalars["learn - 2/RMSE"]] == [0, 5, 10]
    assert {name: len(points) for name, points in scalars.items()} == {
        "learn/Logloss": 7,
        "learn - 1/RMSE": int(said["EARLY"]),
        "validation - 1/RMSE": int(said["EARLY"]),
        "learn - 2/RMSE": 3,
        "test - 3/Logloss": 3,
        "test - 3/Logloss std": 3,
        "train - 3/Logloss": 3,
        "train - 3/Logloss std": 3,
    }
    assert "not iterable" in said["REFUSED"]
    assert "fault" not in heavy.bindings(task)["catboost"]
