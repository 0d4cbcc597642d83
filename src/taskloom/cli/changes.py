"""`taskloom task create` and `task set`: parameters and fields as people type them, turned into an edit.

A parameter keeps the type that the script gave it; a text that cannot be read so is refused here, before a
worker trains with it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from taskloom.cli import connect
from taskloom.cli.connect import TaskReference
from taskloom.cli.output import JsonFlag, hint, print_json, say, short
from taskloom.domain.errors import BadInput
from taskloom.domain.execution import Execution, Resources
from taskloom.domain.parameters import Parameter, Sections, cast_like, decode, encode, split_name
from taskloom.domain.task import Property, Task, TaskEdit, TaskType
from taskloom.wire import messages as m
from taskloom.wire import operations as op

Assignments = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME=VALUE", help="Parameters, such as Args/lr=0.1.", show_default=False),
]
ExecutionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--execution", "-e", help="FIELD=VALUE or FIELD=@FILE of what to run: branch=main, packages=@req.txt."
    ),
]
PropertyOption = Annotated[list[str] | None, typer.Option("--property", help="A user property NAME=VALUE.")]


def set_task(
    task: TaskReference,
    parameters: Assignments = None,
    unset: Annotated[list[str] | None, typer.Option("--unset", help="Remove this parameter.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="New name.", show_default=False)] = None,
    project: Annotated[str | None, typer.Option("--project", "-p", help="Move there.", show_default=False)] = None,
    comment: Annotated[str | None, typer.Option("--comment", help="New comment.", show_default=False)] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", "-t", help="Add this tag.")] = None,
    rm_tag: Annotated[list[str] | None, typer.Option("--rm-tag", help="Remove this tag.")] = None,
    property: PropertyOption = None,
    execution: ExecutionOption = None,
    force: Annotated[bool, typer.Option("--force", help="Also what only a draft allows.")] = False,
    json: JsonFlag = False,
) -> None:
    """Edit a task: parameters and what to run while it is a draft, everything else always."""
    texts = [split_assignment(text, "a parameter") for text in parameters or []]
    with connect.server() as client:
        found = connect.find_task(client, task)
        changed: dict[str, dict[str, Parameter | None]] = {}
        for flat, text in texts:
            section, key = split_name(flat)
            changed.setdefault(section, {})[key] = typed(found.parameters, section, key, text)
        for flat in unset or []:
            section, key = split_name(flat)
            if key not in found.parameters.get(section, {}):
                raise BadInput(f"task {found.name!r} has no parameter {section}/{key}")
            changed.setdefault(section, {})[key] = None
        edit = TaskEdit(
            name=name,
            project=project,
            comment=comment,
            add_tags=tuple(tag or ()),
            remove_tags=tuple(rm_tag or ()),
            properties={key: Property(value) for key, value in _pairs(property, "--property")} or None,
            execution=execution_fields(execution) or None,
            parameters=changed or None,
            revision=found.revision if changed and not force else None,
        )
        if edit == TaskEdit():
            raise typer.BadParameter("nothing to set: give NAME=VALUE or an option (see --help)")
        after = client.call(op.EDIT_TASK, m.TaskEditRequest(edit=edit, force=force), task=found.id)
    for section, names in changed.items():
        for key, value in names.items():
            if value is not None and key not in found.parameters.get(section, {}) and found.parameters:
                hint(f"{section}/{key} is new: the task had no parameter of that name")
    if json:
        print_json(after)
        return
    say(f"{short(after.id)} {after.name}: {_told(found, after)}")


def create_task(
    project: Annotated[str, typer.Option("--project", "-p", help="Project; made when it is not there.")],
    name: Annotated[str, typer.Option("--name", help="Name, at least 3 characters.")],
    parameters: Assignments = None,
    type: Annotated[TaskType, typer.Option("--type", help="Type of the task.")] = TaskType.TRAINING,
    comment: Annotated[str, typer.Option("--comment", help="Comment.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", "-t", help="Tag.")] = None,
    property: PropertyOption = None,
    execution: ExecutionOption = None,
    queue: Annotated[str, typer.Option("--queue", help="Also enqueue it there.")] = "",
    json: JsonFlag = False,
) -> None:
    """Make a draft without running anything, e.g. -e repository=URL -e entry_point=train.py Args/lr=0.1."""
    sections: Sections = {}
    for flat, text in [split_assignment(text, "a parameter") for text in parameters or []]:
        section, key = split_name(flat)
        sections.setdefault(section, {})[key] = Parameter(text)
    body = m.TaskCreate(
        name=name,
        project=project,
        type=type,
        comment=comment,
        tags=tuple(tag or ()),
        execution=msgspec.convert(execution_fields(execution), Execution),
        parameters=sections,
        properties={key: Property(value) for key, value in _pairs(property, "--property")},
    )
    with connect.server() as client:
        task = client.call(op.CREATE_TASK, body)
        if queue:
            task = client.call(op.ENQUEUE_TASK, m.Enqueue(queue=queue), task=task.id)
    if json:
        print_json(task)
        return
    say(f"{task.id} {task.project}/{task.name}: {task.status.value}")


def typed(sections: Sections, section: str, key: str, text: str) -> Parameter:
    """The new text with the type and description of the parameter that was there."""
    old = sections.get(section, {}).get(key)
    if old is None or not old.type:
        return Parameter(text, "", old.description if old else "", given=True)
    try:
        edited = encode(cast_like(text, decode(old)), old.description)
        return msgspec.structs.replace(edited, given=True)
    except BadInput as error:
        raise BadInput(f"parameter {section}/{key}: {error.message}", **error.details) from None


def execution_fields(assignments: Iterable[str] | None) -> dict[str, Any]:
    """`['branch=main', 'arguments=--lr 1', 'variables={"A":"1"}', 'diff=@patch']` in the forms Execution has."""
    fields: dict[str, Any] = {}
    for field, text in _pairs(assignments, "--execution"):
        if field not in Execution.__struct_fields__:
            known = ", ".join(Execution.__struct_fields__)
            raise typer.BadParameter(f"--execution {field!r}: expected one of {known}")
        value = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
        if field in {"arguments", "command"}:
            fields[field] = shlex.split(value)
        elif field in {"variables", "resources"}:
            form: Any = Resources if field == "resources" else dict[str, str]
            try:
                fields[field] = msgspec.to_builtins(msgspec.json.decode(value, type=form))
            except msgspec.DecodeError as error:
                raise typer.BadParameter(f"--execution {field}: expected a JSON object: {error}") from None
        else:
            fields[field] = value
    return fields


def split_assignment(text: str, what: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise typer.BadParameter(f"{text!r}: expected {what} as NAME=VALUE")
    return name.strip(), value


def _pairs(texts: Iterable[str] | None, option: str) -> list[tuple[str, str]]:
    return [split_assignment(text, option) for text in texts or []]


def _told(before: Task, after: Task) -> str:
    """What the edit changed, in words."""
    words = [
        f"{section}/{key} = {value.value}"
        for section, names in after.parameters.items()
        for key, value in names.items()
        if before.parameters.get(section, {}).get(key) != value
    ]
    for field in ("name", "project", "comment", "tags", "properties", "execution"):
        if getattr(before, field) != getattr(after, field):
            words.append(f"{field} changed")
    return ", ".join(words) or "saved"
