"""Which packages the run uses: those that its own code imports, with exact versions, as a requirements.txt.

Own code is the script and the modules beside it that it imports, read as source (so an import inside a
function counts), and what those modules already hold in memory (so a dynamic import counts). A package that
only another package imports is left to the installer.

Origins: a package from git or from an address is written as such; one that only this machine has (an
editable project without a pushed commit, a folder) is a comment, since no other machine could install it.
Lines `# index URL` tell where packages came from when that is not the default. Credentials are taken out.

It runs in a thread beside the training loop, so no single step may hold the interpreter for long: large
sources are scanned by lines instead of parsed, and only the folders of packages that are asked for are read.
"""

from __future__ import annotations

import configparser
import dis
import functools
import json
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PathDistribution
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from taskloom.domain.execution import WORKER_BRINGS
from taskloom.sdk.capture.git import GitTrouble, chosen_remote, last_pushed, strip_credentials

MAX_FILES = 400
MAX_PARSED = 128 << 10  # bytes of one source file; parsing holds the interpreter for about 1 ms per 8 KiB
_IMPORT_LINE = re.compile(rb"^[ \t]*(?:import|from)[ \t]+([A-Za-z_][\w.]*)", re.MULTILINE)
_IMPORT_NAME = dis.opmap["IMPORT_NAME"]
_BETWEEN = frozenset({"CACHE", "TO_BOOL", "NOT_TAKEN", "COPY", "EXTENDED_ARG"})  # may stand between the others
_INDEX_VARIABLES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
    *("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX"),
)
_OWN_NAME = "taskloom"


def capture_packages(script: Path | None, source: str | None = None) -> str:
    """Text of a requirements.txt for the script (None: a console, told by what it has imported). `source`: the
    script's text when it is no file, as that of a notebook.
    """
    own = _OwnCode(script.resolve() if script else None, source)
    own.read()
    installed = _Installed()
    lines: dict[str, list[str]] = {}
    for path in installed.owners(own.imported) | installed.editable(own.files):
        package = _Package.read(path)
        lines[package.name.lower()] = package.lines(own.folder)
    body = [line for name in sorted(lines) for line in lines[name]]
    return "\n".join([_python_line(), *_index_lines(), *body]) + "\n"


def _python_line() -> str:
    kind, system = platform.python_implementation(), f"{sys.platform} {platform.machine()}"
    return f"# Python {platform.python_version()} ({kind}, {system})"


# --- what own code imports --------------------------------------------------------------------------------


@dataclass
class _OwnCode:
    """The script and the modules around it. `imported`: full names of modules that are not its own."""

    script: Path | None
    source: str | None = None
    imported: set[str] = field(default_factory=set[str])
    _seen: set[Path] = field(default_factory=set[Path])

    @property
    def files(self) -> set[Path]:
        """Sources that were read, but for the script, which needs no installing."""
        return self._seen - {self.script}

    @functools.cached_property
    def folder(self) -> Path:
        """The repository's root, or the script's folder: what lies below is own code, unless it is installed."""
        start = self.script.parent if self.script else Path.cwd()
        return next((place for place in (start, *start.parents) if (place / ".git").exists()), start)

    def read(self) -> None:
        waiting: list[tuple[Path, str]] = [(self.script, "")] if self.script else []
        for name, module, file in self._loaded():
            self.imported.update(_held_modules(module))
            if file is not None:
                waiting.append((file, name))
        while waiting and len(self._seen) < MAX_FILES:
            file, package = waiting.pop()
            if file in self._seen:
                continue
            self._seen.add(file)
            told = self.source.encode() if self.source is not None and file == self.script else None
            for name in _imports(file, package, told):
                own = self._own_file(name, file.parent)
                if own is None:
                    self.imported.add(name)
                elif own not in self._seen:
                    waiting.append((own, _package_of(name, own)))
        standard = sys.stdlib_module_names
        self.imported = {name for name in self.imported if name.partition(".")[0] not in standard}

    def _loaded(self) -> Iterator[tuple[str, ModuleType, Path | None]]:
        """Modules in memory that are own code, with the package that their relative imports start from."""
        for name, module in list(sys.modules.items()):
            file = _file_of(module)
            if name == "__main__":
                yield "", module, None
            elif file is not None and self._is_own(file):
                yield _package_of(name, file), module, file

    def _is_own(self, file: Path) -> bool:
        return file.suffix == ".py" and file.is_relative_to(self.folder) and not _is_installed(file)

    def _own_file(self, name: str, beside: Path) -> Path | None:
        """The source of module `name` when it is own code: as loaded, or where Python would look for it."""
        loaded = _file_of(sys.modules.get(name))
        if loaded is not None:
            return loaded if self._is_own(loaded) else None
        parts = name.split(".")
        for root in dict.fromkeys((self.script.parent if self.script else beside, beside, self.folder)):
            place = root.joinpath(*parts)
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if self._is_own(file) and file.is_file():
                    return file
        return None


