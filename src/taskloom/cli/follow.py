"""`taskloom task logs` and `task wait`: watch a task from afar, live, through a server that may go away.

The console is raw bytes of somebody's script: it is shown through `terminal.EscapeFilter`. Following ends when
the task ends, with its outcome as the exit code. A server that does not answer for a while is waited for,
because it may be restarting; nothing is lost, since every answer is asked for by its number.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from taskloom.cli import connect
from taskloom.cli.connect import TaskReference
from taskloom.cli.output import JsonFlag, hint, print_json, print_json_line, say, short
from taskloom.cli.terminal import EscapeFilter
from taskloom.domain.errors import Conflict, NotFound, ServerAway, Unavailable
from taskloom.domain.status import ENDED, Status
from taskloom.domain.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.send import Client

LONG_POLL = 20.0  # seconds that one question stays open
PAUSE = 1.0  # between questions that the server answers at once
PATIENCE = 300.0  # seconds that a silent server is waited for
PAGE = 1000
Answer = TypeVar("Answer")
WATCHED = [
    "status",
    "status_reason",
    "status_message",
    "progress",
    "last_iteration",
    "queue",
    "queue_name",
    "worker",
]


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"
    REPORT = "report"


def show_logs(
    task: TaskReference,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task ends.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, help="Only the last so many pieces.")] = 0,
    stream: Annotated[Stream | None, typer.Option("--stream", help="Only this one.", show_default=False)] = None,
    json: JsonFlag = False,
) -> None:
    """Print the console of a task; with --follow live, and the exit code tells how it ended."""
    with connect.server() as client:
        identifier = connect.task_id(client, task)
        printer = _ConsolePrinter(json, stream)
        after = 0
        try:
            if tail:
                page = client.call(op.GET_CONSOLE, query=m.ConsoleQuery(tail=tail), task=identifier)
                after = printer.show(page, after)
            ended = _read_to_end(client, identifier, printer, after, follow)
        finally:
            printer.close()
        if follow:
            raise typer.Exit(_report_end(ended, quiet=json))


def follow_task(client: Client, task: str, *, json: bool) -> int:
    """The console until the task ends; the exit code that tells how."""
    printer = _ConsolePrinter(json, None)
    try:
        ended = _read_to_end(client, task, printer, 0, follow=True)
    finally:
        printer.close()
    return _report_end(ended, quiet=json)


def wait_for_task(
    task: TaskReference,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait; 0 without end.")] = 0.0,
    json: JsonFlag = False,
) -> None:
    """Wait until a task ends; exit code 0 when it completed, 1 when it failed, was aborted, or time ran out."""
    deadline = time.monotonic() + timeout if timeout else float("inf")
    with connect.server() as client:
        identifier = connect.task_id(client, task)
        told = ""
        found = look(client, identifier)
        while found.status not in ENDED:
            line = state_line(client, found)
            if line != told and not json:
                say(f"{time.strftime('%H:%M:%S')} {line}")
            told = line
            left = deadline - time.monotonic()
            if left <= 0:
                hint(f"task {short(identifier)} is still {found.status.value} after {timeout:g} seconds")
                break
            time.sleep(min(PAUSE, left))
            found = look(client, identifier)
        if json:
            print_json(client.call(op.GET_TASK, task=identifier))
        elif found.status in ENDED:
            say(f"{time.strftime('%H:%M:%S')} {state_line(client, found)}")
    raise typer.Exit(0 if found.status in {Status.COMPLETED, Status.PUBLISHED} else 1)


class _ConsolePrinter:
    """Writes console entries to standard output as they are meant, colours only where they can be seen."""

    def __init__(self, json: bool, stream: Stream | None) -> None:
        self._json = json
        self._stream = stream
        self._colours = bool(os.environ.get("FORCE_COLOR")) or (
            sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        )
        self._filters: dict[str, EscapeFilter] = {}
        self._at_line_start = True

    def show(self, page: m.ConsolePage, after: int) -> int:
        """Print the entries; returns the number of the last one."""
        for entry in page.entries:
            after = max(after, entry.number)
            if self._stream is None or entry.stream == self._stream:
                self._show_entry(entry)
        return after

    def close(self) -> None:
        if self._json:
            return
        for kept in self._filters.values():
            self._write(kept.flush())
        if self._colours:
            sys.stdout.write("\x1b[0m")
        if not self._at_line_start:
            sys.stdout.write("\n")
        sys.stdout.flush()

    def _show_entry(self, entry: m.ConsoleEntry) -> None:
        if self._json:
            print_json_line(entry)
            return
        screen = self._filters.setdefault(entry.stream, EscapeFilter(self._colours))
        self._write(screen.feed(entry.text))

    def _write(self, text: str) -> None:
        if text:
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
            sys.stdout.flush()
            self._at_line_start = text.endswith("\n")


def _read_to_end(client: Client, task: str, printer: _ConsolePrinter, after: int, follow: bool) -> Task | None:
    """All that is there; with `follow` until the task is over, and then the task."""
    told = ""
    while True:
        query = m.ConsoleQuery(after=after, limit=PAGE, wait=LONG_POLL if follow else 0.0)
        asked = time.monotonic()
        page = patiently(lambda query=query: client.call(op.GET_CONSOLE, query=query, task=task))
        after = printer.show(page, after)
        if page.entries:
            continue
        if not follow:
            return None
        found = look(client, task)
        if page.ended and found.status in ENDED:
            return found
        if found.status is Status.DRAFT:
            return found
        line = state_line(client, found)
        if found.status is Status.PENDING and line != told:
            hint(line)
            told = line
        if time.monotonic() - asked < PAUSE:  # not running yet: the server answered at once
            time.sleep(PAUSE)


def _report_end(task: Task | None, *, quiet: bool) -> int:
    if task is None:
        return 1
    if task.status is Status.DRAFT:
        hint("the task is a draft: nothing runs (`taskloom task enqueue` gives it to a worker)")
        return 1
    if not quiet:
        hint(f"{short(task.id)} {task.name}: {_status_words(task)}")
    return 0 if task.status in {Status.COMPLETED, Status.PUBLISHED} else 1


def look(client: Client, task: str) -> Task:
    """What changes while a task runs; NotFound when it is gone."""
    query = m.TaskQuery(ids=[task], fields=WATCHED)
    found = patiently(lambda: client.call(op.QUERY_TASKS, query)).tasks
    if not found:
        raise NotFound(f"no task {task!r} (any more)")
    return found[0]


def state_line(client: Client, task: Task) -> str:
    """Status in words: why it waits, how far it is, why it ended."""
    if task.status is Status.PENDING:
        try:
            return f"pending: {client.call(op.WAITING, task=task.id).reason}"
        except (Conflict, NotFound, ServerAway, Unavailable):
            return "pending"
    if task.status is Status.RUNNING:
        parts = ["running"]
        if task.worker:
            parts.append(f"on {task.worker}")
        if task.status_message:
            parts.append(f"({task.status_message})")
        if task.progress is not None:
            parts.append(f"{task.progress:.0f} %")
        if task.last_iteration is not None:
            parts.append(f"iteration {task.last_iteration}")
        return " ".join(parts)
    return _status_words(task)


def _status_words(task: Task) -> str:
    reason = task.status_reason or task.status_message.partition("\n")[0]
    return f"{task.status.value}: {reason}" if reason else task.status.value


def patiently(ask: Callable[[], Answer]) -> Answer:
    """The answer, through a server that is away for a while."""
    silent_since = 0.0
    while True:
        try:
            return ask()
        except (ServerAway, Unavailable) as error:
            now = time.monotonic()
            if not silent_since:
                silent_since = now
                hint(f"{error.message}; trying again")
            elif now - silent_since > PATIENCE:
                raise
            time.sleep(PAUSE)
