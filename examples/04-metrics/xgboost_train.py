"""XGBoost: metrics of every evaluation set, feature importance, and the model that is saved and loaded again.

Run it: `python xgboost_train.py [--eta 0.3] [--rounds 10]`; needs xgboost and scikit-learn.
"""

import argparse
import tempfile
from pathlib import Path

import xgboost
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--eta", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="XGBoost", reuse_last_task_id=False)

    features, labels = load_iris(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(features, labels, random_state=0)
    names = ["sepal length", "sepal width", "petal length", "petal width"]
    train = xgboost.DMatrix(x_train, y_train, feature_names=names)
    test = xgboost.DMatrix(x_test, y_test, feature_names=names)
    params = {
        "objective": "multi:softprob",
        "num_class": 3,
        "eta": args.eta,
        "eval_metric": ["mlogloss", "merror"],
    }
    booster = xgboost.train(
        params, train, args.rounds, evals=[(train, "train"), (test, "test")], verbose_eval=False
    )

    path = Path(tempfile.mkdtemp()) / "iris.json"
    booster.save_model(path)
    again = xgboost.Booster(model_file=path)
    print(f"accuracy {(again.predict(test).argmax(axis=1) == y_test).mean():.3f} with eta {args.eta}")


if __name__ == "__main__":
    main()
