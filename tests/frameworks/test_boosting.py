"""XGBoost and LightGBM in scripts of their users: metrics of every set and round, importances, models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks.conftest import Bench

from taskloom.domain.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as ops


def trained_xgboost(eta: float, rounds: int) -> tuple[dict[str, list[tuple[int, float]]], dict[str, float]]:
    import xgboost

    x_train, x_test, y_train, y_test = iris()
    names = ["sepal length", "sepal width", "petal length", "petal width"]
    train = xgboost.DMatrix(x_train, y_train, feature_names=names)
    test = xgboost.DMatrix(x_test, y_test, feature_names=names)
    params = {"objective": "multi:softprob", "num_class": 3, "eta": eta, "eval_metric": ["mlogloss", "merror"]}
    told: dict[str, Any] = {}
    booster = xgboost.train(
        params, train, rounds, evals=[(train, "train"), (test, "test")], evals_result=told, verbose_eval=False
    )
    return curves(told), booster.get_score(importance_type="gain")


def trained_lightgbm(rate: float, rounds: int) -> tuple[dict[str, list[tuple[int, float]]], dict[str, float]]:
    import lightgbm

    x_train, x_test, y_train, y_test = iris()
    names = ["sepal_length", "sepal_width", "length", "width"]
    train = lightgbm.Dataset(x_train, y_train, feature_name=names)
    test = train.create_valid(x_test, y_test)
    params = {
        "objective": "multiclass",
        "num_class": 3,
        "learning_rate": rate,
        "metric": ["multi_logloss", "multi_error"],
        "num_threads": 1,
        "verbose": -1,
    }
    told: dict[str, Any] = {}
    booster = lightgbm.train(
        params,
        train,
        rounds,
        valid_sets=[train, test],
        valid_names=["train", "test"],
        callbacks=[lightgbm.record_evaluation(told)],
    )
    return curves(told), dict(zip(names, booster.feature_importance("gain").tolist(), strict=True))


def iris() -> Any:
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split

    features, labels = load_iris(return_X_y=True)
    return train_test_split(features, labels, random_state=0)


def curves(told: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    return {
        f"{dataset}/{metric}": list(enumerate(values))
        for dataset, metrics in told.items()
        for metric, values in metrics.items()
    }


def bars(bench: Bench, task: Task) -> dict[tuple[str, str, int], dict[str, float]]:
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    for one in bench.plots(task):
        (trace,) = json.loads(one.figure)["data"]
        found[one.title, one.series, one.iteration] = dict(zip(trace["x"], trace["y"], strict=True))
    return found


@pytest.mark.parametrize(
    ("name", "trained", "rate", "file", "hooked"),
    [
        ("xgboost", trained_xgboost, "eta", "iris.json", "XGBoost"),
        ("lightgbm", trained_lightgbm, "learning_rate", "iris.txt", "LightGBM"),
    ],
)
def test_metrics_importance_and_model_arrive_and_an_edited_clone_trains_otherwise(
    bench: Bench, name: str, trained: Any, rate: str, file: str, hooked: str
) -> None:
    given = {"eta": 0.3, "learning_rate": 0.1}[rate]
    task = bench.record(f"04-metrics/{name}_train.py", "--project", name, project=name)

    assert bench.parameters(task) == {
        f"Args/{rate}": (str(given), "float"),
        "Args/rounds": ("10", "int"),
        "Args/project": (name, "str"),
    }
    scalars, gains = trained(given, 10)
    assert bench.scalars(task) == scalars
    assert bars(bench, task) == {("feature importance", "gain", 0): gains}
    (model,) = bench.models(task).values()
    assert (model.name, model.framework, model.filename, model.iteration) == (
        f"{hooked} - iris",
        hooked,
        file,
        9,
    )
    assert model.uri.endswith(file)
    assert len(model.fingerprint) == 64
    assert str(given)[:3] in model.design
    assert {key: sorted(told) for key, told in bench.bindings(task).items() if key == name} == {
        name: ["hooks", "version"]
    }
    assert "accuracy" in bench.console(task.id)

    clone = bench.clone(task, {f"Args/{rate}": "0.7", "Args/rounds": "3"})

    scalars, gains = trained(0.7, 3)
    assert bench.scalars(clone) == scalars
    assert bars(bench, clone) == {("feature importance", "gain", 0): gains}


ALL_ROADS = """
import pickle, sys, tempfile
import lightgbm, numpy as np, xgboost
from sklearn.base import clone
from taskloom import Task

