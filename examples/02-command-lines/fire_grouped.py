"""Python Fire on a dictionary of groups: `Args/command` says which member runs.

Run it with `python fire_grouped.py data load digits --rows 10` or `... train --lr 0.2`.
"""

import fire

from taskloom import Task


class Data:
    def __init__(self, root: str = ".") -> None:
        self.root = root

    def load(self, name: str, rows: int = 100) -> None:
        print(f"load {name} from {self.root} {rows=}")


def train(lr: float = 0.1) -> None:
    print(f"train {lr=}")


if __name__ == "__main__":
    Task.init(project_name="examples/fire groups", task_name="fire groups")
    fire.Fire({"data": Data, "train": train})
