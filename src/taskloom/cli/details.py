"""`taskloom task show`: one task in sections, as a person wants to read it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated

import typer

from taskloom.cli import connect
from taskloom.cli.bindings import print_bindings
from taskloom.cli.connect import TaskReference
from taskloom.cli.output import (
    JsonFlag,
    ago,
    duration,
    local_time,
    number,
    print_fields,
    print_json,
    print_table,
    say,
    short,
)
from taskloom.cli.running.words import resources_told, retries_told, sweep_told
from taskloom.cli.terminal import plain_lines
from taskloom.cli.verify import verdict_line
from taskloom.domain.errors import Conflict, NotFound
from taskloom.domain.execution import Execution
from taskloom.domain.metrics import SINGLE_VALUE, SeriesSummary
from taskloom.domain.quantities import size
from taskloom.domain.queue import Waiting
from taskloom.domain.status import Status
from taskloom.domain.task import RANDOM_SEED, Task
from taskloom.wire import operations as op
from taskloom.wire.send import Client

LONG_TEXT = 12  # lines of a diff or a list of packages shown without --full


def show_task(
    task: TaskReference,
    full: Annotated[bool, typer.Option("--full", help="Whole packages, changes and configuration.")] = False,
    machine: Annotated[bool, typer.Option("--machine", help="Also the metrics of the machine.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show one task: what ran, with which parameters, and what came out."""
    with connect.server() as client:
        found = connect.find_task(client, task)
        if json:
            print_json(found)
            return
        waiting = _waiting(client, found)
        address = connect.task_address(client, found.id)
    _show_head(found, address, waiting)
    _show_execution(found.execution, full)
    _show_parameters(found)
    _show_configuration(found, full)
    _show_metrics(found, machine)
    _show_products(found)
    print_bindings(found)
    if found.status_message and found.status in {Status.FAILED, Status.ABORTED}:
        _show_text("Message", found.status_message, full=True)


def _waiting(client: Client, task: Task) -> Waiting | None:
    if task.status is not Status.PENDING:
        return None
    try:
        return client.call(op.WAITING, task=task.id)
    except (Conflict, NotFound):  # a worker took it between the two questions
        return None


def _show_head(task: Task, address: str, waiting: Waiting | None) -> None:
    say(plain_lines(f"{task.project}/{task.name}").strip(), style="bold")
    took = _took(task)
    print_fields(
        [
            ("id", task.id),
            ("address", address),
            ("status", task.status.value),
            ("reason", task.status_reason),
            ("waits", waiting.reason if waiting else ""),
            ("position", f"{waiting.position} in queue {waiting.queue}" if waiting else ""),
            ("type", task.type.value),
            ("user", task.user),
            ("tags", ", ".join(task.tags)),
            ("system tags", ", ".join(task.system_tags)),
            ("comment", task.comment),
            ("parent", task.parent),
            ("progress", "" if task.progress is None else f"{task.progress:.0f} %"),
            ("last iteration", "" if task.last_iteration is None else task.last_iteration),
            ("created", local_time(task.created)),
            ("started", local_time(task.started)),
            ("ended", local_time(task.completed)),
            ("took", took),
            ("changed", local_time(task.last_update)),
            ("queue", task.queue_name or task.queue),
            ("worker", task.worker),
            ("attempt", task.attempt or ""),
            ("random seed", task.runtime.get(RANDOM_SEED, "")),
            ("verified", verdict_line(task)),
        ]
    )
    print_fields(((name, value.value) for name, value in task.properties.items()), title="Properties")


def _took(task: Task) -> str:
    if not task.started:
        return ""
    end = task.completed or (time.time() if task.status is Status.RUNNING else 0.0)
    return duration(end - task.started) if end >= task.started else ""


