"""Python Fire on a class: arguments of the constructor and of the method; Task.init stands inside the method.

Run it with `python fire_class.py --seed 3 train --lr 0.2`.
"""

import fire

from taskloom import Task


class Digits:
    def __init__(self, seed: int = 1, folder: str = "data") -> None:
        self.seed = seed
        self.folder = folder

    def train(self, lr: float = 0.1, epochs: int = 3) -> None:
        Task.init(project_name="examples/fire class", task_name="fire class")
        print(f"train seed={self.seed} folder={self.folder} {lr=} {epochs=}")

    def evaluate(self, limit: int | None = None) -> None:
        Task.init(project_name="examples/fire class", task_name="fire class")
        print(f"evaluate seed={self.seed} {limit=}")


if __name__ == "__main__":
    fire.Fire(Digits)
