"""The console: what reaches descriptors 1 and 2 is copied to files, whoever writes it.

Each descriptor is replaced by a pipe, or by a pseudo terminal where it was a terminal, and a `tee` process
reads that: it writes on to where the output went before, and appends the same bytes to the file. No thread of
ours stands between, so C code, child processes and a script that holds the interpreter are all captured, and
when the script is killed `tee` still drains what was written. The processes belong to nobody's process
group (Ctrl-C is not theirs) and are no children of the script (its own `wait` never meets them).

Should a `tee` die, the descriptors go back to what they were, and a thread passes on what still comes from
processes that were started before. Python's own buffering is set to lines while this runs, so that output is
seen when it is printed. What a notebook or a test runner puts in the place of `sys.stdout` does not write to
the descriptors and is not captured here.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import select
import shutil
import signal
import struct
import sys
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENV_STDOUT = "TASKLOOM_STDOUT"  # the name of the standard output that is recorded
PIPE_BYTES = 1 << 20
_log = logging.getLogger("taskloom")
# $1: the tee command; then its file for each stream. Streams come in on 3 and 6, go out on 4 and 7; 5 and 8
# stay open as long as the tee lives. `&` makes the tees orphans, which init looks after.
_LAUNCH = """
t=$1
[ -z "$2" ] || "$t" -a -i -p -- "$2" <&3 >&4 2>/dev/null 3<&- 4>&- 6<&- 7>&- 8>&- &
[ -z "$3" ] || "$t" -a -i -p -- "$3" <&6 >&7 2>/dev/null 3<&- 4>&- 5>&- 6<&- 7>&- &
"""

LOOK, QUIET_LOOKS = 0.02, 5


@dataclass
class _Stream:
    """One captured descriptor: `old` is what it was, `source` where its bytes are read, `life` ends with tee."""

    number: int
    file: Path
    old: int
    source: int
    sink: int
    life: int
    life_end: int
    terminal: bool
    identity: tuple[int, int, int]  # of `sink`, to know it again
    done: threading.Event


class ConsoleTee:
    """Captures stdout and stderr into `folder/stdout` and `folder/stderr`, from `start` to `stop`, once."""

    def __init__(self, folder: Path, stdout: bool = True, stderr: bool = True) -> None:
        self._folder = folder
        self._wanted = [number for number, wanted in ((1, stdout), (2, stderr)) if wanted]
        self._streams: list[_Stream] = []
        self._pid = 0
        self._buffered: list[Any] = []
        self._window: Any = None

    def start(self) -> None:
        """Begin; a descriptor that is closed is left alone. Does nothing where there is no `tee`."""
        tee, shell = shutil.which("tee"), shutil.which("sh")
        if not tee or not shell:
            _log.warning("taskloom: the console is not captured: there is no `tee` and `sh` on this machine")
            return
        _flush()
        self._pid = os.getpid()
        try:
            for number in self._wanted:
                if _is_open(number):
                    self._streams.append(_open_stream(number, self._folder))
            if self._streams:
                self._launch(shell, tee)
        except OSError as error:
            _log.warning("taskloom: the console is not captured: %s", error)
            for stream in self._streams:
                _close(stream.old, stream.source, stream.sink, stream.life, stream.life_end)
            self._streams.clear()
            return
        for stream in self._streams:
            os.dup2(stream.sink, stream.number)
            _close(stream.sink, stream.life_end)
            threading.Thread(target=_watch, args=(stream,), name="taskloom-console", daemon=True).start()
        self._buffered = [text for text in (sys.stdout, sys.stderr) if _set_line_buffering(text)]
        self._follow_window()

    @property
    def captured(self) -> frozenset[int]:
        """The descriptors that are captured now."""
        return frozenset(stream.number for stream in self._streams)

    def stop(self, timeout: float = 5.0) -> None:
        """Put the descriptors back, and wait until everything printed is in the files, or `timeout` seconds.

        A child process that still runs may go on printing: it is captured until it ends. One that holds the
        descriptor and is silent (the resource tracker of `multiprocessing` does) is not waited for.
        """
        if self._pid != os.getpid():
            return  # in a forked child the descriptors are its own business
        _flush()
        self._forget_window()
        for text in self._buffered:
            if not text.closed:
                text.reconfigure(line_buffering=False)
        streams, self._streams = self._streams, []
        for stream in streams:
            _restore(stream)
        end = time.monotonic() + timeout
        for stream in streams:
            if not _settled(stream, end):
                _log.warning("taskloom: a child process still prints; its output is captured until it ends")

    def _launch(self, shell: str, tee: str) -> None:
        files = {stream.number: str(stream.file) for stream in self._streams}
        actions: list[Any] = []
        for stream in self._streams:  # all are above 20, so that none is in the way of another
            first = 3 if stream.number == 1 else 6
            for place, fd in enumerate((stream.source, stream.old, stream.life_end), start=first):
                actions.append((os.POSIX_SPAWN_DUP2, fd, place))
        quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        foreign = [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()]
        arguments = [shell, "-c", _LAUNCH, shell, tee, files.get(1, ""), files.get(2, "")]
        pid = _spawn(shell, arguments, [*quiet, *foreign, *actions])
        threading.Thread(target=_reap, args=(pid,), name="taskloom-console", daemon=True).start()

    def _follow_window(self) -> None:
        """Tell the pseudo terminals when the window changes, unless the script does something about it itself."""
        terminals = [stream for stream in self._streams if stream.terminal]
        if not terminals or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGWINCH) not in {signal.SIG_DFL, signal.SIG_IGN}:
            return

        def resized(number: int, frame: Any) -> None:
            for stream in terminals:
                _copy_window(stream.old, stream.source)

        self._window = resized
        signal.signal(signal.SIGWINCH, resized)
        signal.siginterrupt(signal.SIGWINCH, False)

    def _forget_window(self) -> None:
        in_main = threading.current_thread() is threading.main_thread()
        if self._window is not None and in_main and signal.getsignal(signal.SIGWINCH) is self._window:
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        self._window = None


def _open_stream(number: int, folder: Path) -> _Stream:
    old = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 20)
    opened = [old]
    try:
        terminal = os.isatty(old)
        source, sink = map(_high, _terminal(old) if terminal else os.pipe())
        opened += [source, sink]
        life, life_end = map(_high, os.pipe())
    except OSError:
        _close(*opened)
        raise
    if not terminal:
        try:
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # the kernel's own size does as well
    file = folder / ("stdout" if number == 1 else "stderr")
    return _Stream(number, file, old, source, sink, life, life_end, terminal, _identity(sink), threading.Event())


def _high(fd: int) -> int:
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(fd)
    return high


def descriptor_name(fd: int) -> str:
    """Names what a descriptor leads to, for other processes that may have inherited it; '' when it is closed."""
    try:
        return ":".join(map(str, _identity(fd)))
    except OSError:
        return ""


def _identity(fd: int) -> tuple[int, int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_rdev


def _terminal(old: int) -> tuple[int, int]:
    """A pseudo terminal that passes bytes on as they are; the real one behind it does the rest."""
    source, sink = os.openpty()
    modes = termios.tcgetattr(sink)
    modes[1] &= ~termios.OPOST
    modes[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
    termios.tcsetattr(sink, termios.TCSANOW, modes)
    _copy_window(old, source)
    return source, sink


def _copy_window(old: int, source: int) -> None:
    try:
        size = fcntl.ioctl(old, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        fcntl.ioctl(source, termios.TIOCSWINSZ, size)
    except OSError:
        pass  # the terminal is gone


def _reap(pid: int) -> None:
    """The shell is gone within milliseconds; the tees are not its or our children any more."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # the script's own `wait` was faster, or it ignores its children


