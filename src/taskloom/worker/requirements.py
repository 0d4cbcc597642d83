"""Which packages a repository asks for, when nobody recorded any: the first of these that is there.

    requirements.txt   with the files that it includes, as long as they lie in the repository
    pylock.toml        as it is
    uv.lock            exported by uv, without the project itself
    pyproject.toml     the project's dependencies

A project is not installed: its root and `src` go on PYTHONPATH, so that the code that runs is the one that was checked
out. What other tools wrote (Poetry's lock, conda's environments) is not read, and it is said what is used instead.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from taskloom.worker.command import inside
from taskloom.worker.packages import Wish, uv_program
from taskloom.worker.steps import PrepareFailed, Steps

REQUIREMENTS, PYLOCK, UV_LOCK, PYPROJECT = "requirements.txt", "pylock.toml", "uv.lock", "pyproject.toml"
OTHERS = ("poetry.lock", "Pipfile.lock", "environment.yml", "environment.yaml", "conda-lock.yml")
PROJECT_FILES = (PYPROJECT, "setup.py", "setup.cfg")
MAX_INCLUDED = 100  # files
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s+|=)(.+)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=)(.+)")


@dataclass
class Found:
    """`paths`: folders of the repository for PYTHONPATH."""

    wish: Wish
    paths: list[Path] = field(default_factory=list[Path])


async def find_requirements(
    folders: list[Path], workspace: Path, spare: Path, steps: Steps, env: Mapping[str, str]
) -> Found:
    """What the repository asks for; `folders` are looked at in order, such as the working directory and the root.

    spare: a file outside of it that may be written.
    """
    for folder in dict.fromkeys(folders):
        for name in (REQUIREMENTS, PYLOCK, UV_LOCK, PYPROJECT):
            path = inside(workspace, str(folder / name), "requirements")
            if not path.is_file() or (name == UV_LOCK and not (folder / PYPROJECT).is_file()):
                continue
            wish, paths = await _read(path, workspace, spare, steps, env)
            if wish is None:
                continue
            steps.report.say(f"taskloom: no packages are recorded, using the repository's {name}{_beside(folder)}")
            return Found(wish, [*paths, *project_paths(folder)])
    told = [_beside(folder) for folder in folders if _beside(folder)]
    if told:
        steps.report.say(f"taskloom: no packages are recorded and none are installed{told[0]}")
    return Found(Wish(), [path for folder in dict.fromkeys(folders) for path in project_paths(folder)])


def project_paths(folder: Path) -> list[Path]:
    """Where a project's code is imported from; none for a folder that is no project."""
    if not any((folder / name).is_file() for name in PROJECT_FILES):
        return []
    return [folder / "src", folder] if (folder / "src").is_dir() else [folder]


async def _read(
    path: Path, workspace: Path, spare: Path, steps: Steps, env: Mapping[str, str]
) -> tuple[Wish | None, list[Path]]:
    """None when the file says nothing about packages."""
    if path.name == REQUIREMENTS:
        listed = _Listed(workspace)
        listed.read(path)
        for folder in listed.local:
            steps.report.say(
                f"taskloom: {folder.name} is a folder of the repository: put on PYTHONPATH, not installed"
            )
        wish = Wish(packages="\n".join(listed.lines), constraints="\n".join(listed.constraints))
        return wish, [where for folder in listed.local for where in project_paths(folder) or [folder]]
    if path.name == PYLOCK:
        return Wish(lock=_text(path)), []
    if path.name == UV_LOCK:
        return Wish(packages=await _exported(path.parent, spare, steps, env)), []
    dependencies = project_dependencies(path)
    return (None if dependencies is None else Wish(packages="\n".join(dependencies))), []


async def _exported(folder: Path, spare: Path, steps: Steps, env: Mapping[str, str]) -> str:
    words = ("--frozen", "--no-emit-workspace", "--no-dev", "--no-annotate", "--no-header", "--quiet")
    argv = (uv_program(), "export", "--format", "requirements-txt", *words, "--output-file", str(spare))
    done = await steps.run(argv, folder, {**env, "UV_PYTHON_DOWNLOADS": "never"}, echo=False)
    if not done.ok:
        raise PrepareFailed(f"the repository's {UV_LOCK} cannot be read: {done.complaint}")
    return _text(spare)


def project_dependencies(path: Path) -> list[str] | None:
    """Of a pyproject.toml; None when it names no project."""
    try:
        read: dict[str, Any] = tomllib.loads(_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PrepareFailed(f"the repository's {path.name} cannot be read: {error}") from None
    project = read.get("project")
    if not isinstance(project, dict):
        return None
    found = cast("dict[str, Any]", project).get("dependencies", [])
    if not isinstance(found, list) or not all(isinstance(line, str) for line in cast("list[Any]", found)):
        raise PrepareFailed(f"the repository's {path.name}: dependencies: expected a list of texts")
    return cast("list[str]", found)


class _Listed:
    """The lines of a requirements.txt and of what it includes."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._seen: set[tuple[Path, bool]] = set()
        self.lines: list[str] = []
        self.constraints: list[str] = []
        self.local: list[Path] = []

    def read(self, path: Path, *, constraint: bool = False) -> None:
        if (path, constraint) in self._seen:
            return
        self._seen.add((path, constraint))
        if len(self._seen) > MAX_INCLUDED:
            raise PrepareFailed(f"{REQUIREMENTS} includes more than {MAX_INCLUDED} files")
        for line in _text(path).replace("\\\n", " ").splitlines():
            text = re.sub(r"(^|\s)#.*", "", line).strip()
            if text:
                self._take(text, path.parent, constraint=constraint)

    def _take(self, text: str, folder: Path, *, constraint: bool) -> None:
        included = _INCLUDE.fullmatch(text)
        if included:
            name = included[2].strip().strip("'\"")
            if "://" in name:
                (self.constraints if constraint else self.lines).append(text)
                return
            path = inside(self._workspace, str(folder / name), "included requirements")
            if not path.is_file():
                raise PrepareFailed(f"requirements {name[:200]!r}, which are included, are not in the repository")
            self.read(path, constraint=constraint or included[1] in {"-c", "--constraint"})
            return
        local = self._local(text, folder)
        if local is None:
            (self.constraints if constraint else self.lines).append(text)
            return
        self.local.append(local)
        if (local / PYPROJECT).is_file():
            self.lines += project_dependencies(local / PYPROJECT) or []

    def _local(self, text: str, folder: Path) -> Path | None:
        """The folder of the repository that a line names instead of a package."""
        editable = _EDITABLE.fullmatch(text)
        name = (editable[1] if editable else text).strip().strip("'\"")
        if "://" in name or " @ " in name:
            return None
        name = re.sub(r"\[[^\]]*\]$", "", name.partition(";")[0].strip())
        if not editable and not name.startswith((".", "/")):
            return None
        path = inside(self._workspace, str(folder / name), "local requirement")
        return path if path.is_dir() else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _beside(folder: Path) -> str:
    there = [name for name in OTHERS if (folder / name).exists()]
    return f"; {shlex.join(there)} of other tools {'is' if len(there) == 1 else 'are'} not read" if there else ""


def python_path(paths: list[Path]) -> dict[str, str]:
    """PYTHONPATH; PrepareFailed for folders that it cannot name."""
    if any(os.pathsep in str(path) for path in paths):
        raise PrepareFailed(f"an import path holds {os.pathsep!r}: {', '.join(map(str, paths))[:300]}")
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(map(str, paths)))} if paths else {}
