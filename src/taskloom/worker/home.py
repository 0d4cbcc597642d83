"""The home folder of a run from a task file: fresh for every attempt, with the repository and the uploaded files.

Task files of Transformer Lab expect the code in `~` or in `~/NAME`: both are there. Of a repository of which only a
folder is wanted, only that lies in the home, under its last name.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskloom.domain.execution import Execution
from taskloom.wire.messages import Credential
from taskloom.worker.command import inside
from taskloom.worker.files import Files
from taskloom.worker.git import Repositories, apply_changes, check_directory, git_environment
from taskloom.worker.steps import PrepareFailed, Steps

HOME = "home"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True)
class Code:
    """Where the code of an attempt is. `commit`: what was checked out; empty without a repository."""

    root: Path
    commit: str = ""


async def make_home(
    execution: Execution,
    folder: Path,
    repositories: Repositories,
    files: Files,
    steps: Steps,
    environ: Mapping[str, str],
    credentials: Sequence[Credential],
) -> Code:
    home = folder / HOME
    home.mkdir(mode=0o700)
    directory = check_directory(execution.directory)
    commit = ""
    if execution.repository:
        target = folder / "checkout" if directory else home
        commit = await repositories.checkout(execution, target, steps, credentials)
        if execution.diff.strip():
            env = git_environment(environ, execution.repository)
            await apply_changes(execution.diff, target, folder / "changes.patch", steps, env)
        if directory:
            _take_directory(target, directory, home)
        else:
            _link_name(execution.repository, home)
    if execution.files:
        await files.unpack(execution.files, home, folder / "unpacked", steps)
    return Code(home, commit)


def repository_name(url: str) -> str:
    """`https://host/group/name.git` -> `name`; empty for one that is no name of a folder."""
    name = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    return name if _NAME.fullmatch(name) else ""


def _take_directory(checkout: Path, directory: str, home: Path) -> None:
    source = inside(checkout, directory, "directory")
    if not source.is_dir():
        raise PrepareFailed(f"directory {directory!r} is not in the repository")
    source.rename(home / directory.rpartition("/")[2])
    shutil.rmtree(checkout, ignore_errors=True)


def _link_name(url: str, home: Path) -> None:
    """`~/NAME` is the home itself, which holds the repository, unless it has an entry of that name."""
    name = repository_name(url)
    if not name or (home / name).is_symlink() or (home / name).exists():
        return
    (home / name).symlink_to(".")
    exclude = home / ".git" / "info" / "exclude"
    if exclude.parent.is_dir():
        with exclude.open("a", encoding="utf-8") as file:
            file.write(f"\n/{name}\n")