plain = {name: (lightgbm.train, lightgbm.engine.train, lightgbm.sklearn.train, xgboost.Booster.save_model) for name in "a"}
task = Task.init(sys.argv[1], "all roads", reuse_last_task_id=False, auto_resource_monitoring=False,
                 auto_connect_frameworks={"xgboost": "*.json"})
random = np.random.default_rng(0)
x, y = random.random((120, 3)), np.arange(120) % 2
pickle.loads(pickle.dumps(lightgbm.train)), pickle.loads(pickle.dumps(lightgbm.cv))

class Mine(xgboost.callback.TrainingCallback):
    rounds = 0
    def after_iteration(self, model, epoch, evals_log):
        self.rounds += 1
        return False

# XGBoost: the scikit-learn road with early stopping, cross-validation, no evaluation at all, a linear booster
mine = [Mine()]
model = xgboost.XGBClassifier(n_estimators=40, early_stopping_rounds=3, callbacks=mine, eval_metric="logloss", n_jobs=1)
model.fit(x[:90], y[:90], eval_set=[(x[90:], y[90:])], verbose=False)
assert len(mine) == 1 and mine[0].rounds == model.best_iteration + 4 < 40, (mine[0].rounds, model.best_iteration)
print("EARLY", len(model.evals_result()["validation_0"]["logloss"]))
clone(model), pickle.loads(pickle.dumps(model))
matrix = xgboost.DMatrix(x, y)
table = xgboost.cv({"objective": "binary:logistic", "seed": 1}, matrix, 3, nfold=3, metrics="error")
print("CV", table["test-error-mean"].tolist(), table["test-error-std"].tolist())
xgboost.train({"booster": "gblinear", "objective": "binary:logistic", "updater": "coord_descent"}, matrix, 2)
folder = tempfile.mkdtemp()
model.save_model(folder + "/wanted.json")
model.save_model(folder + "/unwanted.ubj")
xgboost.Booster().load_model(bytearray(model.get_booster().save_raw()))
try:
    xgboost.Booster().load_model(folder + "/nothing.json")
except xgboost.core.XGBoostError:
    pass

# LightGBM: the scikit-learn road with a callback of the user's own, cross-validation, wrong arguments
seen = []
def mine(env):
    seen.append(env.iteration)
