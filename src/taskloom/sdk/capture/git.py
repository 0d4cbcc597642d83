"""Which code runs: repository, branch, commit and everything that was not pushed, as one diff.

A worker on another machine can only fetch what the remote has, so the diff starts from the last commit that
a remote-tracking branch holds: commits that were never pushed are part of it, like staged and unstaged
changes. Untracked files are not (git does not know them), but for the entry script itself; modules among them
that are in use are warned of. Without a repository the script's text is the code; a console or a notebook has
no script, and only Python's version is told.

Nothing here raises: when git is missing, slow or refuses, the script's text is captured with a last line
that says why. A diff that cannot be carried is replaced by a sentence that does not apply as a diff, because
running other code than was recorded would be worse than failing.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

MAX_CODE = 6 << 20  # bytes of a diff or script; below the journal's limit for one record
SHORT_TIMEOUT, DIFF_TIMEOUT = 10.0, 60.0
RETRIES = (0.1, 0.3, 0.6)  # seconds before a git that was killed is run again

_log = logging.getLogger("taskloom")
_SECRET_WORD = re.compile(r"token|secret|password|passwd|apikey|api_key", re.IGNORECASE)
_CODING = re.compile(r"^([ \t\f]*#.*?coding[:=][ \t]*)[-\w.]+", re.ASCII)
_DIFF = [
    *("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--find-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0"),
    *("--ignore-submodules=all", "--submodule=short"),
]


class GitTrouble(Exception):
    """Why git could not tell."""


class _LeftOut(Exception):
    """Why the changes cannot be carried: the sentence that stands for the diff. Never leaves this file."""


@dataclass(frozen=True)
class _Git:
    """The git command in one folder, without prompts, hooks of its own, or programs that a repository names."""

    folder: Path

    def run(
        self,
        *arguments: str,
        timeout: float = SHORT_TIMEOUT,
        ok: tuple[int, ...] = (0,),
        literal: bool = True,
    ) -> bytes:
        """What git says; raises GitTrouble. `literal`: paths have no wildcards."""
        done = self._done(arguments, timeout, literal)
        for pause in RETRIES:  # a kernel that ends kills its children, this one among them
            if done.returncode >= 0:
                break
            time.sleep(pause)
            done = self._done(arguments, timeout, literal)
        if done.returncode not in ok:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
            raise GitTrouble(f"git {arguments[0]}: {said[0]}")
        return done.stdout

    def _done(
        self, arguments: tuple[str, ...], timeout: float, literal: bool
    ) -> subprocess.CompletedProcess[bytes]:
        command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true", *arguments]
        try:
            return subprocess.run(
                command,
                cwd=self.folder,
                env=_environment() | {"GIT_LITERAL_PATHSPECS": "1" if literal else "0"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise GitTrouble(f"git {arguments[0]} took longer than {timeout:g} s") from None
        except OSError as error:
            raise GitTrouble(f"git cannot be run: {error.strerror}") from None

    def line(self, *arguments: str) -> str:
        """One line of answer, empty when git has none (exit status 1 or 128 of a question)."""
        return os.fsdecode(self.run(*arguments, ok=(0, 1, 128))).removesuffix("\n")


def capture_code(script: Path | None, cwd: Path) -> dict[str, Any]:
    """Fields of `domain.execution.Execution` that say which code runs; `python` is always among them.

    script: the file that Python was started with; None in a console or notebook. cwd: where it was started.
    """
    found: dict[str, Any] = {"python": platform.python_version()}
    if script is None:
        return found
    script = (cwd / script).resolve()  # Python itself looks for modules beside a link's target
    try:
        root = _root(script)
        if root is not None:
            return found | _from_repository(_Git(root), script, cwd)
        note = ""
    except GitTrouble as trouble:
        note = str(trouble)
        _log.warning("taskloom: the repository of %s was not recorded: %s", script.name, note)
    return found | {"entry_point": script.name, "working_dir": ".", "diff": _script_text(script, note)}


@dataclass(frozen=True)
class Surroundings:
    """What the code of a notebook runs in: the fields of an execution but for the script, which changes as cells run.

    diff: the changes of everything else in the repository. path: of the script in the repository; '' without one.
    """

    fields: dict[str, Any]
    diff: str = ""
    path: str = ""

    def execution(self, script: str) -> dict[str, Any]:
        """All fields, with the script as a part of the changes, or as the code itself."""
        if len(script.encode()) > MAX_CODE:
            script = f"# The notebook is not recorded: it has more than {MAX_CODE} bytes of code.\n"
        return self.fields | {"diff": f"{self.diff}{_created(self.path, script)}" if self.path else script}


def capture_surroundings(script: Path, cwd: Path) -> Surroundings:
    """As `capture_code`, of a script that is no file: it would be called so. Notebooks are left out of the changes."""
    found: dict[str, Any] = {"python": platform.python_version()}
    alone = Surroundings(found | {"entry_point": script.name, "working_dir": "."})
    try:
        root = _root(script)
        if root is None:
            return alone
        fields = _from_repository(_Git(root), script, cwd, is_file=False)
    except GitTrouble as trouble:
        _log.warning("taskloom: the repository around the notebook was not recorded: %s", trouble)
        return alone
    diff = fields.pop("diff")
    return Surroundings(found | fields, diff, script.relative_to(root).as_posix())


def _created(path: str, text: str) -> str:
    """A diff that makes a file of these lines."""
    lines = text.removesuffix("\n").split("\n")
    body = "".join(f"+{line}\n" for line in lines)
    return (
        f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n"
        f"@@ -0,0 +1,{len(lines)} @@\n{body}"
    )


def strip_credentials(url: str) -> str:
    """The remote's address without user, password and tokens; `git@host:path` keeps its user, who is no secret."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return re.sub(r"//[^/@]*@", "//", url)
    if ":" in host:
        host = f"[{host}]"
    user = f"{parts.username}@" if parts.username and parts.scheme in {"ssh", "git+ssh"} else ""
    query = "" if _SECRET_WORD.search(parts.query) else parts.query
    return urlunsplit((parts.scheme, f"{user}{host}{port}", parts.path, query, parts.fragment))


