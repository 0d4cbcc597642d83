"""Lineage, second of three: reads the data of prepare_data.py and saves a model, both recorded by themselves.

Run it: `python train.py [--penalty 1.0] [--model digits.joblib]`; needs scikit-learn.
"""

import argparse
from pathlib import Path

from joblib import dump
from sklearn.linear_model import LogisticRegression

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--penalty", type=float, default=1.0)
    parser.add_argument("--model", type=Path, default=Path("digits.joblib"))
    parser.add_argument("--project", default="examples/lineage")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="train", output_uri=True, reuse_last_task_id=False)

    data = Task.get_task(project_name=args.project, task_name="prepare data")
    train = data.artifacts["train"].get()  # recorded: this task read it
    features, labels = train.drop(columns="target") / 16, train["target"]
    model = LogisticRegression(C=1 / args.penalty, max_iter=200).fit(features, labels)
    dump(model, args.model)  # recorded: this task made it
    print(f"accuracy {model.score(features, labels):.4f} on what it was trained with")


if __name__ == "__main__":
    main()
