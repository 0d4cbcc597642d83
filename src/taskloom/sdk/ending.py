"""How the script ends, seen from inside: at its end, by an exception, by `sys.exit`, by a signal.

Hooks are put in when a task begins and taken out when it is closed; what was there before is called as if
nothing had happened, and the exit status stays what it would have been. A process that ends without any of
this (`os._exit`, `kill -9`) is seen by the shipper. Children made by a fork inherit the hooks and ignore them.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, NoReturn

from taskloom.domain.task import SHORT_TEXT
from taskloom.wire.records import EndStatus

INTERRUPTED = {130, 143, -2, -15}  # what shells and programs use for SIGINT and SIGTERM


@dataclass(frozen=True)
class Outcome:
    status: EndStatus = "completed"
    reason: str = ""
    message: str = ""


class Ending:
    """`finish` is called once, with the outcome, when the process ends while the hooks are in."""

    def __init__(self, finish: Callable[[Outcome], None]) -> None:
        self._finish = finish
        self._outcome: Outcome | None = None
        self._interrupted = False
        self._exits: list[SystemExit] = []
        self._bottom: FrameType | None = None
        self._pid = os.getpid()
        self._old_excepthook: Callable[..., Any] = sys.excepthook
        self._old_exit: Callable[..., NoReturn] = sys.exit
        self._old_quitters = {name: getattr(builtins, name, None) for name in ("exit", "quit")}
        self._old_term: Any = None
        self._term_is_ours = False

    def install(self) -> None:
        sys.excepthook = self._on_exception
        sys.exit = self._on_exit
        for name, old in self._old_quitters.items():
            if old is not None:
                setattr(builtins, name, self._on_exit)
        if threading.current_thread() is threading.main_thread():
            self._old_term = signal.getsignal(signal.SIGTERM)
            if self._old_term is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self._on_term)
                self._term_is_ours = True
        atexit.register(self._on_end)

    def undo(self) -> None:
        """Put back what was there, where nobody else has put something over it meanwhile."""
        atexit.unregister(self._on_end)
        if sys.excepthook == self._on_exception:
            sys.excepthook = self._old_excepthook
        if sys.exit == self._on_exit:
            sys.exit = self._old_exit
        for name, old in self._old_quitters.items():
            if getattr(builtins, name, None) == self._on_exit:
                setattr(builtins, name, old)
        in_main = threading.current_thread() is threading.main_thread()
        if self._term_is_ours and in_main and signal.getsignal(signal.SIGTERM) == self._on_term:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._exits.clear()
        self._bottom = None

    def interrupted_by(self, error: BaseException | None) -> None:
        """What a shell caught from the last piece of code that it ran: the outcome, if nothing runs after it."""
        self._outcome = None if error is None else outcome_of(type(error), error, error.__traceback__)

    def _on_exception(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if os.getpid() == self._pid:
            self._outcome = outcome_of(kind, error, trace)
            self._interrupted = issubclass(kind, KeyboardInterrupt)
        self._old_excepthook(kind, error, trace)

    def _on_exit(self, code: Any = None) -> NoReturn:
        """`sys.exit` as it is, with its exception remembered: whether it was caught is asked at the end."""
        error = SystemExit(code)
        if threading.current_thread() is threading.main_thread() and os.getpid() == self._pid:
            frame: FrameType | None = sys._getframe()  # pyright: ignore[reportPrivateUsage]
            while frame is not None:
                self._bottom, frame = frame, frame.f_back
            self._exits[:] = [error]
        raise error

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self._finish(Outcome("aborted", "terminated (SIGTERM)"))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)  # the status that everybody expects of a terminated process

    def _on_end(self) -> None:
        if os.getpid() != self._pid:
            return
        self._finish(self._outcome or self._exit_outcome())
        if self._interrupted:
            _interrupt_again()

    def _exit_outcome(self) -> Outcome:
        if not self._exits or not self._left_uncaught(self._exits[0]):
            return Outcome()
        code = self._exits[0].code
        if code is None or code == 0:
            return Outcome()
        if code in INTERRUPTED:
            return Outcome("aborted", f"exit status {code}")
        return Outcome("failed", f"exit status {code}" if isinstance(code, int) else str(code)[:SHORT_TEXT])

    def _left_uncaught(self, error: SystemExit) -> bool:
        """It went through the outermost frame, and that frame has not moved on since."""
        trace = error.__traceback__
        if trace is None or self._bottom is None:
            return True
        return trace.tb_frame is self._bottom and self._bottom.f_lineno == trace.tb_lineno


def _interrupt_again() -> None:
    """Python ends an interrupted program with the status of SIGINT if the last text it ran ended so.

    Whatever we import at the end runs text, too (named tuples, data classes), and made it forget.
    """
    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")  # noqa: S102 - the text is here


def outcome_of(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Outcome:
    if issubclass(kind, KeyboardInterrupt):
        return Outcome("aborted", "interrupted (Ctrl-C)")
    text = "".join(traceback.format_exception(kind, error, trace))
    if len(text) > SHORT_TEXT:
        text = f"{text[: SHORT_TEXT // 4]}\n[...]\n{text[-SHORT_TEXT // 2 :]}"
    last = "".join(traceback.format_exception_only(kind, error)).strip()
    return Outcome("failed", last[:1000], text)