def _show_execution(execution: Execution, full: bool) -> None:
    print_fields(
        [
            ("repository", execution.repository),
            ("branch", execution.branch),
            ("tag", execution.tag),
            ("commit", execution.commit),
            ("directory", execution.directory),
            ("files", execution.files[:12]),
            ("entry point", execution.entry_point),
            ("working dir", execution.working_dir if execution.entry_point or execution.command else ""),
            ("arguments", " ".join(execution.arguments)),
            ("command", " ".join(execution.command)),
            ("setup", execution.setup),
            ("run", execution.run),
            ("image", f"{execution.image} {execution.image_arguments}".strip()),
            ("mounts", ", ".join(execution.mounts)),
            ("python", execution.python),
            ("resources", resources_told(execution.resources)),
            ("time limit", duration(execution.time_limit) if execution.time_limit else ""),
            ("priority", execution.priority or ""),
            ("preemptible", "yes" if execution.preemptible else ""),
            ("retries", retries_told(execution.retries)),
            ("sweep", sweep_told(execution.sweep)),
            ("secrets", ", ".join(execution.secrets)),
            ("variables", ", ".join(f"{name}={value}" for name, value in execution.variables.items())),
        ],
        title="Execution",
    )
    if execution.diff:
        _show_text("Uncommitted changes" if execution.repository else "Script", execution.diff, full)
    if execution.packages:
        _show_text("Packages", execution.packages, full)


def _show_parameters(task: Task) -> None:
    rows = [
        (f"{section}/{name}", value.value, value.type, "yes" if value.given else "")
        for section, names in task.parameters.items()
        for name, value in names.items()
    ]
    if rows:
        print_table(["parameter", "value", "type", "given"], rows, title="Parameters")


def _show_configuration(task: Task, full: bool) -> None:
    for name, value in task.configuration.items():
        _show_text(f"Configuration {name}", value.value, full)


def _show_metrics(task: Task, machine: bool) -> None:
    summaries = [item for item in task.metrics if machine or not item.title.startswith(":")]
    single = [item for item in summaries if item.last_iteration == SINGLE_VALUE]
    series = [item for item in summaries if item.last_iteration != SINGLE_VALUE]
    if single:
        print_table(["single value", ""], [(item.series, number(item.last)) for item in single], title="Results")
    if series:
        print_summaries(series)


def print_summaries(series: Iterable[SeriesSummary]) -> None:
    """Last, minimum and maximum of each series, with the iterations at which they were."""
    print_table(
        ["metric", "last", "at", "min", "min at", "max", "max at", "points"],
        [
            (
                f"{item.title}/{item.series}",
                number(item.last),
                item.last_iteration,
                number(item.min),
                item.min_iteration,
                number(item.max),
                item.max_iteration,
                item.count,
            )
            for item in series
        ],
        title="Scalars",
        empty="no scalars",
        right=["last", "at", "min", "min at", "max", "max at", "points"],
    )


def _show_products(task: Task) -> None:
    if task.artifacts:
        print_table(
            ["artifact", "kind", "size", "made", "preview"],
            [
                (item.name, item.kind, size(item.size), ago(item.created), _shortened(item.preview))
                for item in task.artifacts
            ],
            title="Artifacts",
            right=["size"],
        )
    if task.models:
        print_table(
            ["model", "direction", "id"],
            [(item.name, item.direction, item.model) for item in task.models],
            title="Models",
        )


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return f"{line[:60]}..." if len(line) > 60 else line


def _show_text(title: str, text: str, full: bool) -> None:
    lines = plain_lines(text).rstrip().split("\n")
    shown = lines if full or len(lines) <= LONG_TEXT else lines[:LONG_TEXT]
    say(f"\n{plain_lines(title)}", style="bold")
    say("\n".join(shown))
    if len(shown) < len(lines):
        say(f"... {len(lines) - len(shown)} more lines (--full shows them)", style="dim")


def task_line(task: Task) -> str:
    """One line about a task, for lists in messages."""
    return f"{short(task.id)} {task.project}/{task.name} ({task.status.value})"
