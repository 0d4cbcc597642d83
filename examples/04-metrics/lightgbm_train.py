"""LightGBM: metrics of every evaluation set, feature importance, and the model that is saved and loaded again.

Run it: `python lightgbm_train.py [--learning-rate 0.1] [--rounds 10]`; needs lightgbm and scikit-learn.
"""

import argparse
import tempfile
from pathlib import Path

import lightgbm
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="LightGBM", reuse_last_task_id=False)

    features, labels = load_iris(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(features, labels, random_state=0)
    train = lightgbm.Dataset(x_train, y_train, feature_name=["sepal_length", "sepal_width", "length", "width"])
    test = train.create_valid(x_test, y_test)
    params = {
        "objective": "multiclass",
        "num_class": 3,
        "learning_rate": args.learning_rate,
        "metric": ["multi_logloss", "multi_error"],
        "num_threads": 1,
        "verbose": -1,
    }
    booster = lightgbm.train(params, train, args.rounds, valid_sets=[train, test], valid_names=["train", "test"])

    path = Path(tempfile.mkdtemp()) / "iris.txt"
    booster.save_model(path)
    again = lightgbm.Booster(model_file=path)
    accuracy = (again.predict(x_test).argmax(axis=1) == y_test).mean()
    print(f"accuracy {accuracy:.3f} with learning rate {args.learning_rate}")


if __name__ == "__main__":
    main()
