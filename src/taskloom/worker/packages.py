"""Environments: a task's packages, installed by uv once for each content, shared by all tasks that ask the same.

An environment is named by the hash of what it was made from (requirements, interpreter, platform, the linked
taskloom). It is built in its final place under an exclusive lock, because environments cannot be moved, and
holds a `.ready` file once it is whole: what a killed build left is built anew. Who runs in it holds the lock
shared, so that it is never removed under a task; the least recently used ones go when there are too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from taskloom.wire.archives import unpack
from taskloom.wire.messages import Credential
from taskloom.worker.credentials import fingerprint, helper_environment
from taskloom.worker.git import locked
from taskloom.worker.indexes import index_settings
from taskloom.worker.overlay import NAME, make_overlay, normal_name, requirements
from taskloom.worker.steps import PrepareFailed, Steps

READY = ".ready"
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_FROM_GIT = re.compile(r"(?:git\+|url = \")(https?://[^\s'\";#]+)")
_MINOR = re.compile(r"(\d+)\.(\d+)")


class Ready(msgspec.Struct, frozen=True):
    """Content of the `.ready` file; its time of change says when the environment was last used."""

    size: int
    python: str


@dataclass(frozen=True)
class Limits:
    """`count` environments and `size` bytes of them are kept at most; those in use do not go."""

    count: int = 20
    size: int = 64 * 2**30


@dataclass(frozen=True)
class Environment:
    """Where a task's Python is. `folder` None: the worker's own interpreter.

    held: descriptors of the locks that keep it from removal; whoever runs in it keeps them open.
    """

    python: Path
    folder: Path | None
    held: tuple[int, ...] = ()

    def variables(self, path: str) -> dict[str, str]:
        """What makes the environment the active one for a child, and for what the child starts."""
        found = {"PATH": f"{self.python.parent}{os.pathsep}{path}"}
        return found if self.folder is None else {**found, "VIRTUAL_ENV": str(self.folder)}


def wanted(packages: str) -> list[str]:
    """The lines for uv: without taskloom itself, which is linked, and without comments. What goes on in the next line
    (hashes) stays with its own.
    """
    kept: list[str] = []
    for line in packages.replace("\\\n", " ").splitlines():
        text = line.strip()
        match = _NAME.match(text)
        if not text or text.startswith("#") or (match and normal_name(match[1]) == NAME):
            continue
        if text.startswith(("-e ", "--editable")) and NAME in text.lower():
            continue
        kept.append(text)
    return kept


class Wish(msgspec.Struct, frozen=True):
    """What an environment shall hold.

    packages     text of a requirements.txt; constraints: of a constraints file
    lock         text of a pylock.toml
    pip          whether pip shall be there: for environments that a task's own shell lines change
    own          the worker's own packages can be imported, too
    """

    packages: str = ""
    constraints: str = ""
    lock: str = ""
    pip: bool = False
    own: bool = False

    def addresses(self) -> list[str]:
        """Where packages are fetched from with git by http."""
        return _FROM_GIT.findall(f"{self.packages}\n{self.lock}")


class Environments:
    """The environments below `folder`; shared by all slots and workers of this machine."""

    def __init__(self, folder: Path, environ: Mapping[str, str], limits: Limits | None = None) -> None:
        self._folder = folder
        self._environ = environ
        self._limits = limits or Limits()

    @contextlib.asynccontextmanager
    async def use(
        self, wish: Wish, python: str, steps: Steps, credentials: Sequence[Credential] = ()
    ) -> AsyncGenerator[Environment]:
        """An environment with these packages, kept from removal as long as the caller is inside."""
        interpreter = await self._find_python(python, steps)
        same = _minor(interpreter) == sys.version_info[:2]
        overlay = make_overlay(self._folder / "overlays", dependencies=same)
        lines = wanted(wish.packages) + ([] if same else requirements())
        wish = msgspec.structs.replace(wish, packages="\n".join(lines))
        private = sorted({fingerprint(url, credentials) for url in wish.addresses()})
        told = (lines, wish.lock, wish.constraints, wish.pip, wish.own, private)
        key = hashlib.sha256(
            repr((told, interpreter, platform.platform(), str(overlay))).encode("utf-8", "surrogateescape")
        ).hexdigest()[:40]
        folder, lock = self._folder / key, self._folder / f"{key}.lock"
        built = False
        while True:
            async with locked(lock, shared=True) as held:
                if (folder / READY).exists():
                    os.utime(folder / READY)
                    if not built:
                        steps.report.say(f"taskloom: environment {key[:12]} has these packages already")
                    await self._trim()
                    yield Environment(folder / "bin" / "python", folder, (held,))
                    return
            async with locked(lock):
                if not (folder / READY).exists():
                    await self._build(folder, interpreter[1], wish, overlay, steps, credentials)
                    built = True

    async def _find_python(self, recorded: str, steps: Steps) -> tuple[str, str]:
        """Version and path of the interpreter: the recorded minor version, else the worker's own."""
        own = (platform.python_version(), sys.executable)
        match = _MINOR.match(recorded)
        if not match or match[0] == f"{sys.version_info[0]}.{sys.version_info[1]}":
            return own
        argv = (uv_program(), "python", "find", "--system", "--no-project", match[0])
        done = await steps.run(
            argv, self._home(), {**self.uv_environment(), "UV_PYTHON_DOWNLOADS": "never"}, echo=False
        )
        path = done.output.strip().splitlines()[-1] if done.ok and done.output.strip() else ""
        if path and Path(path).is_file():
            return match[0], path
        steps.report.say(f"taskloom: Python {match[0]} is not on this machine; using {own[0]}")
        return own

    async def _build(
        self,
        folder: Path,
        interpreter: str,
        wish: Wish,
        overlay: Path,
        steps: Steps,
        credentials: Sequence[Credential],
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        uv, began = uv_program(), time.monotonic()
        count = len(wish.packages.splitlines())
        steps.report.say(
            f"taskloom: building an environment of {count} packages{' and a lock file' * bool(wish.lock)}"
        )
        venv = (uv, "venv", "--quiet", "--no-project", "--no-config", "--python", interpreter, str(folder))
        await steps.must(venv, self._home(), self.uv_environment(), "the environment cannot be made", echo=False)
        found = [*own_lines(wish), str(overlay)]
        if wish.pip:
            found += await self._add_pip(folder, steps)
        env = {**helper_environment(self.uv_environment(), credentials), "GIT_TERMINAL_PROMPT": "0"}
        for name, text in (("requirements.txt", wish.packages), ("pylock.toml", wish.lock)):
            if not text:
                continue
            (folder / name).write_text(f"{text}\n", encoding="utf-8", errors="surrogateescape")
            # A copy of the environment would compile everything anew in every attempt.
            bound = ("--compile-bytecode",) if wish.pip else ()
            if wish.constraints and name == "requirements.txt":
                (folder / "constraints.txt").write_text(f"{wish.constraints}\n", encoding="utf-8")
                bound += ("-c", str(folder / "constraints.txt"))
            install = (uv, "pip", "install", "--python", str(folder / "bin" / "python"), "-r", str(folder / name))
            done = await steps.run((*install, *bound), self._home(), env, shown=f"uv pip install -r {name}")
            if not done.ok:
                raise PrepareFailed(f"the packages cannot be installed: {explain(done.output) or done.complaint}")
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "taskloom.pth").write_text("".join(f"{line}\n" for line in found))
        fresh = folder / f"{READY}.tmp"
        fresh.write_bytes(msgspec.json.encode(Ready(size=_size(folder), python=interpreter)))
        fresh.replace(folder / READY)
        steps.report.say(f"taskloom: the environment took {time.monotonic() - began:.1f} s")

    async def _add_pip(self, folder: Path, steps: Steps) -> list[str]:
        """`pip` for an environment that changes, and the lines by which it is found: the one that comes with Python, which
        is unpacked (and compiled, as it is used) once for all environments; else one from where packages come from.
        """
        python = folder / "bin" / "python"
        wheel = bundled_pip(python)
        if wheel is None:
            words = (uv_program(), "pip", "install", "--quiet", "--no-deps", "--python", str(python), "pip")
            done = await steps.run(words, self._home(), self.uv_environment(), echo=False)
            if not done.ok:
                steps.report.say(f"taskloom: no pip in the environment ({done.complaint}); `uv pip` is there")
            return []
        place = self._folder / "pip" / wheel.stem
        if not place.exists():
            fresh = place.with_name(f"{wheel.stem}.{os.getpid()}.tmp")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            await asyncio.to_thread(unpack, wheel, fresh)
            with contextlib.suppress(OSError):  # a worker beside us was faster
                fresh.rename(place)
        for name in ("pip", "pip3"):
            script = folder / "bin" / name
            script.write_text(
                f"#!{python}\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
            )
            script.chmod(0o755)
        return [str(place)]

    async def _trim(self) -> None:
        """Removes what was not used for longest until the limits hold; what is in use stays."""
        found = sorted(self._folder.glob(f"*/{READY}"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for number, ready in enumerate(found, start=1):
            total += _told_size(ready)
            if number > self._limits.count or total > self._limits.size:
                _remove_unused(ready.parent)

    def _home(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._folder

    @property
    def folder(self) -> Path:
        return self._folder

    def uv_environment(self) -> dict[str, str]:
        """The variables under which uv is run here."""
        kept = {k: v for k, v in self._environ.items() if k not in {"VIRTUAL_ENV", "CONDA_PREFIX"}}
        return {**kept, **index_settings(kept), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def own_lines(wish: Wish) -> list[str]:
    """What a `.pth` file says so that the worker's own packages are found, those that it links itself, too."""
    paths = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    return [f"import site; site.addsitedir({path!r})" for path in paths] if wish.own else []


def bundled_pip(python: Path) -> Path | None:
    """The wheel of pip in the standard library that an environment's interpreter belongs to."""
    real = python.resolve()
    folders = [*real.parents[1].glob("lib/python3*/ensurepip/_bundled"), Path("/usr/share/python-wheels")]
    found = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"), reverse=True)]
    return found[0] if found else None


def explain(output: str) -> str:
    """uv's complaint as one line: from its error on, with the causes below it, up to the next paragraph."""
    text: list[str] = []
    for line in output.splitlines():
        bare = line.strip().lstrip("×╰│├─▶ ").removeprefix("error: ").removeprefix("cause: ")
        if not text and not line.startswith(("error:", "  ×", "×")):
            continue
        if not bare or bare.startswith("hint:"):
            break
        text.append(bare)
    return " ".join(text)[:1000]


def uv_program() -> str:
    """The uv that was installed with taskloom, else the one on the path."""
    import uv

    try:
        return os.fspath(uv.find_uv_bin())
    except FileNotFoundError:
        found = shutil.which("uv")
        if found is None:
            raise PrepareFailed("uv is not installed on this worker; packages cannot be prepared") from None
        return found


def _minor(interpreter: tuple[str, str]) -> tuple[int, int]:
    match = _MINOR.match(interpreter[0])
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _size(folder: Path) -> int:
    return sum((Path(root) / name).lstat().st_blocks * 512 for root, _, names in os.walk(folder) for name in names)


def _told_size(ready: Path) -> int:
    try:
        return msgspec.json.decode(ready.read_bytes(), type=Ready).size
    except (OSError, msgspec.DecodeError):
        return 0


def _remove_unused(folder: Path) -> None:
    with folder.with_suffix(".lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # a task runs in it
        (folder / READY).unlink(missing_ok=True)  # first: a removal that is cut short leaves no ready ruin
        shutil.rmtree(folder, ignore_errors=True)
