"""What Python's `logging` says, recorded where the stream that it is printed to is not.

A message is recorded once, as the handler that prints it writes it, and only when some handler took it and none
printed it to a stream that is captured anyway. Nothing is added to anybody's list of handlers, since that would
change what `logging.basicConfig` and the handler of last resort do: the two methods that every message passes are
wrapped until `stop`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any, cast

Taken = list[tuple[logging.Handler, logging.LogRecord]]


class MessageTap:
    """Listens from `start` to `stop`.

    record: takes a line. boundary: keeps faults of ours away from the script. captured: the descriptors that are
    recorded anyway.
    """

    def __init__(
        self,
        record: Callable[[str], None],
        boundary: Callable[[str], AbstractContextManager[None]],
        captured: Collection[int],
    ) -> None:
        self._record = record
        self._boundary = boundary
        self._captured = captured
        self._active = False
        self._local = threading.local()
        self._methods: list[tuple[type, str, Any, Any]] = []

    def start(self) -> None:
        self._active = True
        call, handle = logging.Logger.callHandlers, logging.Handler.handle

        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            if not self._active or getattr(self._local, "taken", None) is not None:
                call(logger, record)  # a handler that logs itself is a part of what it handles
                return
            taken: Taken = []
            self._local.taken = taken
            try:
                call(logger, record)
            finally:
                self._local.taken = None
            self._tell(taken)

        def handle_record(handler: logging.Handler, record: logging.LogRecord) -> bool:
            accepted = handle(handler, record)
            taken = getattr(self._local, "taken", None)
            if accepted and taken is not None:
                # From Python 3.12 on a filter may put another record in the place of the first.
                taken.append((handler, record if accepted is True else cast("logging.LogRecord", accepted)))
            return accepted

        for owner, name, ours, before in (
            (logging.Logger, "callHandlers", call_handlers, call),
            (logging.Handler, "handle", handle_record, handle),
        ):
            setattr(owner, name, ours)
            self._methods.append((owner, name, ours, before))

    def stop(self, timeout: float) -> None:
        """Put the methods back; one that somebody wrapped meanwhile stays, and does nothing of ours any more."""
        del timeout
        self._active = False
        for owner, name, ours, before in self._methods:
            if owner.__dict__.get(name) is ours:
                setattr(owner, name, before)
        self._methods.clear()

    def _tell(self, taken: Taken) -> None:
        if not taken or any(_descriptor(handler) in self._captured for handler, _ in taken):
            return
        printing = [one for one in taken if _descriptor(one[0]) is not None]
        handler, record = (printing or taken)[0]
        with self._boundary("a message of Python's logging was not recorded"):
            self._record(_text(handler, record))


def _text(handler: logging.Handler, record: logging.LogRecord) -> str:
    try:
        return handler.format(record)
    except Exception:  # wrong arguments, which the handler itself has complained about
        return f"{record.levelname}: {record.msg}"


def _descriptor(handler: logging.Handler) -> int | None:
    """The descriptor that a handler prints to; None for files and what else is no stream of this process."""
    if not isinstance(handler, logging.StreamHandler) or isinstance(handler, logging.FileHandler):
        return None
    try:
        number = handler.stream.fileno()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    except (AttributeError, OSError, ValueError):
        return None
    return number if number in {1, 2} else None  # pyright: ignore[reportUnknownVariableType]