def _held_modules(module: ModuleType) -> Iterator[str]:
    """Names of modules among a module's globals: what `import_module` brought in without an import line."""
    for value in list(vars(module).values()):
        if isinstance(value, ModuleType):
            yield value.__name__


def _imports(file: Path, package: str, told: bytes | None = None) -> Iterator[str]:
    """Full names of the modules that a source file imports; `package`: what its relative imports start from; `told`:
    the text, where there is no such file.
    """
    try:
        source = file.read_bytes() if told is None else told
        if len(source) > MAX_PARSED:
            yield from (name.decode() for name in set(_IMPORT_LINE.findall(source)))
            return
        code = compile(source, str(file), "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for name, level, members in _import_statements(code):
        if not members and not level:
            yield name
            continue
        start = _relative_start(package, level)
        if start is None:
            continue
        module = ".".join(part for part in (start, name) if part)
        if module:
            yield module
        yield from (f"{module}.{member}".lstrip(".") for member in members if member != "*")


def _import_statements(whole: CodeType) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """(module, level, members) of every import; those for type checkers alone are skipped.

    Read from compiled code and not from a tree: building trees in two threads at once breaks both (a fault
    of CPython 3.11), and the script's own may be the other one.
    """
    waiting = [whole]
    while waiting:
        code = waiting.pop()
        waiting += [const for const in code.co_consts if isinstance(const, CodeType)]
        if _IMPORT_NAME in code.co_code[::2]:
            yield from _imports_of(code)


def _imports_of(code: CodeType) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    seen: list[Any] = [None, None]  # arguments of the last two instructions: level and members
    skip_to, for_checkers = 0, False
    for step in dis.get_instructions(code):
        if step.offset < skip_to:
            continue
        if step.opname == "IMPORT_NAME":
            level, members = seen
            yield str(step.argval), int(level or 0), tuple(members or ())
        if for_checkers and "JUMP" in step.opname and step.opname.endswith("IF_FALSE"):
            skip_to = int(step.argval)
        if step.opname not in _BETWEEN:
            for_checkers = step.argval == "TYPE_CHECKING"
            seen = [seen[1], step.argval]


def _relative_start(package: str, level: int) -> str | None:
    if level == 0:
        return ""
    parts = package.split(".") if package else []
    keep = len(parts) - (level - 1)
    return ".".join(parts[:keep]) if parts and keep > 0 else None


def _package_of(name: str, file: Path) -> str:
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


def _file_of(module: object) -> Path | None:
    try:
        file = vars(module).get("__file__")  # not getattr: a lazy module would load itself
    except TypeError:
        return None
    return Path(file) if isinstance(file, str) else None


def _places(module: object) -> list[Path]:
    """Where a module lies: its file, or the folders of a package without one."""
    file = _file_of(module)
    if file is not None or module is None:
        return [file] if file else []
    return [Path(place) for place in vars(module).get("__path__", ())]


@functools.cache
def _site_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[name]): None for name in ("purelib", "platlib", "stdlib", "platstdlib")})


def _is_installed(file: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(file.parts)) or any(
        file.is_relative_to(folder) for folder in _site_folders()
    )


# --- which package a module belongs to ---------------------------------------------------------------------


