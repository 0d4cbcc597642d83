"""`taskloom journal`: what this machine has recorded and the server does not have yet.

A journal is shipped by its script's own companion process; these commands look at what is left (the server was
away, the machine was switched off) and ship it from here. How shipping works is `journal.shipping`'s business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from taskloom.cli import connect
from taskloom.cli.output import JsonFlag, ago, hint, print_json, print_table, say, short, transfer
from taskloom.cli.terminal import plain
from taskloom.domain.errors import BadInput, NotFound, ServerAway, Unavailable
from taskloom.domain.quantities import size
from taskloom.journal import layout
from taskloom.wire.client import Address
from taskloom.wire.connection import data_folder, find_address

RETRY = 1.0  # seconds between two tries while the server does not answer

app = typer.Typer(help="What this machine recorded and the server does not have yet.", no_args_is_help=True)


class Unsent(msgspec.Struct, frozen=True):
    """One task's journal. `writing`: a process of it lives; `shipping`: a shipper is at work.

    bytes: about what is unsent, artifacts included. refused: why the server will not take the rest.
    """

    task: str
    name: str
    project: str
    path: str
    writers: int
    writing: bool
    shipping: bool
    offline: bool
    bytes: int
    created: float
    refused: str = ""


class UnsentList(msgspec.Struct, frozen=True):
    journals: list[Unsent]


class Shipped(msgspec.Struct, frozen=True):
    """What became of one task's journal. state: shipped, waiting, busy, refused."""

    task: str
    state: str
    message: str = ""


class ShippedList(msgspec.Struct, frozen=True):
    journals: list[Shipped]


class Imported(msgspec.Struct, frozen=True):
    task: str


class Place(msgspec.Struct, frozen=True):
    path: str


@app.command("list")
def list_journals(json: JsonFlag = False) -> None:
    """List the journals of this machine, shipped by somebody or waiting."""
    found = [look_at(folder) for folder in layout.task_folders(_root())]
    kept = [journal for journal in found if journal is not None]
    if json:
        print_json(UnsentList(kept))
        return
    print_table(
        ["task", "name", "project", "writers", "state", "unsent", "since"],
        [(short(j.task), j.name, j.project, j.writers, _state(j), size(j.bytes), ago(j.created)) for j in kept],
        empty=f"no journals at {_root()}: everything is on the server",
        right=["writers", "unsent"],
    )


@app.command("ship")
def ship_journals(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(metavar="TASK", help="Ids or their beginnings; by default all.", show_default=False),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, help="Seconds to wait for a silent server.")
    ] = 30.0,
    offline: Annotated[bool, typer.Option("--offline", help="Also offline sessions.")] = False,
    json: JsonFlag = False,
) -> None:
    """Send what waits here to the server; safe to repeat and to interrupt."""
    folders = _chosen(tasks or [])
    address = find_address()
    if address is None:
        raise ServerAway(connect.NO_SERVER)
    results: list[Shipped] = []
    for folder in folders:
        journal = look_at(folder)
        if journal is None or (journal.offline and not offline and not tasks):
            continue
        with transfer(f"{short(journal.task)} {journal.name}", journal.bytes, quiet=json) as advance:
            result = _ship(folder, address, time.monotonic() + timeout, advance)
        results.append(result)
        if not json:
            say(plain(f"{short(result.task)} {journal.name}: {result.state} {result.message}".rstrip()))
    if json:
        print_json(ShippedList(results))
    elif not results:
        hint("nothing to ship")
    if any(result.state in {"waiting", "refused"} for result in results):
        raise typer.Exit(1)


@app.command("import")
def import_session(
    session: Annotated[
        Path, typer.Argument(metavar="ZIP", help="The zipped offline session.", show_default=False)
    ],
    previous_task_id: Annotated[
        str, typer.Option("--previous-task-id", help="Continue this task instead of making a new one.")
    ] = "",
    iteration_offset: Annotated[
        int, typer.Option("--iteration-offset", help="Added to every iteration of the session.")
    ] = 0,
    json: JsonFlag = False,
) -> None:
    """Bring an offline session, zipped on another machine, to the server."""
    if not session.exists():
        raise BadInput(f"{session} is not there")
    from taskloom.sdk.offline import import_session as ship_session

    with connect.server() as client:
        previous = connect.task_id(client, previous_task_id) if previous_task_id else ""
        task = ship_session(session, client.address, previous, iteration_offset)
    if json:
        print_json(Imported(task))
        return
    say(f"{task}: imported")


