"""What the child is told to run, and in which environment variables: argument lists, never a shell's text.

Entry point, working directory, arguments and variables come from the task, so they are data. Paths stay
inside the workspace, also through links; names of variables fit a pattern, and those that would change the
loader, the interpreter, git or Taskloom itself are refused. The worker's own key is never passed on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import msgspec

from taskloom.domain.execution import Execution
from taskloom.domain.variables import wrong_name
from taskloom.worker import clearml
from taskloom.worker.steps import PrepareFailed

_BINARY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_PYTHON = re.compile(r"python[0-9.]*")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_NOT_INHERITED = (
    "TASKLOOM_",
    "PYTHON",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    *clearml.NOT_INHERITED,
)


def inside(workspace: Path, text: str, what: str) -> Path:
    """The path that `text` names below the workspace; PrepareFailed when it leads out of it."""
    root = workspace.resolve()
    if "\0" in text:
        raise PrepareFailed(f"{what} {text[:200]!r}: not a path")
    path = (root / text).resolve()
    if path != root and root not in path.parents:
        raise PrepareFailed(f"{what} {text[:200]!r} leads out of the workspace")
    return path


def working_folder(execution: Execution, workspace: Path) -> Path:
    folder = inside(workspace, execution.working_dir or ".", "working directory")
    if not folder.is_dir():
        raise PrepareFailed(f"working directory {execution.working_dir!r} is not in the repository")
    return folder


def build_argv(execution: Execution, workspace: Path, python: Path) -> tuple[str, ...]:
    """The child's argument list."""
    if execution.command:
        return execution.command
    entry = execution.entry_point.strip()
    if not entry:
        raise PrepareFailed("the task has neither an entry point nor a command: nothing to run")
    if entry == "-m" or entry.startswith("-m "):
        module, *words = _words(entry[2:]) or [""]
        if not _MODULE.fullmatch(module):
            raise PrepareFailed(f"entry point {entry[:200]!r}: expected '-m package.module'")
        return (str(python), "-m", module, *words, *execution.arguments)
    folder = working_folder(execution, workspace)
    script = inside(workspace, str(folder / entry), "entry point")
    if not script.exists() and (words := _words(entry))[1:]:  # ClearML writes arguments behind the script's name
        first = msgspec.structs.replace(
            execution, entry_point=words[0], arguments=(*words[1:], *execution.arguments)
        )
        return build_argv(first, workspace, python)
    if not script.is_file():
        raise PrepareFailed(f"entry point {entry[:200]!r} is not in the workspace (working directory "
                            f"{execution.working_dir!r})")  # fmt: skip
    program = binary(execution) or str(python)
    return (program, entry if not entry.startswith("-") else f"./{entry}", *execution.arguments)


def binary(execution: Execution) -> str:
    """What runs the entry point instead of Python, as ClearML's clients name it: `bash`. Empty: Python does."""
    told = execution.foreign.get("binary")
    name = told.strip().rpartition("/")[2] if isinstance(told, str) else ""
    if not name or _PYTHON.fullmatch(name):
        return ""
    if not _BINARY.fullmatch(name):
        raise PrepareFailed(f"binary {name[:80]!r}: expected the name of a program, such as bash")
    return name


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def check_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The task's variables; PrepareFailed names the first one that may not be set."""
    for name, value in variables.items():
        if wrong := wrong_name(name):
            raise PrepareFailed(f"environment variable {name[:80]!r}: {wrong}")
        if "\0" in value:
            raise PrepareFailed(f"environment variable {name!r}: its value holds a NUL character")
    return dict(variables)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the worker's own environment a child gets: the machine's settings, none of Taskloom's."""
    return {k: v for k, v in environ.items() if not k.startswith(_NOT_INHERITED)}
