"""scikit-learn: a classifier that joblib saves and loads; what `dump` writes is the task's model.

Run it: `python sklearn_joblib.py [--penalty 1.0]`; needs scikit-learn.
"""

import argparse
import tempfile
from pathlib import Path

from joblib import dump, load
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--penalty", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--project", default="examples/models")
    args = parser.parse_args()
    task = Task.init(
        project_name=args.project, task_name="scikit-learn", output_uri=True, reuse_last_task_id=False
    )

    features, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(features / 16, labels, random_state=0)
    model = LogisticRegression(C=1 / args.penalty, max_iter=200).fit(x_train, y_train)
    task.get_logger().report_scalar("accuracy", "test", model.score(x_test, y_test), 0)

    dump(model, args.folder / "digits.joblib", compress=True)
    again = load(args.folder / "digits.joblib")
    print(f"accuracy {again.score(x_test, y_test):.4f} with penalty {1 / again.C}")


if __name__ == "__main__":
    main()
