"""A small process between a provider and a program: whatever becomes of the provider, nothing is left running.

It is run by its path with the bare interpreter (`python -I -S supervisor.py FOLDER`) and uses the standard library
only, so that it starts in milliseconds and nothing that is installed can break it. It is the subreaper of all that
descends from the program: a process that forks twice or takes a session of its own becomes its child and is found.

It outlives the provider, so what it hears and tells goes through files of FOLDER:

    standard input   the order, one JSON document: what to run and where
    lock             held as long as this process lives
    control          a FIFO that the provider holds open: one JSON document a line, `{"stop": GRACE_SECONDS}` or
                     `{"keep": SECONDS}`. No writer left means that the provider is gone: the program goes on
                     until the time of the last `keep` is over; a new writer has adopted it.
    status.json      replaced whole: `{"pid": N}` or `{"refused": WHY}`, at last `{"code": N}` or `{"signal": N}`,
                     `{"abandoned": true}` when nobody came in time
    standard output  a line at the start and at each change, for the provider that waits for it

The order may name two commands for what does not descend from this process (a container): `ask`, which asks it to end
in the place of a SIGTERM to the program's process group, and `clear`, which removes it, run when force begins and once
the program is gone. How a task ends is not its business: see worker/attempt.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import sys
import time
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LEFTOVER_GRACE = 1.0  # seconds that processes have to end by themselves once the program is gone
KILL_AGAIN = 0.05
LOOK_FOR_HOLDER = 0.2  # seconds between two looks whether somebody came back
CLEAR_SECONDS = 60.0
PIECE = 65536
ROOM = 1024  # bytes of the status file, whatever it says
CONTROL, LOCK, STATUS = "control", "lock", "status.json"

now = time.monotonic


def awake_or_asleep() -> float:
    """Seconds by a clock that nobody sets and that counts while the machine sleeps, as leases do elsewhere."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Holder:
    """The provider at the other end of the FIFO, and how long the program may go on without it."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.there = True
        self.kept_until = 0.0
        self._unread = b""

    def hear(self) -> list[dict[str, Any]]:
        """What was said since the last look; learns whether anybody is there."""
        try:
            data = os.read(self.descriptor, PIECE)
        except BlockingIOError:
            self.there = True  # silent
            return []
        self.there = bool(data)
        *lines, self._unread = (self._unread + data).split(b"\n") if data else (b"",)
        return [order for line in lines if (order := parsed(line))]

    def keep(self, seconds: float) -> None:
        self.kept_until = awake_or_asleep() + seconds

    def abandoned(self) -> bool:
        return not self.there and awake_or_asleep() >= self.kept_until


class Supervision:
    """One program with everything that descends from it."""

    def __init__(self, program: int, holder: Holder, wake: int, order: dict[str, Any]) -> None:
        self.program = program
        self.status: int | None = None
        self.abandoned = False
        self._deadline: float | None = None  # when force begins
        self._told_leftovers = self._removed_early = False
        self._holder = holder
        self._wake = wake
        self._ask, self._clear, self._env = order["ask"], order["clear"], order["command_env"]

    def run(self) -> int:
        """The program's wait status, once no process is left."""
        while self._reap():
            if self.status is not None and not self._told_leftovers:
                self._told_leftovers = True
                self._remove()
                kill_all(descendants(os.getpid()), signal.SIGTERM)
                self._force_in(LEFTOVER_GRACE)
            if not self.abandoned and self._holder.abandoned():
                self.abandoned = self.status is None
                self._force_in(0)
            forced = self._deadline is not None and now() >= self._deadline
            if forced:
                if self.status is None and not self._removed_early:
                    self._removed_early = True
                    self._remove()
                kill_all(descendants(os.getpid()), signal.SIGKILL)
            self._listen(KILL_AGAIN if forced else self._pause())
        if not self._told_leftovers:
            self._remove()
        return self.status or 0

    def _pause(self) -> float | None:
        pauses = [self._deadline - now()] if self._deadline is not None else []
        if not self._holder.there:
            pauses.append(LOOK_FOR_HOLDER)
        return max(min(pauses), 0.0) if pauses else None

    def _reap(self) -> bool:
        """Whether any process is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.program:
                self.status = status

    def _force_in(self, seconds: float) -> None:
        moment = now() + seconds
        self._deadline = moment if self._deadline is None else min(self._deadline, moment)

    def _listen(self, pause: float | None) -> None:
        # A FIFO without a writer is always readable, so it is looked at by the clock then.
        sources = [self._wake, self._holder.descriptor] if self._holder.there else [self._wake]
        ready, _, _ = select.select(sources, [], [], pause)
        if self._wake in ready:
            os.read(self._wake, 4096)
        if self._holder.descriptor in ready or not self._holder.there:
            for order in self._holder.hear():
                self._obey(order)

    def _obey(self, order: dict[str, Any]) -> None:
        if "keep" in order:
            self._holder.keep(float(order["keep"]))
        if "stop" in order:
            if self._deadline is None:
                with contextlib.suppress(OSError):
                    if self._ask:
                        self._command(self._ask)
                    else:
                        os.killpg(self.program, signal.SIGTERM)
            self._force_in(float(order["stop"]))

    def _command(self, argv: list[str]) -> int:
        """Starts a command of the engine; it is reaped with everything else."""
        quiet = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            return spawn(argv, "/", self._env, quiet, quiet)
        finally:
            os.close(quiet)

    def _remove(self) -> None:
        """Runs the order's last command; one that hangs is not waited for."""
        if not self._clear:
            return
        with contextlib.suppress(OSError):
            pid = self._command(self._clear)
            until = now() + CLEAR_SECONDS
            while now() < until:
                done, status = os.waitpid(-1, os.WNOHANG)
                if done == self.program:
                    self.status = status
                if done == pid:
                    return
                if done == 0:
                    select.select([self._wake], [], [], KILL_AGAIN)


