"""argparse with subcommands: the subcommand and its arguments are parameters, wherever Task.init stands.

Run it with `python argparse_subcommands.py --seed 3 train digits --lr 0.2`.
"""

import argparse

from taskloom import Task


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--token", default="")
    commands = made.add_subparsers(dest="action", required=True)
    train = commands.add_parser("train")
    train.add_argument("data")
    train.add_argument("--lr", type=float, default=0.1, help="learning rate")
    train.add_argument("--layers", type=int, nargs="+", default=[64, 32])
    export = commands.add_parser("export").add_subparsers(dest="format", required=True)
    export.add_parser("onnx").add_argument("--opset", type=int, default=17)
    return made


if __name__ == "__main__":
    Task.init(project_name="examples/argparse", task_name="subcommands")
    arguments = vars(parser().parse_args())
    del arguments["token"]
    print("run", arguments)
