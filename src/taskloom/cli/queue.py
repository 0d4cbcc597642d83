"""`taskloom queue`: where pending tasks wait, in which order, and the workers that look there."""

from __future__ import annotations

from itertools import zip_longest
from typing import Annotated, cast

import typer

from taskloom.cli import connect
from taskloom.cli.connect import QueueReference, TaskReference
from taskloom.cli.output import (
    JsonFlag,
    YesFlag,
    ago,
    confirm,
    hint,
    print_fields,
    print_json,
    print_table,
    say,
    short,
)
from taskloom.domain.errors import Conflict
from taskloom.domain.quantities import size
from taskloom.domain.queue import OnLost, Queue
from taskloom.wire import messages as m
from taskloom.wire import operations as op

FRONT, BACK = 1, -1
HOLD_AFTER = m.QueueCreate(name="").hold_after
OnLostOption = Annotated[
    str | None,
    typer.Option("--on-lost", help="What becomes of a task whose worker fell silent: requeue or fail."),
]
AttemptsOption = Annotated[
    int | None, typer.Option("--max-attempts", min=1, help="Leases that one enqueued task may have.")
]

RunningOption = Annotated[
    int | None, typer.Option("--max-running", min=0, help="Tasks that run at once; 0: no limit.")
]
UserRunningOption = Annotated[
    int | None,
    typer.Option("--max-running-per-user", min=0, help="Tasks of one user that run at once; 0: no limit."),
]
UserWaitingOption = Annotated[
    int | None, typer.Option("--max-waiting-per-user", min=0, help="Tasks that one user has waiting; 0: no limit.")
]
HoldOption = Annotated[
    float | None,
    typer.Option(
        "--hold-after",
        min=0,
        help="Seconds that a task waits before a worker keeps free for it what others give back.",
    ),
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
        ["queue", "waiting", "running", "state", "limits", "worker lost", "attempts", "description"],
        [
            (q.name, q.waiting, q.running, _state(q), _limits(q), q.on_lost, q.max_attempts, q.description)
            for q in told.queues
        ],
        empty="no queues; `taskloom queue create NAME` makes one",
        right=["waiting", "running", "attempts"],
    )


@app.command("show")
def show_queue(
    queue: QueueReference,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Tasks to show.")] = 100,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Tasks at the front to leave out.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Show one queue with a page of the tasks that wait, in the order in which they would start."""
    with connect.server() as client:
        told = client.call(op.GET_QUEUE, query=m.QueuePage(limit=limit, offset=offset), queue=queue)
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
            ("limits", _limits(shown)),
            ("kept free after", f"{shown.hold_after:g} s"),
            ("running", shown.running),
            ("waiting", shown.waiting),
        ]
    )
    print_table(
        ["#", "task", "name", "project", "user", "priority", "enqueued", "attempts"],
        [
            (e.position, short(e.task), e.task_name, e.project, e.user, e.priority, ago(e.enqueued), e.attempts)
            for e in told.entries
        ],
        title="Waiting",
        empty="nothing waits" if not offset else "nothing waits there",
        right=["#", "priority", "attempts"],
    )
    if (last := offset + len(told.entries)) < shown.waiting and told.entries:
        hint(f"{shown.waiting - last} more wait; --offset {last} shows them")


@app.command("create")
def create_queue(
    name: Annotated[str, typer.Argument(help="Name of the new queue.", show_default=False)],
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    on_lost: OnLostOption = None,
    max_attempts: AttemptsOption = None,
    max_running: RunningOption = None,
    max_running_per_user: UserRunningOption = None,
    max_waiting_per_user: UserWaitingOption = None,
    hold_after: HoldOption = None,
    json: JsonFlag = False,
) -> None:
    """Make a queue."""
    body = m.QueueCreate(
        name=name,
        description=description,
        on_lost=_policy(on_lost) or "requeue",
        max_attempts=max_attempts or 3,
        max_running=max_running or 0,
        max_running_per_user=max_running_per_user or 0,
        max_waiting_per_user=max_waiting_per_user or 0,
        hold_after=HOLD_AFTER if hold_after is None else hold_after,
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
    max_running: RunningOption = None,
    max_running_per_user: UserRunningOption = None,
    max_waiting_per_user: UserWaitingOption = None,
    hold_after: HoldOption = None,
    json: JsonFlag = False,
) -> None:
    """Rename a queue or change its policy and limits."""
    edit = m.QueueEdit(
        name=name,
        description=description,
        on_lost=_policy(on_lost),
        max_attempts=max_attempts,
        max_running=max_running,
        max_running_per_user=max_running_per_user,
        max_waiting_per_user=max_waiting_per_user,
        hold_after=hold_after,
    )
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
            say(f"{short(entry.task)} {entry.task_name}: number {entry.position} of {told.queue.waiting}")


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
    """List the workers: which queues they look at, what they run in which phase, and what of them is taken."""
    with connect.server() as client:
        told = client.call(op.LIST_WORKERS)
        named = {} if json else {queue.id: queue.name for queue in client.call(op.LIST_QUEUES).queues}
    if json:
        print_json(told)
        return
    print_table(
        ["worker", "host", "queues", "slots", "runs", "state", "heard of", "cpus", "memory", "gpus"],
        [
            (
                w.name,
                w.machine.host,
                ", ".join(named.get(queue, queue) for queue in w.queues),
                _of(str(len(w.tasks)), str(w.slots)),
                ", ".join(
                    f"{short(task)} {phase}" for task, phase in zip_longest(w.tasks, w.phases, fillvalue="")
                ),
                "silent" if not w.alive else "draining" if w.draining else "alive",
                ago(w.last_seen),
                _of(f"{w.reserved.cpus:g}", str(w.machine.cpus)) if w.machine.cpus else "",
                _of(size(w.reserved.memory), size(w.machine.memory)) if w.machine.memory else "",
                _of(str(len(w.reserved.gpus)), str(len(w.machine.gpus))) if w.machine.gpus else "",
            )
            for w in told.workers
        ],
        empty="no workers; `taskloom worker --queue default` starts one",
        right=["slots"],
    )


@app.command("drain")
def drain_worker(
    worker: Annotated[str, typer.Argument(help="Id or name of the worker.", show_default=False)],
    off: Annotated[bool, typer.Option("--off", help="Let it take tasks again.")] = False,
    json: JsonFlag = False,
) -> None:
    """Let a worker take no new tasks; what it runs goes on."""
    with connect.server() as client:
        workers = client.call(op.LIST_WORKERS).workers
        found = [w for w in workers if w.id == worker] or [w for w in workers if w.name == worker]
        if len(found) > 1:
            ids = ", ".join(w.id for w in found)
            raise Conflict(f"{len(found)} workers are called {worker!r}; expected one of their ids: {ids}")
        drained = client.call(
            op.DRAIN_WORKER, m.WorkerDrain(drain=not off), worker=found[0].id if found else worker
        )
    if json:
        print_json(drained)
        return
    say(f"worker {drained.name}: {'takes no new tasks' if drained.draining else 'takes tasks again'}")


def _of(taken: str, whole: str) -> str:
    return f"{taken} of {whole}"


def _limits(queue: Queue) -> str:
    told = [
        (queue.max_running, "run"),
        (queue.max_running_per_user, "run of one user"),
        (queue.max_waiting_per_user, "wait of one user"),
    ]
    return ", ".join(f"{number} {what}" for number, what in told if number)


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
