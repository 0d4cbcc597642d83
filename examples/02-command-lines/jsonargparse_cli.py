"""jsonargparse: commands whose arguments are dataclasses and classes; every nested key is a parameter.

Run it with `python jsonargparse_cli.py train digits --opt.lr 0.2 --model.width 8`, or with `--config FILE.yaml`.
"""

from dataclasses import dataclass

from jsonargparse import CLI, lazy_instance

from taskloom import Task


@dataclass
class Optimizer:
    """How to descend.

    Args:
        lr: learning rate
        betas: decay of both means
    """

    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)


class Model:
    def __init__(self, width: int = 4, activation: str | None = None) -> None:
        self.text = f"{type(self).__name__}({width=} {activation=})"


class Deep(Model):
    def __init__(self, depth: int = 2, width: int = 4) -> None:
        super().__init__(width)
        self.text = f"Deep({width=} {depth=})"


def train(data: str, opt: Optimizer, model: Model = lazy_instance(Model, width=2), epochs: int = 3) -> None:
    print(f"train {data} lr={opt.lr} betas={opt.betas} {model.text} {epochs=}")


def evaluate(limit: int | None = None, labels: dict[str, int] | None = None) -> None:
    print(f"evaluate {limit=} {labels=}")


if __name__ == "__main__":
    Task.init(project_name="examples/jsonargparse", task_name="jsonargparse")
    CLI([train, evaluate])