def last_pushed(folder: Path, remote: str) -> str:
    """The newest commit on HEAD's first-parent line that `remote` is known to have; empty when there is none."""
    git = _Git(folder)
    line = ["rev-list", "--first-parent", "--reverse", "HEAD", "--not", f"--remotes={remote}"]
    unpushed = git.run(*line, timeout=DIFF_TIMEOUT).decode().split()
    if not unpushed:
        return git.line("rev-parse", "--verify", "--quiet", "HEAD")
    return git.line("rev-parse", "--verify", "--quiet", f"{unpushed[0]}^")


def chosen_remote(folder: Path, branch: str) -> tuple[str, str]:
    """Name and address of the remote to fetch from: the branch's own, else `origin`, else the first; or none."""
    git = _Git(folder)
    names = git.line("remote").split("\n")
    own = git.line("config", "--get", f"branch.{branch}.remote") if branch else ""
    name = next((name for name in (own, "origin", names[0]) if name and name in names), "")
    address = git.line("remote", "get-url", "--", name) if name else ""
    if address and "://" not in address and not re.match(r"[^/]+:", address):
        address = os.path.abspath(folder / address)  # noqa: PTH100 - a remote on this machine
    return name, strip_credentials(address)


def _root(script: Path) -> Path | None:
    """The repository's root, or None when there is none around the script."""
    top = _Git(script.parent)
    try:
        said = top.run("rev-parse", "--show-toplevel")
    except GitTrouble as trouble:
        if "not a git repository" in str(trouble) or "must be run in a work tree" in str(trouble):
            return None
        if not any((folder / ".git").exists() for folder in script.parents):
            return None  # git is missing, and so is a repository
        raise
    return Path(os.fsdecode(said).removesuffix("\n"))


def _from_repository(git: _Git, script: Path, cwd: Path, *, is_file: bool = True) -> dict[str, Any]:
    head = git.line("rev-parse", "--verify", "--quiet", "HEAD")
    branch = git.line("symbolic-ref", "--quiet", "--short", "HEAD")
    name, address = chosen_remote(git.folder, branch)
    commit = last_pushed(git.folder, name) if head and address else ""
    if not commit:  # nothing of this history is on a remote: only this machine can fetch it
        address, commit = str(git.folder), head
    if not commit:
        raise GitTrouble("the repository has no commit yet")
    try:
        diff = _changes(git, commit, script, is_file)
    except _LeftOut as reason:
        diff = f"# {reason}\n"
        _log.warning("taskloom: %s", reason)
    return {
        "repository": address,
        "branch": branch,
        "commit": commit,
        "diff": diff,
        "import_paths": _import_paths(git.folder, script),
        **_entry(git.folder, script, cwd),
    }


def _import_paths(root: Path, script: Path) -> tuple[str, ...]:
    """Folders of the repository on Python's path besides the script's own: those of editable installs, mostly.

    What is installed inside the repository, a virtual environment, is no part of its code; Taskloom itself is
    what the worker brings.
    """
    found: dict[str, None] = {}
    own = Path(__file__).resolve().parents[3]
    for entry in sys.path:
        path = Path(entry).resolve() if entry else None
        if path is None or path in {script.parent, own} or not path.is_relative_to(root) or not path.is_dir():
            continue
        if not any(path.is_relative_to(Path(prefix).resolve()) for prefix in (sys.prefix, sys.base_prefix)):
            found[os.path.relpath(path, root)] = None
    return tuple(found)


def _changes(git: _Git, base: str, script: Path, is_file: bool) -> str:
    """Everything since `base` that git knows of, and the entry script. Whole, or `_LeftOut`."""
    diff = _diff(git, base, skip="" if is_file else "*.ipynb")
    if is_file and not git.run("ls-files", "--", os.path.relpath(script, git.folder)):
        diff += _new_file(git, script)
    if (size := len(diff.encode())) > MAX_CODE:
        raise _too_large(size)
    _warn_of_untracked(git, script)
    return diff


