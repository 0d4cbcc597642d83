"""A small process between a provider and a program: when either side dies, nothing is left running.

It is run by its path with the bare interpreter (`python -I -S supervisor.py`) and uses the standard library
only, so that it starts in milliseconds and nothing that is installed can break it. It is the subreaper of all
that descends from the program: a process that forks twice or takes a session of its own becomes its child
and is found. It learns what to do from its standard input, one JSON document a line: first the program, then
`{"stop": GRACE_SECONDS}` any number of times. The end of that input means that the provider is dead: everything
is killed at once. It tells on standard output: `{"started": PID}` or `{"refused": WHY}`, then `{"code": N}`
or `{"signal": N}` when no process is left. How a task ends is not its business: see worker/attempt.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LEFTOVER_GRACE = 1.0  # seconds that processes have to end by themselves once the program is gone
KILL_AGAIN = 0.05


class Supervision:
    """One program with everything that descends from it."""

    def __init__(self, program: subprocess.Popen[bytes], control: int, wake: int) -> None:
        self.program = program
        self.status: int | None = None
        self.deadline: float | None = None  # when force begins
        self.told_leftovers = False
        self._control: int | None = control
        self._wake = wake
        self._unread = b""

    def run(self) -> int:
        """The program's wait status, once no process is left."""
        while self._reap():
            if self.status is not None and not self.told_leftovers:
                self._tell_leftovers()
            now = time.monotonic()
            forced = self.deadline is not None and now >= self.deadline
            if forced:
                kill_all(descendants(os.getpid()), signal.SIGKILL)
            pause = KILL_AGAIN if forced else None if self.deadline is None else self.deadline - now
            self._listen(pause)
        return self.status or 0

    def _reap(self) -> bool:
        """Whether any process is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.program.pid:
                self.status = status

    def _tell_leftovers(self) -> None:
        self.told_leftovers = True
        kill_all(descendants(os.getpid()), signal.SIGTERM)
        self._force_in(LEFTOVER_GRACE)

    def _force_in(self, seconds: float) -> None:
        moment = time.monotonic() + seconds
        self.deadline = moment if self.deadline is None else min(self.deadline, moment)

    def _listen(self, pause: float | None) -> None:
        sources = [self._wake] if self._control is None else [self._wake, self._control]
        ready, _, _ = select.select(sources, [], [], pause)
        if self._wake in ready:
            os.read(self._wake, 4096)
        if self._control is not None and self._control in ready:
            data = os.read(self._control, 65536)
            if not data:  # the provider is dead
                self._control = None
                self._force_in(0)
                return
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if self.deadline is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.program.pid, signal.SIGTERM)
        self._force_in(float(order["stop"]))


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


def tell(message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to read it
        os.write(1, json.dumps(message).encode() + b"\n")


def start(order: dict[str, Any]) -> subprocess.Popen[bytes]:
    """The program in a session of its own; dies with this process, should somebody kill it."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    out = os.open(order["stdout"], flags, 0o600)
    err = out if order["stderr"] == order["stdout"] else os.open(order["stderr"], flags, 0o600)
    libc = ctypes.CDLL(None)
    return subprocess.Popen(
        order["argv"],
        cwd=order["cwd"],
        env=order["env"],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - one thread here
    )


def pass_over(_number: int, _frame: object) -> None:
    """A handler instead of SIG_IGN: the program would inherit that one and never hear of SIGTERM."""


def read_order() -> dict[str, Any] | None:
    """The first line, without reading past it."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return None
        line += byte
    return json.loads(line)


def main() -> int:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, pass_over)
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    order = read_order()
    if order is None:
        return 0
    try:
        program = start(order)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        tell({"refused": f"{type(error).__name__}: {error}"})
        return 1
    tell({"started": program.pid})
    status = Supervision(program, 0, wake).run()
    tell(
        {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"code": os.waitstatus_to_exitcode(status)}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