class _Installed:
    """The installed packages, found by their information folders; each is opened only when it is asked for."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        for place in dict.fromkeys(sys.path):
            for entry in _entries(Path(place or ".")):
                name = entry.name
                if name.endswith((".dist-info", ".egg-info")):
                    self._folders.setdefault(_plain_name(name), entry)

    def owners(self, modules: set[str]) -> set[Path]:
        """Information folders of the packages that hold these modules; a module nobody holds is left out."""
        found: set[Path] = set()
        tops: dict[str, set[str]] = {}
        for module in modules:
            tops.setdefault(module.partition(".")[0], set()).add(module)
        open_tops = {top for top in tops if not self._by_name(top, found)}
        if not open_tops:
            return found
        for folder in self._folders.values():
            record = _record(folder)
            for top in open_tops:
                if _holds(record, top) and self._is_meant(record, top, tops[top]):
                    found.add(folder)
        return found | self.editable(place for top in open_tops for place in _places(sys.modules.get(top)))

    def _by_name(self, top: str, found: set[Path]) -> bool:
        """Most packages are called as their module, which spares reading all others."""
        folder = self._folders.get(top.lower())
        if folder is None or _is_namespace(top) or not _holds(_record(folder), top):
            return False
        found.add(folder)
        return True

    @staticmethod
    def _is_meant(record: bytes, top: str, modules: set[str]) -> bool:
        """In a folder that several packages share, only those that hold an imported module are meant."""
        if not _is_namespace(top):
            return True
        deeper = (module.replace(".", "/").encode() for module in modules if "." in module)
        return any(_has_line(record, path + end) for path in deeper for end in (b"/", b".py,"))

    def editable(self, files: Iterable[Path]) -> set[Path]:
        """Packages installed as a link to a project folder in which one of these files lies."""
        linked = [file for file in files if not _is_installed(file)]
        if not linked:
            return set()
        projects = ((folder, _editable_project(folder)) for folder in self._folders.values())
        return {f for f, project in projects if project and any(p.is_relative_to(project) for p in linked)}


def _entries(place: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(place)]
    except OSError:
        return []


def _plain_name(folder_name: str) -> str:
    return folder_name.partition("-")[0].removesuffix(".egg").lower().replace(".", "_")


def _is_namespace(top: str) -> bool:
    """Whether a loaded top-level module is a folder shared by several packages (it has no file)."""
    module = sys.modules.get(top)
    return module is not None and _file_of(module) is None and hasattr(module, "__path__")


def _record(folder: Path) -> bytes:
    for name in ("RECORD", "SOURCES.txt", "top_level.txt"):
        try:
            return b"\n" + (folder / name).read_bytes()
        except OSError:
            continue
    return b""


def _holds(record: bytes, top: str) -> bool:
    name = top.encode()
    return any(_has_line(record, name + end) for end in (b"/", b".py,", b".py\n", b"\n", b".cpython-", b".abi3."))


def _has_line(record: bytes, start: bytes) -> bool:
    return b"\n" + start in record or b"\nsrc/" + start in record


def _direct_url(folder: Path) -> dict[str, Any]:
    try:
        told: Any = json.loads((folder / "direct_url.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", told) if isinstance(told, dict) else {}


def _local_path(url: str) -> Path | None:
    return Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None


def _editable_project(folder: Path) -> Path | None:
    told = _direct_url(folder)
    return _local_path(str(told.get("url", ""))) if told.get("dir_info", {}).get("editable") else None


# --- how a package is written ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Package:
    name: str
    version: str
    origin: dict[str, Any]  # the content of direct_url.json

    @staticmethod
    def read(folder: Path) -> _Package:
        metadata = PathDistribution(folder).metadata
        return _Package(metadata["Name"], metadata["Version"], _direct_url(folder))

    @property
    def pinned(self) -> str:
        return f"{self.name}=={self.version}"

    def lines(self, own_folder: Path) -> list[str]:
        """The requirement, or comments where other machines cannot have it."""
        if self.name.lower() == _OWN_NAME:
            return [f"# {self.pinned} {WORKER_BRINGS}"]
        url = str(self.origin.get("url", ""))
        below = f"#subdirectory={self.origin['subdirectory']}" if self.origin.get("subdirectory") else ""
        vcs: dict[str, str] = self.origin.get("vcs_info", {})
        if vcs.get("commit_id"):
            return [f"{self.name} @ {vcs.get('vcs', 'git')}+{strip_credentials(url)}@{vcs['commit_id']}{below}"]
        path = _local_path(url)
        if path is None:
            return [f"{self.name} @ {strip_credentials(url)}{below}" if url else self.pinned]
        if "dir_info" not in self.origin or not path.is_dir():
            return [self.pinned]  # a wheel file, or a build folder long gone
        kind = "editable" if self.origin["dir_info"].get("editable") else "folder"
        return self._from_folder(path, own_folder, kind)

    def _from_folder(self, path: Path, own_folder: Path, kind: str) -> list[str]:
        if path.is_relative_to(own_folder):
            place = os.path.relpath(path, own_folder)
            return [f"# {kind}: {self.pinned} from {place} in the repository of the script"]
        root = next((place for place in (path, *path.parents) if (place / ".git").exists()), None)
        url, commit = _pushed(root) if root else ("", "")
        if root is None or not commit:
            return [f"# {kind}: {self.pinned} from {path}"]
        place = path.relative_to(root).as_posix()
        below = "" if place == "." else f"#subdirectory={place}"
        return [
            f"# {kind}: {self.pinned} from {path}; changes after the pushed commit are not recorded",
            f"{self.name} @ git+{url}@{commit}{below}",
        ]


def _pushed(root: Path) -> tuple[str, str]:
    """Address and last pushed commit of a project's repository, in the form that installers take; or nothing."""
    try:
        remote, url = chosen_remote(root, "")
        if not remote:
            return "", ""
        if "://" not in url:
            url = f"file://{url}" if url.startswith("/") else "ssh://" + url.replace(":", "/", 1)
        return url, last_pushed(root, remote)
    except GitTrouble:
        return "", ""


def _index_lines() -> list[str]:
    """Package indexes that this machine was told to use, without credentials."""
    told = [url for name in _INDEX_VARIABLES for url in os.environ.get(name, "").split()]
    for file in _pip_settings():
        settings = configparser.RawConfigParser()
        try:
            settings.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for option in ("index-url", "extra-index-url"):
            told += settings.get("global", option, fallback="").split()
    named = [url.partition("=")[2] if re.match(r"[\w-]+=https?:", url) else url for url in told]
    return [f"# index {url}" for url in dict.fromkeys(strip_credentials(url) for url in named)]


def _pip_settings() -> list[Path]:
    chosen = os.environ.get("PIP_CONFIG_FILE")
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    places = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    return [*places, Path(sys.prefix) / "pip.conf", *([Path(chosen)] if chosen else [])]
