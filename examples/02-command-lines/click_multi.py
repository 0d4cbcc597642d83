"""A click group with commands and a nested group; Task.init stands inside the commands, as many write it.

Run it with `python click_multi.py --seed 3 train --lr 0.2` or `... data fetch digits`.
"""

import click

from taskloom import Task


def begin(name: str) -> None:
    Task.init(project_name="examples/click groups", task_name=name)


@click.group()
@click.option("--seed", type=int, default=1)
def cli(seed: int) -> None:
    """Learn digits."""
    click.echo(f"{seed=}")


@cli.command()
@click.option("--lr", type=float, default=0.1, help="learning rate")
@click.option("--tag", "tags", multiple=True)
@click.option("--fast", is_flag=True)
def train(lr: float, tags: tuple[str, ...], fast: bool) -> None:
    begin("group of commands")
    click.echo(f"train {lr=} {tags=} {fast=}")


@cli.group()
def data() -> None:
    """Look after the data."""


@data.command()
@click.argument("name")
@click.option("--rows", type=int, default=100)
def fetch(name: str, rows: int) -> None:
    begin("group of commands")
    click.echo(f"fetch {name} {rows=}")


if __name__ == "__main__":
    cli()
