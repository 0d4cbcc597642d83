"""A task file out of a git repository, read with git itself; and what git says of a folder on this machine.

Addresses and references are data (see `domain.repository`). Only the commit and the file are fetched, shallow and
without the other files where the server allows that. git asks nobody anything; it uses the credentials that it has.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.repository import (
    check_folder,
    check_reference,
    check_repository,
    is_commit,
    repository_name,
    without_credentials,
)
from taskloom.domain.taskfile import FILE_NAME
from taskloom.domain.taskfile.nodes import MAX_BYTES

TIMEOUT = 120.0
FILE_NAMES = (FILE_NAME, "task.yml")
_BROWSED = re.compile(
    r"(?P<repository>https?://[^/]+/[^/]+/[^/]+?(?:/[^/]+)*?)(?:/-)?/(?:tree|blob|src/(?:branch|tag|commit))/(?P<rest>.+)"
)
_UNWANTED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")


@dataclass(frozen=True)
class Found:
    """A folder of a repository at one commit. `text` is its task file, None when it has none.

    branch, tag: by which it was asked for; both empty: the repository's default, or the commit itself (`fixed`).
    """

    repository: str
    branch: str
    tag: str
    commit: str
    fixed: bool
    directory: str
    text: str | None
    name: str  # how messages call the file


def is_address(target: str) -> bool:
    """Whether a person means a repository by it, right or wrong."""
    return "://" in target or "::" in target or re.match(r"[\w.-]+@[\w.-]+:", target) is not None


def look(target: str, branch: str, directory: str) -> Found:
    """What lies at a URL, also at one that a browser shows (`.../tree/BRANCH/FOLDER`)."""
    url, rest = _split(target)
    check_repository(url)
    folder = check_folder(directory)
    with tempfile.TemporaryDirectory(prefix="taskloom-git-") as made:
        place = Path(made)
        _git(place, url, "init", "--quiet", "--bare", ".")
        if rest:
            branch, folder = _divided(place, url, rest, branch, folder)
        reference = check_reference(branch) if branch else "HEAD"
        _fetch(place, url, reference)
        commit = _git(place, url, "rev-parse", "--verify", "FETCH_HEAD^{commit}").strip()
        if folder.rpartition("/")[2] in FILE_NAMES:
            folder = folder.rpartition("/")[0]
        listed = _names(place, url, folder)
        name = next((name for name in FILE_NAMES if name in listed), "")
        path = f"{folder}/{name}" if folder else name
        text = _read(place, url, path) if name else None
        is_tag = "\ttag '" in (place / "FETCH_HEAD").read_text("utf-8", "replace")
    fixed = bool(branch) and is_commit(branch)
    kept = "" if fixed else branch
    shown = f"{repository_name(url)}/{path}" if name else FILE_NAME
    where = {"branch": "" if is_tag else kept, "tag": kept if is_tag else ""}
    return Found(
        without_credentials(url), commit=commit, fixed=fixed, directory=folder, text=text, name=shown, **where
    )


def local_state(folder: Path) -> dict[str, Any]:
    """Repository, branch and commit of a folder, for information; empty when it is in none, or git is missing."""
    try:
        commit = _git(folder, "", "rev-parse", "--verify", "--quiet", "HEAD").strip()
        branch = _git(folder, "", "rev-parse", "--abbrev-ref", "HEAD").strip()
        changed = bool(_git(folder, "", "status", "--porcelain", "--", ".").strip())
        remote = _git(folder, "", "config", "--default", "", "--get", "remote.origin.url").strip()
    except BadInput:
        return {}
    told = {"commit": commit, "branch": "" if branch == "HEAD" else branch, "changed": changed}
    return told | {"repository": without_credentials(remote)}


def _split(target: str) -> tuple[str, str]:
    """The repository's URL, and what a browser's address says behind it."""
    if "://" not in target:
        return target, ""
    try:
        plain = target if not urlsplit(target).fragment else target.partition("#")[0]
    except ValueError:
        return target, ""
    found = _BROWSED.fullmatch(plain.partition("?")[0].rstrip("/"))
    return (found["repository"], unquote(found["rest"])) if found else (target.rstrip("/"), "")


def _divided(place: Path, url: str, rest: str, branch: str, folder: str) -> tuple[str, str]:
    """`feature/x/examples` is a branch and a folder: the branch is the longest that the repository has."""
    if branch:
        below = rest.removeprefix(branch).lstrip("/") if f"{rest}/".startswith(f"{branch}/") else rest
        return branch, check_folder(f"{below}/{folder}")
    listed = _git(place, url, "ls-remote", "--heads", "--tags", "--", url)
    names = {line.partition("\t")[2].split("/", 2)[-1] for line in listed.splitlines() if "refs/" in line}
    parts = rest.split("/")
    for cut in range(len(parts), 0, -1):
        name = "/".join(parts[:cut])
        if name in names or (cut == 1 and is_commit(name)):
            return name, check_folder("/".join([*parts[cut:], folder]))
    raise NotFound(f"{without_credentials(url)} has no branch or tag that {rest[:200]!r} begins with")


def _fetch(place: Path, url: str, reference: str) -> None:
    _git(place, url, "config", "remote.origin.url", url)
    _git(place, url, "config", "remote.origin.promisor", "true")
    _git(place, url, "config", "remote.origin.partialclonefilter", "blob:none")
    quiet = ("fetch", "--quiet", "--no-tags", "--filter=blob:none")
    try:
        _git(place, url, *quiet, "--depth=1", "--", "origin", reference)
    except BadInput:
        if not is_commit(reference):
            raise
        # Some servers give single commits to nobody: then all of it is fetched, and the commit is looked for.
        _git(place, url, *quiet, "--", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        commit = _git(place, url, "rev-parse", "--verify", "--end-of-options", f"{reference}^{{commit}}").strip()
        (place / "FETCH_HEAD").write_text(f"{commit}\t\tcommit\n", encoding="ascii")


def _names(place: Path, url: str, folder: str) -> list[str]:
    try:
        return _git(place, url, "ls-tree", "--name-only", "-z", f"FETCH_HEAD:{folder}").split("\0")
    except BadInput:
        raise NotFound(f"{without_credentials(url)} has no folder {folder!r}") from None


def _read(place: Path, url: str, path: str) -> str:
    size = int(_git(place, url, "cat-file", "-s", f"FETCH_HEAD:{path}"))
    if size > MAX_BYTES:
        raise BadInput(f"{path} has {size} bytes; expected at most {MAX_BYTES}")
    return _git(place, url, "cat-file", "blob", f"FETCH_HEAD:{path}").removeprefix("\ufeff")


def _git(folder: Path, url: str, *arguments: str) -> str:
    """What git says; BadInput with its last word otherwise."""
    command = ["git", "-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=_environment(url),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"git {arguments[0]} took longer than {TIMEOUT:g} s") from None
    except OSError as error:
        raise BadInput(f"git cannot be run: {error.strerror}") from None
    if done.returncode:
        raise BadInput(f"repository {without_credentials(url)}: {_complaint(done.stderr, url)}")
    return done.stdout.decode("utf-8", "replace")


def _complaint(errors: bytes, url: str) -> str:
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    fatal: Sequence[str] = [line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))]
    told = (fatal or lines or ["git gave no reason"])[0]
    return told.replace(url, without_credentials(url)) if url else told


def _environment(url: str) -> dict[str, str]:
    """The user's own, so that credential helpers work; nobody is asked, and no other protocol is spoken."""
    local = url.startswith(("/", "file:"))
    return {name: value for name, value in os.environ.items() if name not in _UNWANTED} | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": os.environ.get("GIT_ASKPASS", "true"),
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git" + (":file" if local else ""),
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
    }