def _warn_of_untracked(git: _Git, script: Path) -> None:
    """Modules that are in use and that git was never told of will be missing where the task runs again."""
    told = git.run("ls-files", "--others", "--exclude-standard", "-z", "--", "*.py", literal=False)
    untracked = {str(git.folder / os.fsdecode(name)) for name in told.split(b"\0") if name} - {str(script)}
    used = (
        {getattr(module, "__file__", None) for module in list(sys.modules.values())} if untracked else set[Any]()
    )
    missing = sorted(os.path.relpath(file, git.folder) for file in untracked & used)
    if missing:
        _log.warning("taskloom: git does not track %s: not recorded with the task", ", ".join(missing[:10]))


def _entry(root: Path, script: Path, cwd: Path) -> dict[str, str]:
    """Entry point and working folder. A start from outside the repository is told as one from its root."""
    place = cwd.resolve()
    if not place.is_relative_to(root):
        place = root
    module = _started_module(script)
    if module and place == root and cwd.resolve() != root:
        place = _import_root(script, module)
    entry = f"-m {module}" if module else os.path.relpath(script, place)
    return {"entry_point": entry, "working_dir": os.path.relpath(place, root)}


def _started_module(script: Path) -> str:
    """`pkg.mod` when this process was started as `python -m pkg.mod`, and `script` is that module."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None)
    if spec is None or not spec.name or not file or Path(file).resolve() != script:
        return ""
    return spec.name.removesuffix(".__main__")


def _import_root(script: Path, module: str) -> Path:
    depth = module.count(".") + (1 if script.name == "__main__.py" else 0)
    return script.parents[depth]


def _diff(git: _Git, base: str, *paths: str, renames: bool = True, skip: str = "") -> str:
    """Changes of the work tree since `base`, as text that `git apply` takes. `skip`: a wildcard of names."""
    options = [*_DIFF] if renames else [*_DIFF, "--no-renames"]
    places = [*paths, *([f":(top,exclude){skip}"] if skip else [])]
    raw = git.run(*options, base, "--", *places, timeout=DIFF_TIMEOUT, literal=not skip)
    if len(raw) > MAX_CODE:
        raise _too_large(len(raw))
    text = _text(raw)
    if text is not None:
        return text
    if paths:
        return _binary_diff(git, base, paths[0])
    names = git.run("diff", "--name-only", "-z", "--no-renames", "--ignore-submodules=all", base, "--")
    changed = [os.fsdecode(name) for name in names.split(b"\0") if name]
    changed = [name for name in changed if not (skip and fnmatch(name, skip))]
    return "".join(_diff(git, base, name, renames=False) for name in changed)


def _binary_diff(git: _Git, base: str, path: str) -> str:
    """The change of one file that is not UTF-8 text, told as a binary patch."""
    with tempfile.NamedTemporaryFile("w", suffix=".attributes") as attributes:
        attributes.write("* -diff\n")
        attributes.flush()
        setting = f"core.attributesFile={attributes.name}"
        raw = git.run("-c", setting, *_DIFF, "--no-renames", base, "--", path, timeout=DIFF_TIMEOUT)
    text = _text(raw)
    return _told(text, path)


def _new_file(git: _Git, script: Path) -> str:
    """An untracked entry script as a diff that creates it."""
    path = os.path.relpath(script, git.folder)
    raw = git.run(*_DIFF, "--no-index", "--", os.devnull, path, ok=(0, 1))
    text = _text(raw)
    return _told(text, path)


def _text(raw: bytes) -> str | None:
    """None for bytes that a text field cannot hold unchanged."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _told(text: str | None, path: str) -> str:
    if text is None:
        raise _LeftOut(f"The changes are not recorded: {path} is not UTF-8 text and is marked as text in git.")
    return text


def _too_large(size: int) -> _LeftOut:
    return _LeftOut(
        f"The changes are not recorded: they have {size} bytes, more than {MAX_CODE}. "
        "Commit and push them (or the large file among them) to make the task repeatable."
    )


def _script_text(script: Path, note: str) -> str:
    """The script as text, in UTF-8 whatever it was; a note becomes its last line."""
    try:
        raw = script.read_bytes()
        if len(raw) > MAX_CODE:
            return f"# The script is not recorded: it has {len(raw)} bytes, more than {MAX_CODE}.\n"
        text = _text(raw)
        if text is None:
            with tokenize.open(script) as file:
                lines = file.read().splitlines(keepends=True)
            text = "".join([*(_CODING.sub(r"\1utf-8", line) for line in lines[:2]), *lines[2:]])
    except (OSError, SyntaxError, UnicodeError) as error:
        return f"# The script {script.name} could not be recorded: {error}\n"
    if not note:
        return text
    return f"{text.rstrip()}\n# Taskloom recorded this file alone: {note}\n"


def _environment() -> dict[str, str]:
    """The user's own, without what would point git elsewhere or start a program for it."""
    unwanted: Sequence[str] = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_EXTERNAL_DIFF")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",  # the index of the user's own git command is left in peace
        "GIT_PAGER": "cat",
        "LC_ALL": "C",
    }
