"""The pre-forked parent: a process that has loaded a source, and forks one child for each run that serves it.

    python -m taskloom.evals.runtimes.zygote DESCRIPTOR PATH [preload]

It talks to its owner over a socket of messages, each a JSON object: it says `ready` (with the files that it loaded, and
whether the source has to be loaded in every child because it started threads or processes) or `failed`; hears
`start` with two descriptors, of the child's report and of its output, and `stop`; says `ended`. When the socket closes,
the owner is gone: everything ends.

Every child is the subreaper of what it starts, and ends all of it before it ends itself. Of a child that could not, what
it left is given to this process, which is the children's subreaper: whatever it has that it did not fork was left
behind by such a one, and is killed. It does not thread, and loads nothing after its first fork. What a child does stands in `child`; who owns it: `local`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskloom.evals.environment.declaration import Environment
from taskloom.evals.environment.loading import load_environments
from taskloom.evals.runtimes.child import explain, serve_run
from taskloom.providers.supervisor import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    descendants,
    kill_all,
    pass_over,
)

MESSAGE = 2**17  # bytes of one message on the socket
WATCHED = 500  # files of the source whose changes are noticed
LAST_GRACE = 2.0  # seconds that children get when the owner is gone
KILL_AGAIN = 0.05
CLEAN = 79  # exit code of a child that served to its end and left nothing behind
SWEEP_SECONDS = 10.0  # after which a process that does not die of SIGKILL is no longer waited for

now = time.monotonic


class Run:
    """One child. `force`: when it is killed."""

    def __init__(self, number: int, pid: int) -> None:
        self.number, self.pid = number, pid
        self.force: float | None = None
        self.status: int | None = None
        self.gone = 0.0


class Zygote:
    def __init__(self, owner: socket.socket, make: Callable[[str, int, int], None]) -> None:
        """make: the child's whole work, of the environment's name and the two descriptors; does not return."""
        self._owner, self._make = owner, make
        self._runs: dict[int, Run] = {}  # by process id
        self._leaving: list[Run] = []  # ended, but perhaps not what they left behind
        self._owned = True
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, pass_over)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def run(self) -> None:
        """Until the owner is gone and nothing is left."""
        while True:
            self._reap()
            self._sweep()
            if not (self._owned or self._runs or self._leaving):
                return
            self._force()
            sources = [self._wake, self._owner.fileno()] if self._owned else [self._wake]
            ready, _, _ = select.select(sources, [], [], self._pause())
            if self._wake in ready and signal.SIGTERM in os.read(self._wake, 4096):
                self._let_go()
            if self._owned and self._owner.fileno() in ready:
                self._hear()

    def _pause(self) -> float | None:
        moments = [run.force - now() for run in self._runs.values() if run.force is not None]
        if self._leaving or any(moment <= 0 for moment in moments):
            return KILL_AGAIN
        return min(moments, default=None)

    # --- what is heard --------------------------------------------------------------------------------------

    def _hear(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._owner, MESSAGE, 2)
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._let_go()
            return
        order = json.loads(data)
        if "start" in order:
            self._start(int(order["start"]), str(order["name"]), *descriptors)
        elif "stop" in order:
            for run in self._runs.values():
                if run.number == order["stop"]:
                    self._stop(run, float(order["grace"]))

    def _let_go(self) -> None:
        """The owner is gone, or this process is asked to end."""
        self._owned = False
        self._owner.close()
        for run in self._runs.values():
            self._stop(run, LAST_GRACE)

    def _start(self, number: int, name: str, report: int, output: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        # A child that is told to end before it has its own handlers must not take that for this process's business.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            pid = os.fork()
        except OSError as error:
            os.write(report, json.dumps({"lost": f"no process can be started: {error}"}).encode() + b"\n")
            tell(self._owner, {"ended": number, "code": 1})
        else:
            if pid == 0:
                self._become_child(name, report, output)
            self._runs[pid] = Run(number, pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        os.close(report)
        os.close(output)

    def _become_child(self, name: str, report: int, output: int) -> None:
        """Everything that was this process's alone goes; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            prctl(PR_SET_CHILD_SUBREAPER, 1)
            self._owner.close()
            os.close(self._wake)
            os.close(self._waker)
            self._make(name, report, output)
            end_own_children()
            status = CLEAN
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        finally:
            os._exit(status)

    # --- how children end -----------------------------------------------------------------------------------

    def _stop(self, run: Run, grace: float) -> None:
        if run.force is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGTERM)
        moment = now() + grace
        run.force = moment if run.force is None else min(run.force, moment)

    def _force(self) -> None:
        for run in self._runs.values():
            if run.force is not None and now() >= run.force:
                kill_all([*descendants(run.pid), run.pid], signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            run = self._runs.pop(pid, None)
            if run is not None:
                run.status, run.gone = status, now()
                if os.WIFEXITED(status) and os.WEXITSTATUS(status) == CLEAN:
                    self._tell_end(run, {"code": 0})
                else:
                    self._leaving.append(run)

    def _sweep(self) -> None:
        """Kills what ended runs left behind; tells of them when nothing of them is there any more."""
        if not self._leaving:
            return
        strangers = [pid for pid in children() if pid not in self._runs]
        kill_all(strangers, signal.SIGKILL)
        for run in [run for run in self._leaving if not strangers or now() - run.gone > SWEEP_SECONDS]:
            self._leaving.remove(run)
            status = run.status or 0
            how = {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"code": os.WEXITSTATUS(status)}
            self._tell_end(run, how)

    def _tell_end(self, run: Run, how: dict[str, int]) -> None:
        if self._owned:
            tell(self._owner, {"ended": run.number, **how})


def children() -> list[int]:
    """The processes whose parent is this one; not those that ended and wait to be reaped."""
    own = str(os.getpid()).encode()
    found: list[int] = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if fields[1] == own and fields[0] != b"Z":
                    found.append(int(name))
    return found


def end_own_children() -> None:
    """Everything that descends from this process, which is its subreaper. Costs one call when there is nothing."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        kill_all(descendants(os.getpid()), signal.SIGKILL)
        time.sleep(KILL_AGAIN / 10)


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


def tell(owner: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it has gone, which is heard next
        owner.send(json.dumps(message).encode())


def loaded_files(folder: Path, source: Path) -> list[tuple[str, int, int]]:
    """What of the source's folder was loaded: path, time of its last change, size."""
    found = {str(source)} if source.is_file() else set[str]()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and Path(path).is_relative_to(folder) and "site-packages" not in path:
            found.add(path)
    told: list[tuple[str, int, int]] = []
    for path in sorted(found)[:WATCHED]:
        with contextlib.suppress(OSError):
            status = os.stat(path)  # noqa: PTH116
            told.append((path, status.st_mtime_ns, status.st_size))
    return told


def main() -> None:
    owner = socket.socket(fileno=int(sys.argv[1]))
    owner.set_inheritable(False)
    path, preload = Path(sys.argv[2]), sys.argv[3] == "preload"
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    folder = path if path.is_dir() else path.parent
    sys.path.insert(0, str(folder))  # for what templates import when they run
    loaded: list[Environment] = []
    told: dict[str, Any] = {"ready": [], "busy": ""}
    try:
        if preload:
            loaded += load_environments(path).values()
            threads, started = threading.active_count() - 1, children()
            told["ready"] = loaded_files(folder, path)
            told["busy"] = "threads" if threads else "processes" if started else ""
            kill_all(started, signal.SIGKILL)
    except BaseException as error:  # whatever a source raises, SystemExit too
        tell(owner, {"failed": explain(error, folder)})
        sys.exit(1)
    tell(owner, told)
    if told["busy"]:
        os._exit(0)  # of no use: its owner starts another one that does not load
    gc.collect()
    gc.freeze()  # collections in children then leave these pages shared

    def make(name: str, report: int, output: int) -> None:
        chosen = [environment for environment in loaded if environment.name == name]
        serve_run(path, name, chosen[0] if len(chosen) == 1 else None, report, output)

    Zygote(owner, make).run()


if __name__ == "__main__":
    main()
