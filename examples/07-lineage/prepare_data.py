"""Lineage, first of three: splits a data set and keeps both parts as artifacts.

Run it: `python prepare_data.py`, then train.py and evaluate.py; `taskloom task lineage TASK` shows how they hang
together. Needs scikit-learn.
"""

import argparse

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--test-share", type=float, default=0.25)
    parser.add_argument("--project", default="examples/lineage")
    args = parser.parse_args()
    task = Task.init(project_name=args.project, task_name="prepare data", reuse_last_task_id=False)

    digits = load_digits(as_frame=True).frame
    train, test = train_test_split(digits, test_size=args.test_share, random_state=0)
    task.upload_artifact("train", train)
    task.upload_artifact("test", test)
    print(f"{len(train)} rows to train with, {len(test)} to test with")


if __name__ == "__main__":
    main()