def _watch(stream: _Stream) -> None:
    """Wait for the end of tee. Normally nobody can write any more; else put things back and pass on the rest."""
    _read(stream.life)
    _restore(stream)
    try:
        _pass_on(stream)
    except OSError as error:
        _log.warning("taskloom: the rest of the console is not captured: %s", error)
    _close(stream.source, stream.life, stream.old)
    stream.done.set()


def _pass_on(stream: _Stream) -> None:
    """What is left in the pipe, or still comes from older child processes, until nobody holds its other end."""
    piece = _read(stream.source)
    if not piece:
        return
    with stream.file.open("ab", buffering=0) as file:
        while piece:
            for target in (stream.old, file.fileno()):
                _write(target, piece)
            piece = _read(stream.source)


def _restore(stream: _Stream) -> None:
    """The descriptor becomes what it was, unless the script has put something else there."""
    try:
        if _identity(stream.number) == stream.identity:
            os.dup2(stream.old, stream.number)
    except OSError:
        pass  # the script closed it


def _settled(stream: _Stream, end: float) -> bool:
    """Wait until tee is through: at the end of the stream, or when nothing is on its way any more."""
    quiet = 0
    size = -1
    while quiet < QUIET_LOOKS:
        if stream.done.wait(LOOK):
            return True
        if time.monotonic() >= end:
            return False
        grown = stream.file.stat().st_size
        quiet = quiet + 1 if grown == size and not _unread(stream.source) else 0
        size = grown
    return True


def _unread(source: int) -> int:
    """Bytes that tee has not yet taken; none of a pseudo terminal that is hung up."""
    try:
        return struct.unpack("i", fcntl.ioctl(source, termios.FIONREAD, bytes(4)))[0]
    except OSError:
        return 0


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:
        return b""  # a pseudo terminal without writers answers with an error


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError:
            return  # nobody reads there, or the disk is full: the other target still gets it


def _spawn(program: str, arguments: list[str], actions: list[Any]) -> int:
    defaults = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE]
    try:
        return os.posix_spawn(
            program, arguments, os.environ, file_actions=actions, setsid=True, setsigdef=defaults
        )
    except NotImplementedError:
        return os.posix_spawn(
            program, arguments, os.environ, file_actions=actions, setpgroup=0, setsigdef=defaults
        )


def _inheritable() -> list[int]:
    """Descriptors that a new process would get: one that tee kept open could make a reader wait for ever."""
    found: list[int] = []
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - a name is enough
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            continue
    return found


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _flush() -> None:
    for text in (sys.stdout, sys.stderr):
        try:
            text.flush()
        except (AttributeError, OSError, ValueError):
            pass  # None, closed, or a stand-in


def _set_line_buffering(text: Any) -> bool:
    """Whether the stream writes to a captured descriptor and now does so line by line."""
    if not isinstance(text, io.TextIOWrapper) or text.closed or text.line_buffering:
        return False
    try:
        if text.fileno() not in {1, 2}:
            return False
        text.reconfigure(line_buffering=True)
    except (OSError, ValueError):
        return False
    return True


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError:
            pass
