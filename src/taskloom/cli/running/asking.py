"""A task file where there is none: from flags, or by asking the person at the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from taskloom.cli.output import hint
from taskloom.cli.running.drafts import Wishes
from taskloom.cli.running.files import quoted, write_new
from taskloom.domain.errors import BadInput
from taskloom.domain.project import MIN_NAME
from taskloom.domain.taskfile import FILE_NAME, TaskFile, WrongTaskFile, parse

LONGEST_NAME = 60


def can_ask(yes: bool) -> bool:
    return not yes and sys.stdin.isatty() and sys.stderr.isatty()


def made_up(wishes: Wishes, folder: Path | None, where: str, *, yes: bool) -> TaskFile:
    """The file that the flags, or the answers, say; it is written into the folder when the person wants it."""
    if wishes.run:
        name = wishes.name or _name(folder, where, wishes.run)
        return _parsed(name, wishes.run, wishes.setup or "", wishes.accelerators)
    place = f"{folder} has no {FILE_NAME}" if folder is not None else f"there is no {FILE_NAME}"
    if where:
        place = f"{where} has no {FILE_NAME}"
    if not can_ask(yes):
        raise BadInput(f"{place}: say what to run with --run, or write one with `taskloom init`")
    hint(f"{place}: a few questions instead. Ctrl-C ends this.")
    run = _asked("Shell line to run", needed=True)
    name = _asked("Name", wishes.name or _name(folder, where, run), needed=True)
    setup = _asked("Shell line before it, such as `uv pip install -r requirements.txt`", "")
    accelerators = _asked('GPUs, such as "A100:1"', wishes.accelerators)
    file = _parsed(name, run, setup, accelerators)
    if folder is not None and typer.confirm(f"Keep this as {folder / FILE_NAME}?", default=True, err=True):
        write_new(folder / FILE_NAME, file.text)
    return file


def asked_value(name: str, title: str, *, hidden: bool) -> str:
    """A parameter that needs a value."""
    return str(typer.prompt(title or name, err=True, hide_input=hidden))


def _asked(question: str, default: str = "", *, needed: bool = False) -> str:
    while True:
        answer = str(typer.prompt(question, default=default, show_default=bool(default), err=True)).strip()
        if answer or not needed:
            return answer


def _parsed(name: str, run: str, setup: str, accelerators: str) -> TaskFile:
    lines = [f"name: {quoted(name)}", f"run: {quoted(run)}"]
    if setup:
        lines.append(f"setup: {quoted(setup)}")
    if accelerators:
        lines += ["resources:", f"  accelerators: {quoted(accelerators)}"]
    try:
        return parse("\n".join(lines) + "\n")
    except WrongTaskFile as wrong:
        raise BadInput("; ".join(f"{problem.path}: {problem.message}" for problem in wrong.problems)) from None


def _name(folder: Path | None, where: str, run: str) -> str:
    """The folder's name, the repository's, else the first words of what is run."""
    first = folder.resolve().name if folder is not None else where
    for name in (first, " ".join(run.split())[:LONGEST_NAME]):
        if len(name) >= MIN_NAME:
            return name
    return f"run {run.strip()}"