@app.command("path")
def show_path(
    task: Annotated[str, typer.Argument(metavar="TASK", help="One task's journal.", show_default=False)] = "",
    json: JsonFlag = False,
) -> None:
    """Print where the journals are kept."""
    path = _chosen([task])[0] if task else _root()
    if json:
        print_json(Place(str(path)))
        return
    typer.echo(str(path))


def look_at(folder: Path) -> Unsent | None:
    """What is in a task's journal; None when it is none (any more)."""
    from taskloom.journal.reader import Reader
    from taskloom.journal.shipping import unsent_bytes

    try:
        readers = [Reader(path) for path in layout.writer_folders(folder)]
    except FileNotFoundError:  # shipped and removed meanwhile
        return None
    if not readers:
        return None
    main = readers[0].meta
    files = folder / layout.FILES_FOLDER
    spooled = sum(path.stat().st_size for path in files.iterdir()) if files.is_dir() else 0
    refused = [layout.read_marks(reader.folder).refused for reader in readers]
    return Unsent(
        task=main.task,
        name=main.name,
        project=main.project,
        path=str(folder),
        writers=len(readers),
        writing=any(reader.alive() for reader in readers),
        shipping=layout.is_locked(folder / layout.SHIP_LOCK_FILE),
        offline=main.offline,
        bytes=sum(unsent_bytes(reader) for reader in readers) + spooled,
        created=main.created,
        refused=next((text for text in refused if text), ""),
    )


def _ship(folder: Path, address: Address, deadline: float, advance: Callable[[int], None]) -> Shipped:
    """Everything that is there, or as much as goes until the deadline."""
    from taskloom.journal.post import Post
    from taskloom.journal.shipping import Shipping

    lock = layout.try_lock(folder / layout.SHIP_LOCK_FILE)
    if lock is None:
        return Shipped(folder.name, "busy", "another process is shipping it")
    notes: list[str] = []
    post = Post(address)
    shipping = Shipping(folder, post, notes.append, advance)
    try:
        shipping.finish_dead()
        while True:
            try:
                step = shipping.step()
            except (ServerAway, Unavailable) as error:
                if time.monotonic() >= deadline:
                    return Shipped(folder.name, "waiting", error.message)
                time.sleep(RETRY)
                continue
            if not step.waiting:
                break
            if not step.sent and time.monotonic() >= deadline:
                return Shipped(folder.name, "waiting", "; ".join(notes))
        gone = shipping.clean()
        refused = [layout.read_marks(reader.folder).refused for reader in shipping.readers()]
        if reason := next((text for text in refused if text), ""):
            return Shipped(folder.name, "refused", reason)
        return Shipped(folder.name, "shipped", "" if gone else "so far; a process of it still writes")
    finally:
        post.close()
        os.close(lock)


def _root() -> Path:
    return layout.journal_root(data_folder())


def _chosen(tasks: list[str]) -> list[Path]:
    """The folders that are meant, by the beginnings of their names; all of them for an empty list."""
    folders = layout.task_folders(_root())
    if not tasks:
        return folders
    chosen: list[Path] = []
    for wanted in tasks:
        found = [folder for folder in folders if folder.name.startswith(wanted)]
        if not found:
            raise NotFound(f"no journal of a task {wanted!r} at {_root()}")
        if len(found) > 1:
            listed = ", ".join(folder.name for folder in found)
            raise BadInput(f"{wanted!r} is the beginning of several: {listed}")
        chosen += found
    return chosen


def _state(journal: Unsent) -> str:
    if journal.refused:
        return f"refused: {journal.refused}"
    if journal.writing:
        return "being written"
    if journal.shipping:
        return "being shipped"
    return "offline session" if journal.offline else "waiting"
