"""CatBoost: metrics of every evaluation set, feature importance, and the model that is saved and loaded again.

Run it: `python catboost_train.py [--learning-rate 0.1] [--iterations 10]`; needs catboost and scikit-learn.
"""

import argparse
import tempfile
from pathlib import Path

from catboost import CatBoostClassifier
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="CatBoost", reuse_last_task_id=False)

    features, labels = load_iris(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(features, labels, random_state=0)
    model = CatBoostClassifier(
        iterations=args.iterations,
        learning_rate=args.learning_rate,
        eval_metric="Accuracy",
        random_seed=0,
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
    )
    model.fit(x_train, y_train, eval_set=(x_test, y_test))

    path = Path(tempfile.mkdtemp()) / "iris.cbm"
    model.save_model(path)
    again = CatBoostClassifier().load_model(path)
    print(f"accuracy {again.score(x_test, y_test):.3f} with learning rate {args.learning_rate}")


if __name__ == "__main__":
    main()
