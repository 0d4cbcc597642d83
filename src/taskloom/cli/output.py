"""How commands speak: tables for people, JSON for programs, progress on transfers.

JSON is that of the wire structs, with every field present (the network leaves default values out, a script
that reads `.status` should not have to know). Everything that a person reads goes through `terminal.plain`,
because names and messages were written by scripts. Rich is imported when something is shown.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import typer

from taskloom.cli.terminal import plain

if TYPE_CHECKING:
    from rich.console import Console

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people.")]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
WIDE = 4096  # columns when nobody looks: a pipe should not cut names
UNBROKEN = frozenset(
    {"id", "status", "changed"}
)  # on a narrow terminal others give way: these are copied and scanned
STATUS_COLOURS = {
    "draft": "dim",
    "pending": "yellow",
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "aborted": "magenta",
    "published": "blue",
}


def screen(*, stderr: bool = False) -> Console:
    """The console to print on, as wide as the terminal or without limit."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, soft_wrap=False)


def print_json(value: Any) -> None:
    """One JSON document and a line end."""
    encoded = msgspec.json.format(msgspec.json.encode(complete(value)), indent=2)
    sys.stdout.write(encoded.decode() + "\n")
    sys.stdout.flush()


def print_json_line(value: Any) -> None:
    """A document on one line, for streams of them."""
    sys.stdout.write(msgspec.json.encode(complete(value)).decode() + "\n")
    sys.stdout.flush()


def complete(value: Any) -> Any:
    """Plain values with every field of every struct, defaults too; non-finite numbers as the wire's words."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(type(value))
        return {field.encode_name: complete(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        return {str(key): complete(item) for key, item in pairs.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [complete(item) for item in cast("Iterable[Any]", value)]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def say(text: str, *, style: str = "") -> None:
    """A line for people, on standard output."""
    screen().print(text, style=style or None)


def hint(text: str) -> None:
    """A remark beside the result: on standard error, so that pipes stay clean."""
    screen(stderr=True).print(text, style="dim")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    empty: str = "nothing found",
    right: Iterable[str] = (),
) -> None:
    """A table; cells are shown as plain text, a status in its colour. `right` names columns of numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = list(rows)
    if not lines:
        say(empty, style="dim")
        return
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    numbers = set(right)
    for column in columns:
        side = "right" if column in numbers else "left"
        table.add_column(plain(column), justify=side, overflow="fold", no_wrap=column in UNBROKEN)
    for line in lines:
        cells = [plain(str(cell)) for cell in line]
        table.add_row(*(Text(cell, style=STATUS_COLOURS.get(cell, "")) for cell in cells))
    console = screen()
    if title:
        console.print()
    console.print(table)


def print_fields(pairs: Iterable[tuple[str, object]], *, title: str = "") -> None:
    """Names with their values, one a line; empty values are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    count = 0
    for name, value in pairs:
        shown = plain(str(value))
        if shown:
            grid.add_row(Text(plain(name)), Text(shown, style=STATUS_COLOURS.get(shown, "")))
            count += 1
    if count:
        console = screen()
        if title:
            console.print(f"\n{title}", style="bold")
        console.print(grid)


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone; where nobody can answer, `--yes` is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} Nobody can be asked here: add --yes.")
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        raise typer.Exit(130) from None
    if not agreed:
        raise typer.Exit(1)


@contextmanager
def transfer(label: str, total: int | None, *, quiet: bool) -> Generator[Callable[[int], None]]:
    """A progress bar over bytes on standard error; yields the function that moves it on by so many bytes."""
    if quiet or not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as Speed

    parts = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), Speed())
    with Progress(*parts, TimeRemainingColumn(), console=screen(stderr=True), transient=True) as progress:
        line = progress.add_task(plain(label), total=total)
        yield lambda count: progress.update(line, advance=count)


# --- words for numbers ------------------------------------------------------------------------------------


def local_time(epoch: float) -> str:
    """`2025-11-21 14:03:07 (5 min ago)` in the reader's own time zone; empty for never."""
    if not epoch:
        return ""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(epoch))} ({ago(epoch)})"


def ago(epoch: float, now: float | None = None) -> str:
    """`5 min ago`, `in 2 h`; empty for never."""
    if not epoch:
        return ""
    seconds = (time.time() if now is None else now) - epoch
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def duration(seconds: float) -> str:
    """Two units at most: `0.4 s`, `12 s`, `5 min`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 10:
        return f"{minutes} min {int(seconds % 60)} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def number(value: object) -> str:
    """A metric's value in at most six digits; words (NaN) as they are."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def short(identifier: str) -> str:
    """The beginning of an id, as lists show it; commands accept it back."""
    return identifier[:8]
