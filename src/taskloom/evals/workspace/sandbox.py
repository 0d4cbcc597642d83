"""What a shell of a workspace sees of this machine, as arguments of bubblewrap.

It sees the system's folders read-only, the workspace, what was mounted by request, a /tmp and a home of its own, and no
other process. It has no capabilities, and no network unless asked. Files of /etc come one by one: the server may run as
root, and so the owner of /etc/shadow may be the shell's own user. Nothing here starts a shell: see `shells`.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Isolation = Literal["bwrap", "none"]
IsolationWish = Literal["auto", "required", "none"]

PROBE_TIMEOUT = 15.0  # seconds that bubblewrap may take to show whether it works here
USER = "agent"
UID = 1000
HOME = "/home/agent"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store")
_ETC = (
    "alternatives", "bash.bashrc", "ca-certificates", "debian_version", "fonts", "gai.conf", "host.conf", "inputrc",
    "java", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "login.defs", "magic", "mime.types",
    "nsswitch.conf", "os-release", "perl", "pki/ca-trust", "pki/tls/certs", "profile", "profile.d", "protocols",
    "services", "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
_OF_THE_NETWORK = ("hosts", "resolv.conf")
# Files of /proc that the machine's root may write, whoever else has no capabilities: read-only, or not at all.
_PROC_READ_ONLY = ("acpi", "bus", "driver", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger", "tty")
_PROC_EMPTY = ("config.gz", "kcore", "keys", "kmsg", "latency_stats", "sched_debug", "timer_list", "vmallocinfo")
_RESERVED = ("/", "/proc", "/dev", "/sys", "/etc", *_SYSTEM)

_logger = logging.getLogger("taskloom.evals")


class IsolationMissing(Exception):
    """A sandbox was required, and bubblewrap is not there or does not work here."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine that the shell sees too. target: where; empty: at its own path."""

    source: str | Path
    target: str = ""
    writable: bool = False

    @property
    def place(self) -> str:
        return self.target or str(Path(self.source).absolute())


@dataclass(frozen=True)
class Sandbox:
    """A bubblewrap that works here. `extra`: flags that not every version or kernel has."""

    program: str
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """What one workspace shows. `private`: a folder of ours for what is the shell's alone. hidden: never shown."""

    root: Path
    guest: str
    private: Path
    network: bool = False
    mounts: tuple[Mount, ...] = ()
    hidden: tuple[Path, ...] = ()


def find_sandbox(wish: IsolationWish) -> Sandbox | None:
    """None: run without, as wished or, with a warning, for want of one; IsolationMissing when it is required."""
    if wish == "none":
        return None
    program = shutil.which("bwrap")
    reason = "bubblewrap (bwrap) is not installed"
    if program is not None:
        for extra in (("--disable-userns",), ()):
            reason = _try(program, extra)
            if not reason:
                return Sandbox(program, extra)
    if wish == "required":
        raise IsolationMissing(f"no sandbox for the workspace: {reason}")
    _logger.warning("the workspace's shell runs without a sandbox, as this user, isolation=none: %s", reason)
    return None


