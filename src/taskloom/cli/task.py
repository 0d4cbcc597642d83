"""The group `taskloom task`, and the commands that move a task from state to state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from taskloom.cli import (
    artifacts,
    changes,
    compare,
    connect,
    curves,
    details,
    elsewhere,
    follow,
    lineage,
    samples,
    search,
    verify,
)
from taskloom.cli.connect import TaskReference
from taskloom.cli.output import JsonFlag, YesFlag, confirm, hint, print_json, say, short
from taskloom.domain.status import Status
from taskloom.domain.task import ARCHIVED_TAG, Task, TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.operations import Operation
from taskloom.wire.send import Client

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; the task keeps it.")]

app = typer.Typer(help="List, show, change and run tasks.", no_args_is_help=True)
app.command("list")(search.list_tasks)
app.command("show")(details.show_task)
app.command("compare")(compare.compare)
app.command("verify")(verify.verify_task)
app.command("lineage")(lineage.show_lineage)
app.command("create")(changes.create_task)
app.command("set")(changes.set_task)
app.command("logs")(follow.show_logs)
app.command("wait")(follow.wait_for_task)
app.command("scalars")(curves.list_scalars)
app.command("plot")(curves.draw_scalar)
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(samples.app, name="samples")


@app.command("clone")
def clone_task(
    task: TaskReference,
    name: Annotated[str, typer.Option("--name", help="Name of the copy; by default 'Clone Of NAME'.")] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="Project of the copy.")] = "",
    comment: Annotated[str | None, typer.Option("--comment", help="Its comment.", show_default=False)] = None,
    json: JsonFlag = False,
) -> None:
    """Make an editable copy without results."""
    with connect.server() as client:
        body = m.TaskClone(name=name, project=project, comment=comment)
        copy = client.call(op.CLONE_TASK, body, task=connect.task_id(client, task))
    if json:
        print_json(copy)
        return
    say(f"{copy.id} {copy.project}/{copy.name}: {copy.status.value}")


@app.command("enqueue")
def enqueue_task(
    task: TaskReference,
    queue: Annotated[str, typer.Option("--queue", "-q", help="Name or id; by default 'default'.")] = "",
    create: Annotated[bool, typer.Option("--create-queue", help="Make the queue when it is not there.")] = False,
    priority: Annotated[
        int | None,
        typer.Option("--priority", "-p", min=-1000, max=1000, help="Higher goes first; else the task's own."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Put a draft into a queue, where a worker finds it."""
    with connect.server() as client:
        body = m.Enqueue(queue=queue, create=create, priority=priority)
        pending = client.call(op.ENQUEUE_TASK, body, task=connect.task_id(client, task))
        if json:
            print_json(pending)
            return
        say(f"{short(pending.id)} {pending.name}: {pending.status.value} in queue {pending.queue_name or queue}")
        if pending.status is Status.PENDING or pending.execution.sweep is not None:
            hint(client.call(op.WAITING, task=pending.id).reason)


@app.command("dequeue")
def dequeue_task(task: TaskReference, reason: ReasonOption = "", json: JsonFlag = False) -> None:
    """Take a pending task out of its queue, back to a draft."""
    _move(op.DEQUEUE_TASK, task, m.MoveRequest(reason=reason), json)


@app.command("abort")
def abort_task(task: TaskReference, reason: ReasonOption = "", json: JsonFlag = False) -> None:
    """Stop a pending or running task, with every process that it started."""
    _move(op.ABORT_TASK, task, m.MoveRequest(reason=reason), json)


@app.command("reset")
def reset_task(
    task: TaskReference,
    force: Annotated[bool, typer.Option("--force", help="Also when it is pending or running.")] = False,
    reason: ReasonOption = "",
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Delete a task's results and make it a draft again."""
    _move(
        op.RESET_TASK,
        task,
        m.MoveRequest(reason=reason, force=force),
        json,
        before=lambda found: confirm(f"Delete the results of {found.project}/{found.name}?", yes),
    )


@app.command("publish")
def publish_task(task: TaskReference, reason: ReasonOption = "", json: JsonFlag = False) -> None:
    """Make an ended task read-only for ever."""
    _move(op.PUBLISH_TASK, task, m.MoveRequest(reason=reason), json)


@app.command("archive")
def archive_task(
    task: TaskReference,
    undo: Annotated[bool, typer.Option("--undo", help="Bring it back into the lists.")] = False,
    json: JsonFlag = False,
) -> None:
    """Take a task out of the lists without deleting anything."""
    with connect.server() as client:
        found = connect.find_task(client, task)
        others = tuple(tag for tag in found.system_tags if tag != ARCHIVED_TAG)
        edit = TaskEdit(system_tags=others if undo else (*others, ARCHIVED_TAG))
        after = client.call(op.EDIT_TASK, m.TaskEditRequest(edit=edit), task=found.id)
    if json:
        print_json(after)
        return
    say(f"{short(after.id)} {after.name}: {'back in the lists' if undo else 'archived'}")


@app.command("delete")
def delete_task(
    task: TaskReference,
    force: Annotated[bool, typer.Option("--force", help="Also when it is pending, running or published.")] = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Delete a task with its results and bytes, also those in its own folder at a storage destination."""
    with connect.server() as client:
        found = connect.find_task(client, task)
        confirm(f"Delete {found.project}/{found.name} ({found.status.value}) with all its results?", yes)
        done = client.call(op.DELETE_TASK, query=m.TaskDelete(force=force), task=found.id)
    removal = elsewhere.remove_elsewhere(done.external)
    if json:
        print_json(removal)
        return
    say(f"{short(found.id)} {found.name}: deleted")
    elsewhere.tell_left(removal)


def _move(
    operation: Operation[m.MoveRequest, Task],
    reference: str,
    body: m.MoveRequest,
    json: bool,
    before: Callable[[Task], None] | None = None,
) -> None:
    with connect.server() as client:
        identifier = _agreed(client, reference, before)
        after = client.call(operation, body, task=identifier)
    if json:
        print_json(after)
        return
    message = f" ({after.status_message})" if after.status_message and after.status is Status.RUNNING else ""
    say(f"{short(after.id)} {after.name}: {after.status.value}{message}")


def _agreed(client: Client, reference: str, before: Callable[[Task], None] | None) -> str:
    if before is None:
        return connect.task_id(client, reference)
    found = connect.find_task(client, reference)
    before(found)
    return found.id
