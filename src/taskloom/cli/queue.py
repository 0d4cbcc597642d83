"""`taskloom queue`: where pending tasks wait, in which order, and the workers that look there."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from taskloom.cli import connect
from taskloom.cli.connect import QueueReference, TaskReference
from taskloom.cli.output import JsonFlag, YesFlag, ago, confirm, print_fields, print_json, print_table, say, short
from taskloom.domain.queue import OnLost, Queue
from taskloom.wire import messages as m
from taskloom.wire import operations as op

FRONT, BACK = 1, -1
OnLostOption = Annotated[
    str | None,
    typer.Option("--on-lost", help="What becomes of a task whose worker fell silent: requeue or fail."),
]
AttemptsOption = Annotated[
    int | None, typer.Option("--max-attempts", min=1, help="Leases that one enqueued task may have.")
]

app = typer.Typer(help="Queues: where pending tasks wait.", no_args_is_help=True)


@app.command("list")
def list_queues(json: JsonFlag = False) -> None:
    """List the queues with what waits and what runs."""
    with connect.server() as client:
        told = client.call(op.LIST_QUEUES)
    if json:
        print_json(told)
        return
    print_table(
        ["queue", "waiting", "running", "state", "worker lost", "attempts", "description"],
        [(q.name, q.waiting, q.running, _state(q), q.on_lost, q.max_attempts, q.description) for q in told.queues],
        empty="no queues; `taskloom queue create NAME` makes one",
        right=["waiting", "running", "attempts"],
    )


@app.command("show")
def show_queue(queue: QueueReference, json: JsonFlag = False) -> None:
    """Show one queue with the tasks that wait, in order."""
    with connect.server() as client:
        told = client.call(op.GET_QUEUE, queue=queue)
    if json:
        print_json(told)
        return
    shown = told.queue
    print_fields(
        [
            ("queue", shown.name),
            ("id", shown.id),
            ("state", _state(shown)),
            ("description", shown.description),
            ("tags", ", ".join(shown.tags)),
            ("worker lost", f"{shown.on_lost}, at most {shown.max_attempts} attempts"),
            ("running", shown.running),
        ]
    )
    print_table(
        ["#", "task", "name", "project", "user", "enqueued", "attempts"],
        [
            (e.position, short(e.task), e.task_name, e.project, e.user, ago(e.enqueued), e.attempts)
            for e in told.entries
        ],
        title="Waiting",
        empty="nothing waits",
        right=["#", "attempts"],
    )


@app.command("create")
def create_queue(
    name: Annotated[str, typer.Argument(help="Name of the new queue.", show_default=False)],
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    on_lost: OnLostOption = None,
    max_attempts: AttemptsOption = None,
    json: JsonFlag = False,
) -> None:
    """Make a queue."""
    body = m.QueueCreate(
        name=name,
        description=description,
        on_lost=_policy(on_lost) or "requeue",
        max_attempts=max_attempts or 3,
    )
    with connect.server() as client:
        _told(client.call(op.CREATE_QUEUE, body), "made", json)


@app.command("edit")
def edit_queue(
    queue: QueueReference,
    name: Annotated[str | None, typer.Option("--name", help="New name.", show_default=False)] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="What it is for.", show_default=False)
    ] = None,
    on_lost: OnLostOption = None,
    max_attempts: AttemptsOption = None,
    json: JsonFlag = False,
) -> None:
    """Rename a queue or change its policy."""
    edit = m.QueueEdit(name=name, description=description, on_lost=_policy(on_lost), max_attempts=max_attempts)
    if edit == m.QueueEdit():
        raise typer.BadParameter("nothing to change: give an option (see --help)")
    with connect.server() as client:
        _told(client.call(op.EDIT_QUEUE, edit, queue=queue), "changed", json)


@app.command("pause")
def pause_queue(queue: QueueReference, json: JsonFlag = False) -> None:
    """Let nothing start from this queue; what runs goes on."""
    with connect.server() as client:
        _told(client.call(op.EDIT_QUEUE, m.QueueEdit(paused=True), queue=queue), "paused", json)


@app.command("resume")
def resume_queue(queue: QueueReference, json: JsonFlag = False) -> None:
    """Let tasks start from this queue again."""
    with connect.server() as client:
        _told(client.call(op.EDIT_QUEUE, m.QueueEdit(paused=False), queue=queue), "resumed", json)


@app.command("move")
def move_entry(
    queue: QueueReference,
    task: TaskReference,
    position: Annotated[int | None, typer.Argument(help="1 is the front.", show_default=False)] = None,
    front: Annotated[bool, typer.Option("--front", help="To the front.")] = False,
    back: Annotated[bool, typer.Option("--back", help="To the back.")] = False,
    json: JsonFlag = False,
) -> None:
    """Give a waiting task another place in its queue."""
    if (position is not None) + front + back != 1:
        raise typer.BadParameter("give a position, --front or --back")
    place = FRONT if front else BACK if back else position
    with connect.server() as client:
        body = m.EntryMove(task=connect.task_id(client, task), position=cast("int", place))
        told = client.call(op.MOVE_ENTRY, body, queue=queue)
    if json:
        print_json(told)
        return
    for entry in told.entries:
        if entry.task == body.task:
            say(f"{short(entry.task)} {entry.task_name}: number {entry.position} of {len(told.entries)}")


@app.command("delete")
def delete_queue(queue: QueueReference, yes: YesFlag = False, json: JsonFlag = False) -> None:
    """Delete an empty queue."""
    with connect.server() as client:
        found = client.call(op.GET_QUEUE, queue=queue).queue
        confirm(f"Delete the queue {found.name}?", yes)
        done = client.call(op.DELETE_QUEUE, queue=found.id)
    if json:
        print_json(done)
        return
    say(f"queue {found.name}: deleted")


@app.command("workers")
def list_workers(json: JsonFlag = False) -> None:
    """List the workers: which queues they look at and what they run."""
    with connect.server() as client:
        told = client.call(op.LIST_WORKERS)
    if json:
        print_json(told)
        return
    print_table(
        ["worker", "host", "queues", "slots", "runs", "state", "heard of", "gpus"],
        [
            (
                w.name,
                w.machine.host,
                ", ".join(w.queues),
                w.slots,
                ", ".join(short(task) for task in w.tasks),
                "silent" if not w.alive else "draining" if w.draining else "alive",
                ago(w.last_seen),
                len(w.machine.gpus) or "",
            )
            for w in told.workers
        ],
        empty="no workers; `taskloom worker --queue default` starts one",
        right=["slots"],
    )


def _state(queue: Queue) -> str:
    return "paused" if queue.paused else "open"


def _policy(text: str | None) -> OnLost | None:
    if text is None or text in {"requeue", "fail"}:
        return cast("OnLost | None", text)
    raise typer.BadParameter(f"--on-lost {text!r}: expected requeue or fail")


def _told(queue: Queue, what: str, json: bool) -> None:
    if json:
        print_json(queue)
        return
    say(f"queue {queue.name}: {what}")
