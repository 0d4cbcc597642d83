"""The files of a local folder that go to the worker, chosen by ignore files; `archives` packs them.

A folder is what somebody happened to have on a disk: links are never followed out of it, pipes and devices are left
out, files that hold keys are not taken unless they are named, and what is too much is told with where it lies.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from taskloom.domain.errors import BadInput, TooLarge
from taskloom.domain.quantities import size

MAX_FILES = 100_000
MAX_BYTES = 2 << 30
LOOKED_AT = 1_000_000  # entries of a folder, ignored ones among them, after which nobody goes on
IGNORE_FILES = (".gitignore", ".taskloomignore")  # what the second says counts more
MAX_IGNORE = 1 << 20
NEVER = GitIgnoreSpec.from_lines(
    [".git", ".hg", ".svn", "__pycache__/", "*.py[co]", ".venv/", "venv/", ".tox/", ".nox/", ".mypy_cache/",
     ".pytest_cache/", ".ruff_cache/", ".ipynb_checkpoints/", "node_modules/", ".DS_Store", "*.egg-info/"]
)  # fmt: skip
SECRETS = GitIgnoreSpec.from_lines(
    [".env", ".env.*", "!.env.example", "!.env.sample", "!.env.template", ".netrc", "_netrc", ".pypirc", ".npmrc",
     ".git-credentials", ".ssh/", ".aws/", ".gnupg/", ".kube/", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.pem",
     "*.key", "*.p12", "*.pfx", "*.kdbx", ".htpasswd", "credentials.json", "client_secret*.json",
     "service-account*.json"]
)  # fmt: skip


@dataclass
class Chosen:
    """Names and files, sorted; `left_out` counts by reason what a person may wonder about."""

    members: list[tuple[str, Path]] = field(default_factory=list[tuple[str, Path]])
    bytes: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])


def choose(folder: Path, include: Sequence[str] = ()) -> Chosen:
    """The files to take. `include`: patterns as in ignore files, of what is taken although it would be ignored."""
    return _Choice(folder.resolve(), include).made()


class _Choice:
    def __init__(self, root: Path, include: Sequence[str]) -> None:
        self._root = root
        self._include = _spec(include)
        self._rules: dict[str, list[GitIgnoreSpec]] = {}
        self._above = _rules_above(root)
        self._chosen = Chosen()
        self._weights: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def made(self) -> Chosen:
        for name, path in self._walk():
            self._take(name, path)
        self._check_size()
        self._chosen.members.sort()
        return self._chosen

    def _walk(self) -> Iterator[tuple[str, Path]]:
        """Everything that is no folder, but for what lies in ignored folders."""
        waiting = [""]
        seen = 0
        while waiting:
            here = waiting.pop()
            try:
                entries = sorted(os.scandir(self._root / here), key=lambda entry: entry.name)
            except OSError as error:
                raise BadInput(f"{here or self._root}: cannot be read ({error.strerror}); "
                               "a line in .taskloomignore leaves it out") from None  # fmt: skip
            for entry in entries:
                seen += 1
                if seen > LOOKED_AT:
                    raise TooLarge(f"the folder {self._root} holds more than {LOOKED_AT} files; "
                                   f"is it the right one?{self._largest()}")  # fmt: skip
                name = f"{here}/{entry.name}" if here else entry.name
                if _is_unwritable(name):
                    raise BadInput(f"{name!a}: the name is not UTF-8 and cannot be packed; rename it")
                if not entry.is_dir(follow_symlinks=False):
                    yield name, self._root / name
                elif entry.name not in {".git", ".hg", ".svn"} and (
                    self._include is not None or not self._ignored(name, folder=True)
                ):
                    waiting.append(name)

    def _take(self, name: str, path: Path) -> None:
        if not self._forced(name) and self._why_not(name):
            return
        try:
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                if not (inner := self._linked(path)):
                    self._chosen.left_out["links that lead out of the folder or to folders"] += 1
                    return
                if not self._forced(inner) and self._why_not(inner):
                    return
                path = self._root / inner
                status = path.stat()
        except OSError:
            return  # gone meanwhile
        if not stat.S_ISREG(status.st_mode):
            self._chosen.left_out["pipes, sockets and devices"] += 1
            return
        if "\\" in name or ":" in name.partition("/")[0]:
            raise BadInput(
                f"{name!a}: a file of this name cannot be packed; a line in .taskloomignore leaves it out"
            )
        if not os.access(path, os.R_OK):
            raise BadInput(f"{name}: cannot be read; a line in .taskloomignore leaves it out")
        self._chosen.members.append((name, path))
        self._chosen.bytes += status.st_size
        top = name.partition("/")[0]
        self._weights[top] += status.st_size
        self._counts[top] += 1

    def _linked(self, path: Path) -> str:
        """The name, inside the folder, of the regular file that a link leads to; empty otherwise."""
        try:
            real = path.resolve(strict=True)
            inside = real.is_relative_to(self._root) and real.is_file()
        except (OSError, RuntimeError):
            return ""
        return real.relative_to(self._root).as_posix() if inside else ""

    def _forced(self, name: str) -> bool:
        return self._include is not None and self._include.match_file(name)

    def _why_not(self, name: str) -> bool:
        """Whether the file is left out, by its own name or by a folder above it."""
        parts = name.split("/")
        for cut in range(1, len(parts)):
            if self._ignored("/".join(parts[:cut]), folder=True):
                return True
        if self._ignored(name, folder=False):
            if SECRETS.match_file(name):
                self._chosen.left_out["files that may hold keys"] += 1
            return True
        return False

    def _ignored(self, name: str, *, folder: bool) -> bool:
        """By the deepest ignore file that has a word about it; what is never taken needs no word."""
        asked = f"{name}/" if folder else name
        if NEVER.match_file(asked) or SECRETS.match_file(asked):
            return True
        parts = name.split("/")
        for depth in range(len(parts) - 1, -1, -1):
            base = "/".join(parts[:depth])
            below = "/".join(parts[depth:]) + ("/" if folder else "")
            for spec in self._rules_of(base):
                said = spec.check_file(below).include
                if said is not None:
                    return said
        for prefix, spec in self._above:
            said = spec.check_file(f"{prefix}/{asked}").include
            if said is not None:
                return said
        return False

    def _rules_of(self, base: str) -> list[GitIgnoreSpec]:
        if base not in self._rules:
            self._rules[base] = _rules_in(self._root / base, IGNORE_FILES)
        return self._rules[base]

    def _check_size(self) -> None:
        files, total = len(self._chosen.members), self._chosen.bytes
        if files > MAX_FILES or total > MAX_BYTES:
            raise TooLarge(
                f"the folder has {files} files of {size(total)}; expected at most {MAX_FILES} of {size(MAX_BYTES)}. "
                f"Name what is not needed in .taskloomignore.{self._largest()}",
                files=files,
                bytes=total,
            )

    def _largest(self) -> str:
        by = self._weights if self._chosen.bytes > MAX_BYTES else self._counts
        listed = [
            f"{name} ({self._counts[name]} files, {size(self._weights[name])})" for name, _ in by.most_common(5)
        ]
        return f" Largest: {', '.join(listed)}" if listed else ""


def _is_unwritable(name: str) -> bool:
    return any(0xD800 <= ord(character) < 0xE000 for character in name)


def _rules_in(folder: Path, names: Sequence[str]) -> list[GitIgnoreSpec]:
    """Of one folder, the file that counts most first."""
    found: list[GitIgnoreSpec] = []
    for name in reversed(names):
        path = folder / name
        if not path.is_file():
            continue
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                spec = _spec(file.read(MAX_IGNORE).splitlines())
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
        if spec is not None:
            found.append(spec)
    return found


def _rules_above(root: Path) -> list[tuple[str, GitIgnoreSpec]]:
    """Rules of the git repository around the folder, nearest first, each with the folder's path below it."""
    repository = next((place for place in (root, *root.parents) if (place / ".git").exists()), None)
    if repository is None or repository == root:
        return []
    places = [place for place in root.parents if place == repository or repository in place.parents]
    return [
        (root.relative_to(place).as_posix(), spec)
        for place in places
        for spec in _rules_in(place, (".gitignore",))
    ]


def _spec(lines: Sequence[str]) -> GitIgnoreSpec | None:
    """The rules; a line that is none is passed over, as git does."""
    patterns = [line for line in lines if line.strip() and not line.startswith("#")]
    if not patterns:
        return None
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError:
        return GitIgnoreSpec.from_lines([line for line in patterns if _is_rule(line)])


def _is_rule(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
