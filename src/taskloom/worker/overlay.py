"""How a task's environment can import taskloom: a folder of links to the worker's own copy.

A task recorded by a build that no index has must still run, without a network. So its environment never
installs taskloom: a `.pth` file appends, after everything that the task asked for, one folder that holds links
to the running taskloom and to the distributions that it needs, and to nothing else the worker has. What the
task pins wins, because it comes first on the path. Links fit one Python version: an environment of another
one gets the dependencies installed and only taskloom itself linked.
"""

from __future__ import annotations

import hashlib
import re
import sys
from importlib import metadata
from pathlib import Path

NAME = "taskloom"
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_LINKED = frozenset({"uv"})  # the worker's tool, not the script's


def normal_name(text: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", text).lower()


def needed(name: str = NAME) -> dict[str, metadata.Distribution]:
    """The installed distributions that `name` needs, itself included, by normal name; extras left out."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [name]
    while waiting:
        key = normal_name(waiting.pop())
        if key in found or key in _NOT_LINKED:
            continue
        try:
            found[key] = metadata.distribution(key)
        except metadata.PackageNotFoundError:
            continue  # a marker that does not hold here
        for line in found[key].requires or []:
            match = _REQUIREMENT.match(line)
            if match and not re.search(r"\bextra\b", line.partition(";")[2]):
                waiting.append(match[0])
    return found


def requirements() -> list[str]:
    """What an environment of another Python version has to install: the direct needs of taskloom."""
    try:
        lines = metadata.distribution(NAME).requires or []
    except metadata.PackageNotFoundError:
        return ["msgspec", "httpx", "psutil"]
    names = {
        m[0]: line for line in lines if (m := _REQUIREMENT.match(line)) and "extra" not in line.partition(";")[2]
    }
    return [line for name, line in names.items() if normal_name(name) not in _NOT_LINKED]


def make_overlay(folder: Path, *, dependencies: bool) -> Path:
    """The folder of links below `folder`, made when it is not there. Safe to make by many at once."""
    links = {NAME: Path(__file__).parents[1]}
    if dependencies:
        for distribution in needed().values():
            links.update(_top_level(distribution))
    key = hashlib.sha256(repr((sys.version, sorted((k, str(v)) for k, v in links.items()))).encode()).hexdigest()
    target = folder / key[:16]
    if (target / ".ready").exists():
        return target
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, source in links.items():
        try:
            (target / name).symlink_to(source)
        except FileExistsError:
            continue  # made by a worker beside us, and equal by the key
    (target / ".ready").touch()
    return target


def _top_level(distribution: metadata.Distribution) -> dict[str, Path]:
    """The files and folders that a distribution put right below site-packages."""
    found: dict[str, Path] = {}
    for file in distribution.files or []:
        first = file.parts[0]
        if first in {"..", "__pycache__"} or first.endswith(".pth") or first.startswith("__editable__"):
            continue
        if first == NAME or first.startswith("_editable_impl"):
            continue  # the running copy is linked, wherever it is
        found.setdefault(first, Path(str(distribution.locate_file(first))))
    return found
