"""`taskloom init`: a task.yaml to begin with, every field that most people need explained where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from taskloom.cli.output import JsonFlag, print_json, say
from taskloom.cli.running.files import quoted, write_new
from taskloom.domain.project import MIN_NAME
from taskloom.domain.taskfile import FILE_NAME, parse

TEMPLATE = """\
# A task for Taskloom: `taskloom validate` checks this file, `taskloom run . --queue default --follow` runs it.
name: {name}

# Shell text that prepares the place; when it fails, the task does. The folder starts with the files of this one.
# setup: uv pip install -r requirements.txt

# Shell text: the task itself.
run: {run}

# Values that the script reads by `taskloom.get_config()`, as environment variables TASKLOOM_PARAM_NAME, or in `run` and
# `setup` as {{{{param.NAME}}}}. `taskloom run . --param epochs=5` gives others.
parameters:
  epochs: {{type: int, default: 3, min: 1}}
  learning_rate: 1e-3

# Environment variables; {{{{secret.NAME}}}} stands for a secret (`taskloom secret set NAME`).
# envs:
#   HF_TOKEN: "{{{{secret.HF_TOKEN}}}}"

# What a machine must have. Without a word any will do.
# resources:
#   cpus: 4
#   memory: 16GB
#   accelerators: "A100-80GB:1"

# time_limit: 2h
# priority: 0
# preemptible: false
# retries: 1
"""


class Written(msgspec.Struct, frozen=True):
    """The answer of `--json`."""

    path: str


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to write it; made when needed.")
    ] = Path(),
    name: Annotated[str, typer.Option("--name", help="Name of the task; by default the folder's.")] = "",
    run: Annotated[str, typer.Option("--run", help="Shell text to run.")] = "python train.py",
    json: JsonFlag = False,
) -> None:
    """Write a task.yaml with comments to begin with; one that is there is left alone."""
    called = name or folder.resolve().name
    text = TEMPLATE.format(name=quoted(called if len(called) >= MIN_NAME else "my-task"), run=quoted(run))
    parse(text)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    write_new(path, text)
    if json:
        print_json(Written(str(path)))
        return
    say(f"{path}: written; `taskloom run {folder} --follow` runs it")