callbacks = [mine, lightgbm.early_stopping(3, verbose=False)]
model = lightgbm.LGBMClassifier(n_estimators=40, verbose=-1, n_jobs=1)
model.fit(x[:90], y[:90], eval_set=[(x[90:], y[90:])], callbacks=callbacks)
assert callbacks[0] is mine and len(callbacks) == 2
print("ORDER", mine.order, len(seen), len(model.evals_result_["valid_0"]["binary_logloss"]))
clone(model), pickle.loads(pickle.dumps(model))
told = lightgbm.cv({"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, y), 3, nfold=3)
print("FOLDS", sorted(told), len(told["valid binary_logloss-mean"]))
try:
    lightgbm.train(no_such_argument=1)
except TypeError as error:
    print("REFUSED", error)
task.close()
assert plain["a"] == (lightgbm.train, lightgbm.engine.train, lightgbm.sklearn.train, xgboost.Booster.save_model)
"""


def test_every_road_to_a_training_with_the_scripts_own_callbacks_untouched(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "roads.py"
    script.write_text(ALL_ROADS)
    task = bench.record(script, "roads", project="roads")
    said = dict(line.split(" ", 1) for line in bench.stdout.splitlines() if line.split(" ", 1)[0].isupper())

    scalars = bench.scalars(task)
    means, spreads = (json.loads(part + "]") for part in said["CV"].rstrip("]").split("] "))
    assert scalars["test - 1/error"] == [(n, pytest.approx(value)) for n, value in enumerate(means)]
    assert scalars["test - 1/error std"] == [(n, pytest.approx(value)) for n, value in enumerate(spreads)]
    order, seen, rounds = map(int, said["ORDER"].split())
    assert order == -3  # as without us: LightGBM counts from the end of a list of the user's two and its own one
    assert seen == rounds
    assert {name: len(points) for name, points in scalars.items()} == {
        "validation_0/logloss": int(said["EARLY"]),
        "test - 1/error": 3,
        "test - 1/error std": 3,
        "train - 1/error": 3,
        "train - 1/error std": 3,
        "valid_0/binary_logloss": rounds,
        "valid - 1/binary_logloss": 3,
        "valid - 1/binary_logloss std": 3,
    }
    assert said["REFUSED"] == "train() got an unexpected keyword argument 'no_such_argument'"
    assert sorted((one.title, one.series) for one in bench.plots(task)) == [
        ("feature importance", "gain"),
        ("feature importance", "weight"),
    ]
    assert [model.filename for model in bench.models(task).values()] == ["wanted.json"]
    assert all("fault" not in told for told in bench.bindings(task).values())


BROKEN = """
import sys
import numpy as np, xgboost
from taskloom import Task
from taskloom.sdk.translations.boosting import Training

def breaks(*_):
    raise RuntimeError("of our own making")

Training.point = breaks
Task.init(sys.argv[1], "broken", reuse_last_task_id=False)
matrix = xgboost.DMatrix(np.arange(20.0)[:, None], np.arange(20) % 2)
told = {}
xgboost.train({}, matrix, 5, evals=[(matrix, "train")], evals_result=told, verbose_eval=False)
assert len(told["train"]["rmse"]) == 5
"""


def test_a_fault_of_ours_is_told_once_and_listed_and_the_training_goes_on(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)
    task = bench.record(script, "broken", project="broken")
    assert bench.stderr.count("RuntimeError: of our own making") == 1
    assert bench.bindings(task)["xgboost"]["fault"] == "RuntimeError: of our own making"
    assert bench.scalars(task) == {}


def test_the_model_of_one_task_is_the_input_of_the_next(bench: Bench, tmp_path: Path) -> None:
    maker, user = tmp_path / "maker.py", tmp_path / "user.py"
    common = "import sys, numpy as np, lightgbm\nfrom taskloom import Task\n"
    maker.write_text(
        f"{common}Task.init('chain', 'maker', reuse_last_task_id=False)\n"
        "data = lightgbm.Dataset(np.arange(60.0)[:, None], np.arange(60) % 2)\n"
        "lightgbm.train({'verbose': -1}, data, 2).save_model(sys.argv[1])\n"
    )
    user.write_text(
        f"{common}Task.init('chain', 'user', reuse_last_task_id=False)\n"
        "assert lightgbm.Booster(model_file=sys.argv[1]).num_trees() == 2\n"
    )
    path = str(tmp_path / "shared.txt")
    made = bench.record(maker, path, project="chain")
    done = bench.script(user, path)
    assert done.returncode == 0, done.stderr.decode()
    found = bench.client.call(ops.QUERY_TASKS, m.TaskQuery(project="chain")).tasks
    (used,) = [bench.ended(one.id) for one in found if one.name == "user"]
    (source,) = bench.models(made).values()
    assert [model.id for model in bench.models(used, "input").values()] == [source.id]
