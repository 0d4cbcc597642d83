"""What `taskloom run TARGET` was given: a folder, a task file, a repository's URL, or a task that is there already."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskloom.cli.running import repositories
from taskloom.cli.running.files import find_file, read_file
from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.repository import without_credentials
from taskloom.domain.taskfile import FILE_NAME, TaskFile

_TASK_ADDRESS = re.compile(r"https?://\S*/[0-9a-f]{32}/?")


@dataclass(frozen=True)
class Source:
    """text: of the task file, None when there is none. folder: where files can be uploaded from. found: of a URL."""

    text: str | None
    name: str = FILE_NAME
    folder: Path | None = None
    found: repositories.Found | None = None
    about: dict[str, Any] = field(default_factory=dict[str, Any])


def find_source(target: str, branch: str, directory: str) -> Source | None:
    """None: the target is a task, by id or project and name."""
    if not target:
        here = find_file(Path())
        return Source(None) if here is None else _local(here.parent, here)
    if _TASK_ADDRESS.fullmatch(target):
        return None
    if repositories.is_address(target):
        return _remote(repositories.look(target, branch, directory))
    if branch or directory:
        raise BadInput("--branch and --directory belong to the URL of a repository")
    place = Path(target).expanduser()
    if place.exists():
        file = find_file(place)
        return _local(place if place.is_dir() else place.parent, file)
    if target.startswith((".", "/", "~")) or target.endswith((".yaml", ".yml")):
        raise NotFound(f"{target}: no such file or folder")
    return None


def _local(folder: Path, file: Path | None) -> Source:
    root = folder.resolve()
    about = {"kind": "folder", "folder": root.name, **repositories.local_state(root)}
    if file is None:
        return Source(None, folder=folder, about=about)
    return Source(read_file(file), str(file), folder, None, about)


def _remote(found: repositories.Found) -> Source:
    about = {
        "kind": "repository",
        "repository": found.repository,
        "branch": found.branch,
        "commit": found.commit,
        "directory": found.directory,
    }
    return Source(found.text, found.name, None, found, about)


def code_fields(file: TaskFile, found: repositories.Found | None, *, pinned: bool) -> dict[str, str]:
    """Where the code of a file from a repository comes from: the commit that was looked at, or always the newest.

    A file that names a repository itself is taken at its word; when it is the same one, its commit is pinned, too.
    """
    if found is None:
        return {}
    own = file.execution
    where = {"branch": found.branch, "tag": found.tag, "commit": found.commit if pinned or found.fixed else ""}
    if not own.repository:
        return {"repository": found.repository, "directory": found.directory or own.directory, **where}
    if _same(own.repository, found.repository) and not own.commit and own.branch in {"", found.branch, found.tag}:
        return where
    return {}


def start_folder(file: TaskFile, found: repositories.Found | None) -> str:
    """Where in the home folder the shell lines begin: a file that lies in a folder of a repository, and does not say
    that it does, was written as if the folder were its home.
    """
    if found is None or file.execution.repository or not found.directory:
        return ""
    return found.directory.rpartition("/")[2]


def _same(one: str, other: str) -> bool:
    def plain(url: str) -> str:
        return without_credentials(url).rstrip("/").removesuffix(".git").lower()

    return plain(one) == plain(other)
