"""Scalars, single values, and curves that share a graph, from a training loop in plain Python.

python examples/03-reports/scalars.py --epochs 4 --rate 0.5
"""

import argparse

from taskloom import Task


def main() -> None:
    task = Task.init(project_name="examples/reports", task_name="scalars", task_type="training")
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.5)
    options = parser.parse_args()

    logger = task.get_logger()
    weight, target = 0.0, 3.0  # one weight on its way to its target
    for epoch in range(options.epochs):
        gradient = 2 * (weight - target)
        logger.report_scalar("loss", "train", (weight - target) ** 2, epoch)
        logger.report_scalar(title="loss", series="test", value=(weight - target - 0.5) ** 2, iteration=epoch)
        logger.report_scalars("weight", {"value": weight, "gradient": gradient}, epoch)
        weight -= options.rate * gradient / 2
    logger.report_single_value("final weight", weight)
    print(f"rate {options.rate}: the weight is {weight}")


if __name__ == "__main__":
    main()