def _try(program: str, extra: Sequence[str]) -> str:
    """Why it does not work; empty when it does."""
    trial = [
        program,
        *_namespaces(network=False),
        *extra,
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ]
    try:
        done = subprocess.run([*trial, "true"], capture_output=True, timeout=PROBE_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bwrap: {error}"
    said = done.stderr.decode("utf-8", "replace").strip()[:200]
    return "" if done.returncode == 0 else said or f"bwrap ended with {done.returncode}"


def _namespaces(*, network: bool) -> list[str]:
    own = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    return [*own, *([] if network else ["--unshare-net"]), "--cap-drop", "ALL", "--die-with-parent"]


def check_guest(guest: str) -> None:
    """ValueError for a path that would lie over the system."""
    if not guest.startswith("/") or os.path.normpath(guest) != guest:
        raise ValueError(f"path {guest!r}: expected an absolute path without dots, as the shell is to see it")
    if guest in _RESERVED or guest.startswith(("/proc/", "/dev/", "/sys/")):
        raise ValueError(f"path {guest!r}: expected a path that is not the system's")
    if any(_within(guest, one) for one in ("/etc", *_SYSTEM)) and not Path(guest).exists():
        raise ValueError(f"path {guest!r}: the system's folders are read-only, expected a path outside of them")


def sandbox_arguments(sandbox: Sandbox, view: View, variables: Mapping[str, str]) -> list[str]:
    """bubblewrap's own arguments, up to the command. Later ones lie over earlier ones."""
    words = [*_namespaces(network=view.network), *sandbox.extra, "--uid", str(UID), "--gid", str(UID)]
    words += ["--hostname", "workspace", "--clearenv"]
    for name, value in variables.items():
        words += ["--setenv", name, value]
    words += [*_proc(), "--dev", "/dev", "--dir", "/run", "--dir", "/var", "--symlink", "../tmp", "/var/tmp"]  # noqa: S108
    words += _system(view)
    words += ["--bind", str(view.private / "tmp"), "/tmp"]  # noqa: S108
    words += ["--bind", str(view.private / "home"), HOME, "--bind", str(view.private / "shm"), "/dev/shm"]  # noqa: S108
    for path in _covered(view):
        words += ["--tmpfs", path]
    for mount in view.mounts:
        words += ["--bind" if mount.writable else "--ro-bind", str(Path(mount.source).absolute()), mount.place]
    words += ["--bind", str(view.root), view.guest, "--chdir", view.guest]
    return [*words, "--remount-ro", "/", "--remount-ro", "/dev"]  # they are memory


def _proc() -> list[str]:
    words = ["--proc", "/proc"]
    for name in _PROC_READ_ONLY:
        words += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for name in _PROC_EMPTY:
        if Path(f"/proc/{name}").exists():
            words += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    return words


def _system(view: View) -> list[str]:
    words: list[str] = []
    for path in _SYSTEM:
        if Path(path).is_symlink():
            words += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).is_dir():
            words += ["--ro-bind", path, path]
    for name in (*_ETC, *(_OF_THE_NETWORK if view.network else ())):
        path = f"/etc/{name}"
        if Path(path).exists():
            words += ["--ro-bind", os.path.realpath(path), path]
    for name in ("passwd", "group"):
        words += ["--ro-bind", str(view.private / "etc" / name), f"/etc/{name}"]
    return words


def _covered(view: View) -> list[str]:
    """Hidden folders that would be seen because they lie in one of the system's."""
    shown = [os.path.realpath(path) for path in _SYSTEM]
    real = [os.path.realpath(path) for path in view.hidden]
    return [path for path in real if Path(path).is_dir() and any(_within(path, one) for one in shown)]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def make_private(folder: Path) -> None:
    """The parts of a workspace that are its own and not the machine's; `folder` is new and empty."""
    for name in ("tmp", "home", "shm", "etc"):
        (folder / name).mkdir(mode=0o700)
    shell = find_shell()
    (folder / "etc" / "passwd").write_text(
        f"{USER}:x:{UID}:{UID}:{USER}:{HOME}:{shell}\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    )
    (folder / "etc" / "group").write_text(f"{USER}:x:{UID}:\nnogroup:x:65534:\n")


def find_shell() -> str:
    return next((path for path in ("/bin/bash", "/usr/bin/bash") if Path(path).exists()), "/bin/sh")


def make_variables(home: str, shell: str, given: Mapping[str, str]) -> dict[str, str]:
    """A clean environment: nothing of this process's own variables."""
    own = {"PATH": PATH, "HOME": home, "USER": USER, "LOGNAME": USER, "SHELL": shell, "LANG": "C.UTF-8"}
    return {**own, **given}
