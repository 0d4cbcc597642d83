"""One click command: every option becomes a parameter of the task.

Run it with `python click_single.py --lr 0.2 digits`. Task.init stands before the command here.
"""

import click

from taskloom import Task

Task.init(project_name="examples/click", task_name="single command")


@click.command()
@click.argument("data")
@click.option("--lr", type=float, default=0.1, help="learning rate")
@click.option("--epochs", type=click.IntRange(1), default=3)
@click.option("--optimizer", type=click.Choice(["sgd", "adam"]), default="sgd")
@click.option("--layer", "layers", type=int, multiple=True, default=(64, 32))
@click.option("--size", type=(int, int), default=(28, 28))
@click.option("--augment/--no-augment", default=True)
@click.option("-v", "--verbose", count=True)
@click.option("--limit", type=int)
@click.option("--api-key", default="")
def train(
    data: str,
    lr: float,
    epochs: int,
    optimizer: str,
    layers: tuple[int, ...],
    size: tuple[int, int],
    augment: bool,
    verbose: int,
    limit: int | None,
    api_key: str,
) -> None:
    """Train on DATA."""
    click.echo(f"train {data} {lr=} {epochs=} {optimizer=} {layers=} {size=} {augment=} {verbose=} {limit=}")
    click.echo(f"with a key of {len(api_key)} letters, which is recorded nowhere")


if __name__ == "__main__":
    train()
