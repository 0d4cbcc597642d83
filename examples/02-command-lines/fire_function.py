"""Python Fire on a function: every argument becomes a parameter, with the type that Fire gives it.

Run it with `python fire_function.py digits 0.2 --epochs 5`.
"""

import fire

from taskloom import Task


def train(
    data: str,
    lr: float = 0.1,
    *words: str,
    epochs: int = 3,
    layers: tuple[int, ...] = (64, 32),
    name: str = "007",
    fast: bool = False,
) -> None:
    """Train on DATA."""
    print(f"train {data} {lr=} {words=} {epochs=} {layers=} {name=} {fast=}")


if __name__ == "__main__":
    Task.init(project_name="examples/fire function", task_name="fire function")
    fire.Fire(train)