def descendants(root: int) -> list[int]:
    """Every process below `root`, from the kernel's own table."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # gone in the meantime
        if fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    level = [root]
    while level:
        level = [child for pid in level for child in children.get(pid, [])]
        found += level
    return found


def kill_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def parsed(line: bytes) -> dict[str, Any] | None:
    """None for what a provider that was killed said half."""
    try:
        return json.loads(line)
    except ValueError:
        return None


class Telling:
    """`status.json`, and the line for who waits."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def tell(self, **news: Any) -> None:
        """On a disk that has filled meanwhile the file is written over in its place, which takes no new room."""
        self.known.update(news)
        data = json.dumps(self.known).encode()
        padded = data.ljust(ROOM)
        try:
            with open(f"{STATUS}.tmp", "wb") as file:
                file.write(padded)
            os.replace(f"{STATUS}.tmp", STATUS)  # noqa: PTH105
        except OSError:
            with contextlib.suppress(OSError), open(STATUS, "r+b") as file:
                file.write(padded)
        with contextlib.suppress(OSError):  # nobody may be left to read it
            os.write(1, data + b"\n")


def start(order: dict[str, Any]) -> int:
    """The program in a session of its own; dies with this process, should somebody kill it."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    out = os.open(order["stdout"], flags, 0o600)
    err = out if order["stderr"] == order["stdout"] else os.open(order["stderr"], flags, 0o600)
    try:
        return spawn(order["argv"], order["cwd"], order["env"], out, err)
    finally:
        for descriptor in {out, err}:
            os.close(descriptor)


def spawn(argv: list[str], cwd: str, env: dict[str, str], out: int, err: int) -> int:
    """The new process's id; OSError when it cannot be run. What this process holds open it does not get."""
    libc = ctypes.CDLL(None)
    heard, told = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
                with contextlib.suppress(OSError):  # the listing's own is closed already
                    os.set_inheritable(int(name), int(name) < 3)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)  # as the interpreter changed them
            os.chdir(cwd)
            os.execvpe(argv[0], argv, env)  # noqa: S606 - the path is the program's own
        except BaseException as error:  # told to the parent, whatever it is
            os.write(told, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        os._exit(127)
    os.close(told)
    with open(heard, "rb") as file:
        why = file.read()
    if why:
        os.waitpid(pid, 0)
        raise OSError(why.decode("utf-8", "replace"))
    return pid


def pass_over(_number: int, _frame: object) -> None:
    """A handler instead of SIG_IGN: the program would inherit that one and never hear of SIGTERM."""


def main() -> int:
    folder = sys.argv[1]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, pass_over)
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    with open(0, "rb", closefd=False) as file:
        order = json.load(file)
    os.chdir(folder)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    holder, telling = Holder(CONTROL), Telling()
    telling.tell(supervisor=os.getpid())
    try:
        program = start(order)
    except (OSError, ValueError, TypeError) as error:
        telling.tell(refused=str(error))
        return 1
    telling.tell(pid=program)
    supervision = Supervision(program, holder, wake, order)
    status = supervision.run()
    news: dict[str, Any] = {"abandoned": True} if supervision.abandoned else {}
    if os.WIFSIGNALED(status):
        telling.tell(signal=os.WTERMSIG(status), **news)
    else:
        telling.tell(code=os.waitstatus_to_exitcode(status), **news)
    return 0


if __name__ == "__main__":
    sys.exit(main())
