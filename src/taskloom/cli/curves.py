"""`taskloom task scalars` and `task plot`: the numbers of a task, and one of its curves drawn with dots."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from typing import Annotated

import typer

from taskloom.cli import connect
from taskloom.cli.connect import TaskReference
from taskloom.cli.details import print_summaries
from taskloom.cli.output import JsonFlag, number, print_json, say
from taskloom.cli.terminal import plain
from taskloom.domain.errors import NotFound
from taskloom.domain.metrics import SeriesSummary, from_wire
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.send import Client

BLANK = 0x2800  # the empty braille character; its eight dots are eight bits
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bit of a dot by row and column
SMALLEST, LARGEST = 20, 160


def list_scalars(
    task: TaskReference,
    title: Annotated[str, typer.Option("--title", help="Only of this title.")] = "",
    machine: Annotated[bool, typer.Option("--machine", help="Also the metrics of the machine.")] = False,
    json: JsonFlag = False,
) -> None:
    """List a task's scalars with their last value, minimum and maximum."""
    with connect.server() as client:
        told = client.call(op.LIST_SERIES, task=connect.task_id(client, task))
    kept = [item for item in told.series if (not title or item.title == title)]
    if json:
        print_json(m.SeriesList(series=kept))
        return
    print_summaries(item for item in kept if machine or title or not item.title.startswith(":"))


def draw_scalar(
    task: TaskReference,
    series: Annotated[str, typer.Argument(metavar="TITLE/SERIES", help="Such as loss/train.", show_default=False)],
    points: Annotated[int, typer.Option("--points", min=0, help="Thinned to so many; 0 all of them.")] = 1000,
    height: Annotated[int, typer.Option("--height", min=3, max=100, help="Lines of the drawing.")] = 15,
    json: JsonFlag = False,
) -> None:
    """Draw one scalar in the terminal; --json gives its points."""
    with connect.server() as client:
        identifier = connect.task_id(client, task)
        meant = find_series(client, identifier, series)
        query = m.PointsQuery(title=meant.title, series=meant.series, points=points)
        told = client.call(op.GET_POINTS, query=query, task=identifier)
    if json:
        print_json(told)
        return
    say(plain(f"{told.title}/{told.series}  {told.count} points, last {number(meant.last)}"), style="bold")
    width = min(max(shutil.get_terminal_size().columns - 14, SMALLEST), LARGEST)
    for line in draw(told.iteration, [from_wire(value) for value in told.value], width, height):
        say(line)


def find_series(client: Client, task: str, reference: str) -> SeriesSummary:
    """The series whose title and name, joined by a slash, read so."""
    known = client.call(op.LIST_SERIES, task=task).series
    for item in known:
        if f"{item.title}/{item.series}" == reference:
            return item
    names = ", ".join(f"{item.title}/{item.series}" for item in known[:20]) or "none"
    raise NotFound(f"no scalar {reference!r} in this task; it has: {names}")


def draw(x: Sequence[float], y: Sequence[float], width: int, height: int) -> list[str]:
    """Lines of text with the curve in braille dots; non-finite values leave a gap."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    if not points:
        return ["no finite values to draw"]
    left, right = min(a for a, _ in points), max(a for a, _ in points)
    low, high = min(b for _, b in points), max(b for _, b in points)
    cells = [[0] * width for _ in range(height)]
    columns, rows = width * 2, height * 4
    previous: tuple[int, int] | None = None
    for a, b in points:
        column = _scaled(a, left, right, columns)
        row = rows - 1 - _scaled(b, low, high, rows)
        for dot_column, dot_row in _between(previous, (column, row)):
            cells[dot_row // 4][dot_column // 2] |= DOTS[dot_row % 4][dot_column % 2]
        previous = (column, row)
    labels = {0: number(float(high)), height - 1: number(float(low))}
    lines = [
        f"{labels.get(index, ''):>11} |{''.join(chr(BLANK + dots) for dots in line)}".rstrip()
        for index, line in enumerate(cells)
    ]
    ends = f"{left:g}".ljust(max(width - len(f"{right:g}"), 1)) + f"{right:g}"
    return [*lines, f"{'':>11} +{'-' * width}", f"{'':>12} {ends}"]


def _scaled(value: float, low: float, high: float, steps: int) -> int:
    if high <= low:
        return steps // 2
    share = value / 2 / (high / 2 - low / 2) - low / 2 / (high / 2 - low / 2)  # halves: no overflow at 1e308
    return min(steps - 1, max(0, int(share * (steps - 1) + 0.5)))


def _between(start: tuple[int, int] | None, end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a straight line from `start` to `end`."""
    if start is None:
        return [end]
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (
            round(start[0] + (end[0] - start[0]) * step / steps),
            round(start[1] + (end[1] - start[1]) * step / steps),
        )
        for step in range(steps + 1)
    ]
