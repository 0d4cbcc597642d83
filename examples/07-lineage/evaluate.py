"""Lineage, last of three: loads the model file of train.py, wherever it lies, and tests it.

Which task made the file is found by its bytes. The whole way back to the data is then printed, as
`taskloom task lineage` does. Run it: `python evaluate.py [--model digits.joblib]`; needs scikit-learn.
"""

import argparse
from pathlib import Path

from joblib import load

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=Path("digits.joblib"))
    parser.add_argument("--project", default="examples/lineage")
    args = parser.parse_args()
    task = Task.init(project_name=args.project, task_name="evaluate", reuse_last_task_id=False)

    model = load(args.model)  # recorded: this task used it
    data = Task.get_task(project_name=args.project, task_name="prepare data")
    test = data.artifacts["test"].get()
    accuracy = model.score(test.drop(columns="target") / 16, test["target"])
    task.get_logger().report_single_value("accuracy", accuracy)
    print(f"accuracy {accuracy:.4f}")

    task.flush(wait_for_uploads=True)
    for node in task.get_lineage().nodes:
        print(f"{node.steps:+d} {node.kind} {node.name}")


if __name__ == "__main__":
    main()
