"""`taskloom task list`: filters, order and columns in, one query out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from taskloom.cli import connect
from taskloom.cli.output import JsonFlag, ago, number, print_json, print_table, short
from taskloom.domain.metrics import SeriesSummary
from taskloom.domain.status import Status
from taskloom.domain.task import ARCHIVED_TAG, Task, TaskType
from taskloom.wire import messages as m
from taskloom.wire import operations as op

_CONDITION = re.compile(r"(?P<key>\S.*?)\s*(?P<is><=|>=|!=|==|=|<|>|\bcontains\b|\bexists\b)\s*(?P<value>.*)")
_BY_NAME: dict[str, m.Comparison] = {
    "==": "=", "=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
    "contains": "contains", "exists": "exists",
}  # fmt: skip


def list_tasks(
    project: Annotated[str, typer.Option("--project", "-p", help="Only of this project and those below it.")] = "",
    status: Annotated[list[Status] | None, typer.Option("--status", "-s", help="Only in these states.")] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", "-t", help="Tags, in the tag language: a, -b, '__$and', '__$or', '__$not'."),
    ] = None,
    type: Annotated[list[TaskType] | None, typer.Option("--type", help="Only of these types.")] = None,
    search: Annotated[str, typer.Option("--search", help="A part of name, comment or id.")] = "",
    name: Annotated[str, typer.Option("--name", help="A part of the name.")] = "",
    parent: Annotated[str, typer.Option("--parent", help="Only clones and children of this task.")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", help="A condition such as 'metrics.loss/train < 0.1' or 'parameters.Args/lr = 0.1'."
        ),
    ] = None,
    sort: Annotated[
        list[str] | None,
        typer.Option("--sort", help="created, name, status, metrics.loss/test:min, ...; a leading - reverses."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", "-c", help="One more column, such as metrics.accuracy/test.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")] = 50,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out the first so many.")] = 0,
    archived: Annotated[bool, typer.Option("--archived", help="The archived ones instead.")] = False,
    json: JsonFlag = False,
) -> None:
    """List tasks, those that changed last first."""
    columns = column or []
    for key in columns:
        check_key(key)
    with connect.server() as client:
        query = m.TaskQuery(
            project=project,
            subprojects=bool(project),
            status=status or [],
            tags=tag or [],
            system_tags=[ARCHIVED_TAG] if archived else [],
            type=type or [],
            search=search,
            name=name,
            parent=[connect.task_id(client, parent)] if parent else [],
            where=[parse_condition(text) for text in where or []],
            order_by=sort or [],
            fields=[] if json else _needed_fields(columns),
            limit=limit,
            offset=offset,
        )
        found = client.call(op.QUERY_TASKS, query)
    if json:
        print_json(found)
        return
    plain_columns = ["id", "name", "project", "type", "status", "iteration", "changed", "tags"]
    print_table(
        [*plain_columns, *columns],
        [[*_row(task), *(value_of(task, key) for key in columns)] for task in found.tasks],
        empty="no tasks found",
        right=["iteration", *columns],
    )
    rest = found.total - offset - len(found.tasks)
    if rest > 0:
        connect_more = f"{len(found.tasks)} of {found.total} tasks; --limit and --offset show more"
        typer.echo(connect_more, err=True)


def parse_condition(text: str) -> m.Condition:
    """`'metrics.loss/train < 0.1'` as a Condition; a value that reads as a number is one, quotes keep it text."""
    parts = _CONDITION.fullmatch(text.strip())
    if parts is None:
        raise typer.BadParameter(
            f"--where {text!r}: expected KEY OPERATOR VALUE, as in 'metrics.loss/train < 0.1'"
        )
    key, comparison, value = parts["key"], _BY_NAME[parts["is"]], parts["value"].strip()
    check_key(key)
    if comparison == "exists":
        if value:
            raise typer.BadParameter(f"--where {text!r}: nothing may follow 'exists'")
        return m.Condition(key=key, is_=comparison)
    if not value:
        raise typer.BadParameter(f"--where {text!r}: the value is missing")
    return m.Condition(key=key, is_=comparison, value=_number_or_text(value))


def check_key(key: str) -> None:
    kind, dot, rest = key.partition(".")
    if kind not in {"parameters", "metrics"} or not dot or "/" not in rest:
        raise typer.BadParameter(f"{key!r}: expected parameters.SECTION/NAME or metrics.TITLE/SERIES[:min|:max]")


def value_of(task: Task, key: str) -> str:
    """What a column shows of a task: the parameter's text, or the series' last value, minimum or maximum."""
    kind, _, rest = key.partition(".")
    if kind == "parameters":
        section, _, name = rest.partition("/")
        parameter = task.parameters.get(section, {}).get(name)
        return parameter.value if parameter else ""
    which = "last"
    for ending in ("last", "min", "max"):
        if rest.endswith(f":{ending}"):
            rest, which = rest.removesuffix(f":{ending}"), ending
    for summary in task.metrics:
        if f"{summary.title}/{summary.series}" == rest:
            return number(_figure(summary, which))
    return ""


def _figure(summary: SeriesSummary, which: str) -> object:
    return {"last": summary.last, "min": summary.min, "max": summary.max}[which]


def _number_or_text(text: str) -> float | str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    try:
        return float(text)
    except ValueError:
        return text


def _needed_fields(columns: Sequence[str]) -> list[str]:
    fields = ["type", "last_update", "last_iteration", "progress", "tags"]
    if any(key.startswith("parameters.") for key in columns):
        fields.append("parameters")
    if any(key.startswith("metrics.") for key in columns):
        fields.append("metrics")
    return fields


def _row(task: Task) -> list[str]:
    done = "" if task.last_iteration is None else str(task.last_iteration)
    if task.progress is not None:
        done = f"{done} {task.progress:.0f} %".strip()
    changed = ago(task.last_update)
    tags = ", ".join(task.tags)
    return [short(task.id), task.name, task.project, task.type.value, task.status.value, done, changed, tags]
