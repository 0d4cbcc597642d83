"""`taskloom task compare`: what differs between tasks, parameters first, then results, code and packages.

`compare_tasks` is pure and also serves `examples/demo.py`; nothing here asks the server for more than tasks.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import typer

from taskloom.cli import connect
from taskloom.cli.output import JsonFlag, duration, number, print_json, print_table, say, short
from taskloom.domain.execution import Execution
from taskloom.domain.metrics import WireNumber
from taskloom.domain.parameters import flatten
from taskloom.domain.task import Task

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(.*?)\s*$")


class Compared(msgspec.Struct, frozen=True):
    """One of the tasks, with what heads its column."""

    id: str
    name: str
    project: str
    status: str
    seconds: float | None


class Comparison(msgspec.Struct, frozen=True):
    """Lists have one item per task, in the order of `tasks`; None where a task has nothing of that name.

    parameters, configuration, execution, packages hold only what differs; metrics hold the last value of
    every series but the machine's. Long texts (changes, configuration) stand as a digest.
    """

    tasks: list[Compared]
    parameters: dict[str, list[str | None]]
    metrics: dict[str, list[WireNumber | None]]
    configuration: dict[str, list[str | None]]
    execution: dict[str, list[str | None]]
    packages: dict[str, list[str | None]]


def compare(
    tasks: Annotated[
        list[str], typer.Argument(metavar="TASK TASK", help="Two or more tasks.", show_default=False)
    ],
    everything: Annotated[bool, typer.Option("--all", help="Also the parameters that are equal.")] = False,
    json: JsonFlag = False,
) -> None:
    """Compare tasks side by side: parameters that differ, last metrics, code and packages."""
    if len(tasks) < 2:
        raise typer.BadParameter("give at least two tasks to compare")
    with connect.server() as client:
        found = [connect.find_task(client, reference) for reference in tasks]
    comparison = compare_tasks(found, everything=everything)
    if json:
        print_json(comparison)
        return
    print_comparison(comparison)


def compare_tasks(tasks: Sequence[Task], *, everything: bool = False) -> Comparison:
    """What differs between these tasks; `everything` keeps equal parameters too."""
    keep: Callable[[list[str | None]], bool] = (lambda _row: True) if everything else _differ
    return Comparison(
        tasks=[Compared(t.id, t.name, t.project, t.status.value, _seconds(t)) for t in tasks],
        parameters=_rows([{k: p.value for k, p in flatten(t.parameters).items()} for t in tasks], keep),
        metrics=_metric_rows(tasks),
        configuration=_rows([{k: _digest(c.value) for k, c in t.configuration.items()} for t in tasks], _differ),
        execution=_rows([_code(t.execution) for t in tasks], _differ),
        packages=_rows([read_packages(t.execution.packages) for t in tasks], _differ),
    )


def print_comparison(comparison: Comparison, *, first_column: str = "") -> None:
    """The tables for people; the column of a task is headed by the beginning of its id."""
    heads = [short(task.id) for task in comparison.tasks]
    times = ["" if task.seconds is None else duration(task.seconds) for task in comparison.tasks]
    print_table(
        [first_column, *heads],
        [
            ["name", *(task.name for task in comparison.tasks)],
            ["project", *(task.project for task in comparison.tasks)],
            ["status", *(task.status for task in comparison.tasks)],
            ["took", *times],
        ],
    )
    if comparison.parameters:
        _print_rows("Parameters that differ", "parameter", heads, comparison.parameters)
    else:
        say("the parameters are equal", style="dim")
    if comparison.metrics:
        shown = {name: [number(v) or None for v in row] for name, row in comparison.metrics.items()}
        _print_rows("Last metrics", "metric", heads, shown, right=heads)
    for title, column, rows in (
        ("Configuration that differs (digests)", "configuration", comparison.configuration),
        ("Code that differs", "execution", comparison.execution),
        ("Packages that differ", "package", comparison.packages),
    ):
        if rows:
            _print_rows(title, column, heads, rows)


def read_packages(requirements: str) -> dict[str, str]:
    """`numpy==2.1.0` lines as name -> what follows it; comments and options are left out."""
    found: dict[str, str] = {}
    for line in requirements.splitlines():
        bare = line.partition("#")[0] if not re.search(r"\S#", line) else line
        parts = _REQUIREMENT.match(bare)
        if parts:
            found[re.sub(r"[-_.]+", "-", parts[1]).lower()] = parts[2].removeprefix("==").strip() or "any"
    return found


def _print_rows(
    title: str,
    column: str,
    heads: Sequence[str],
    rows: dict[str, list[str | None]],
    right: Sequence[str] = (),
) -> None:
    lines = [[name, *("-" if value is None else value for value in row)] for name, row in rows.items()]
    print_table([column, *heads], lines, title=title, right=right)


def _rows(
    columns: Sequence[dict[str, str]], keep: Callable[[list[str | None]], bool]
) -> dict[str, list[str | None]]:
    names = sorted({name for column in columns for name in column})
    rows: dict[str, list[str | None]] = {name: [column.get(name) for column in columns] for name in names}
    return {name: row for name, row in rows.items() if keep(row)}


def _differ(row: list[str | None]) -> bool:
    return len(set(row)) > 1


def _metric_rows(tasks: Sequence[Task]) -> dict[str, list[WireNumber | None]]:
    columns: list[dict[str, WireNumber]] = [
        {f"{s.title}/{s.series}": s.last for s in task.metrics if not s.title.startswith(":")} for task in tasks
    ]
    names = sorted({name for column in columns for name in column})
    return {name: [column.get(name) for column in columns] for name in names}


def _code(execution: Execution) -> dict[str, str]:
    fields = ("repository", "branch", "tag", "commit", "entry_point", "working_dir", "image", "setup", "python")
    shown = {field: str(getattr(execution, field)) for field in fields if getattr(execution, field)}
    for field in ("arguments", "command"):
        if words := getattr(execution, field):
            shown[field] = " ".join(words)
    if execution.diff:
        shown["changes"] = f"{execution.diff.count(chr(10))} lines, {_digest(execution.diff)}"
    return shown


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _seconds(task: Task) -> float | None:
    if not task.started:
        return None
    return max(0.0, (task.completed or time.time()) - task.started)
