"""`taskloom validate`: everything that is wrong with a task file, and what is odd, without a server and a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from taskloom.cli.output import JsonFlag, hint, print_json, say
from taskloom.cli.running.files import find_file, read_file
from taskloom.cli.terminal import plain
from taskloom.domain.errors import NotFound
from taskloom.domain.taskfile import FILE_NAME, Problem, WrongTaskFile, parse


class Verdict(msgspec.Struct, frozen=True):
    """The answer of `--json`. `valid` is what the exit code says."""

    file: str
    valid: bool
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def validate(
    target: Annotated[
        Path, typer.Argument(metavar="[FILE|FOLDER]", help="A task.yaml, or a folder that has one.")
    ] = Path(),
    strict: Annotated[bool, typer.Option("--strict", help="What is only odd is wrong, too.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of the format, for editors.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Say what is wrong with a task file; needs no server. Exit code 0 when it can be run."""
    if schema:
        from taskloom.domain.taskfile.schema import json_schema

        print_json(json_schema())
        return 0
    path = find_file(target)
    if path is None:
        raise NotFound(f"{target}: has no {FILE_NAME}; `taskloom init` writes one to begin with")
    verdict = _judged(path, strict)
    if json:
        print_json(verdict)
    else:
        _tell(verdict)
    return 0 if verdict.valid else 1


def _judged(path: Path, strict: bool) -> Verdict:
    name = str(path)
    try:
        warnings = parse(read_file(path), name).warnings
    except WrongTaskFile as wrong:
        return Verdict(name, False, wrong.problems, wrong.warnings)
    return Verdict(name, not (strict and warnings), (), warnings)


def _tell(verdict: Verdict) -> None:
    for problem in verdict.problems:
        print(f"{plain(problem.told(verdict.file))}", file=sys.stderr)
    for warning in verdict.warnings:
        hint(plain(f"{warning.told(verdict.file)} (warning)"))
    if verdict.valid:
        say(f"{plain(verdict.file)}: can be run")
