"""`taskloom run TARGET`: a folder, a task file, a repository or a task becomes a task in a queue, watched if wanted.

Nothing runs here: files are packed and uploaded, the draft is made with this run's values, the queue gives it to a
worker. What stands in the file stays there; every option changes this run alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import msgspec
import typer

from taskloom.cli import changes, connect
from taskloom.cli.follow import follow_task
from taskloom.cli.output import JsonFlag, YesFlag, hint, print_json, say, short, transfer
from taskloom.cli.running import asking, drafts
from taskloom.cli.running.drafts import Origin, Wishes
from taskloom.cli.running.sources import Source, code_fields, find_source, start_folder
from taskloom.cli.running.words import resources_told, retries_told, sweep_told
from taskloom.cli.terminal import plain
from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import DEFAULT_SECTION, Parameter, split_name
from taskloom.domain.quantities import size
from taskloom.domain.status import Status
from taskloom.domain.task import Task, TaskEdit
from taskloom.domain.taskfile import FILE_NAME, TaskFile, check_values, parse, schemas_of
from taskloom.domain.taskfile.values import nearest
from taskloom.journal.uploading import upload
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.folders import Chosen, choose
from taskloom.wire.send import Client

MOST_NAMED = 1000


class Plan(msgspec.Struct, frozen=True):
    """The answer of `--dry-run --json`: what would be sent. `names` holds the first 1000 files."""

    task: m.TaskCreate
    queue: str = ""
    files: int = 0
    bytes: int = 0
    names: tuple[str, ...] = ()


def run(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[TARGET]",
            help="A folder, a task.yaml, the URL of a git repository, or a TASK that is run again; by default here.",
            show_default=False,
        ),
    ] = "",
    queue: Annotated[str, typer.Option("--queue", "-q", help="Name or id; by default 'default'.")] = "",
    param: Annotated[list[str] | None, typer.Option("--param", "-P", help="NAME=VALUE of a parameter.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-E", help="NAME=VALUE of a variable.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show the console until the task ends.")] = False,
    branch: Annotated[str, typer.Option("--branch", "-b", help="Branch, tag or commit of the repository.")] = "",
    directory: Annotated[str, typer.Option("--directory", "-d", help="Folder of the repository.")] = "",
    pin: Annotated[
        bool,
        typer.Option("--pin/--no-pin", help="Run the commit that is there now, or always the branch's newest."),
    ] = True,
    name: Annotated[str, typer.Option("--name", help="Name of the task.")] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="Project of the task.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", "-t", help="Tag of the task.")] = None,
    command: Annotated[
        str, typer.Option("--run", "--command", help="Shell text to run instead of the file's.")
    ] = "",
    setup: Annotated[str | None, typer.Option("--setup", help="Shell text before it.", show_default=False)] = None,
    image: Annotated[str, typer.Option("--image", help="Container image to run in.")] = "",
    cpus: Annotated[str, typer.Option("--cpus", help="Processors, such as 4.")] = "",
    memory: Annotated[str, typer.Option("--memory", help="Memory, such as 16GB.")] = "",
    disk: Annotated[str, typer.Option("--disk", help="Free disk, such as 100GB.")] = "",
    accelerators: Annotated[str, typer.Option("--accelerators", help='GPUs, such as "A100:1".')] = "",
    priority: Annotated[
        int | None, typer.Option("--priority", help="Higher goes first.", show_default=False)
    ] = None,
    preemptible: Annotated[
        bool | None,
        typer.Option("--preemptible/--not-preemptible", help="May lose its place.", show_default=False),
    ] = None,
    retries: Annotated[
        int | None, typer.Option("--retries", min=0, help="Further attempts after a failure.", show_default=False)
    ] = None,
    time_limit: Annotated[str, typer.Option("--time-limit", help="Of one attempt, such as 90m.")] = "",
    include: Annotated[
        list[str] | None, typer.Option("--include", help="Pattern of files to take although they are ignored.")
    ] = None,
    files: Annotated[
        bool | None,
        typer.Option("--upload/--no-upload", help="Take the folder's files, or not.", show_default=False),
    ] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Make the task, do not queue it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, send nothing.")] = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> int:
    """Run a folder, a task.yaml, a repository, or a task again: make a task of it and give it to a queue."""
    wishes = Wishes(
        name=name,
        project=project,
        tags=tuple(tag or ()),
        run=command,
        setup=setup,
        image=image,
        cpus=cpus,
        memory=memory,
        disk=disk,
        accelerators=accelerators,
        priority=priority,
        preemptible=preemptible,
        retries=retries,
        time_limit=time_limit,
        variables=dict(changes.split_assignment(text, "a variable") for text in env or ()),
    )
    values = dict(changes.split_assignment(text, "a parameter") for text in param or ())
    source = find_source(target, branch, directory)
    if source is None:
        return _run_again(target, wishes, values, queue, draft=draft, dry_run=dry_run, follow=follow, json=json)
    file = _file(source, wishes, yes=yes)
    origin = Origin(code_fields(file, source.found, pinned=pin), start_folder(file, source.found), source.about)
    body = drafts.draft_of(file, wishes, values, origin)
    if not (draft or dry_run) and (missing := drafts.unfilled(file, body)):
        body = drafts.draft_of(file, wishes, {**values, **_asked(file, missing, yes=yes or json)}, origin)
    chosen = _chosen(source, body, files, include or ())
    if dry_run:
        return _show_plan(body, queue, chosen, json)
    with connect.server() as client:
        if chosen is not None:
            body = _with_files(client, body, chosen, quiet=json)
        task = client.call(op.CREATE_TASK, body)
        return _queue(client, task, queue, wishes, draft=draft, follow=follow, json=json)


def _file(source: Source, wishes: Wishes, *, yes: bool) -> TaskFile:
    """The parsed file, or one made of flags and answers; remarks go to standard error."""
    if source.text is None:
        where = source.found.repository if source.found else ""
        return asking.made_up(wishes, source.folder, where, yes=yes)
    file = parse(source.text, source.name)
    for warning in file.warnings:
        hint(plain(f"{warning.told(source.name)} (warning)"))
    return file


def _asked(file: TaskFile, missing: list[str], *, yes: bool) -> dict[str, str]:
    """Values of parameters that need one: the person's, or BadInput that says how to give them."""
    if not asking.can_ask(yes):
        raise BadInput("\n".join(f"parameter {name} needs a value: --param {name}=..." for name in missing))
    schemas = file.schemas
    return {name: asking.asked_value(name, schemas[name].title, hidden=schemas[name].hidden) for name in missing}


def _chosen(source: Source, body: m.TaskCreate, wanted: bool | None, include: Sequence[str]) -> Chosen | None:
    """The folder's files; a file that names a repository has its code there, unless somebody wants both."""
    if source.folder is None or wanted is False:
        return None
    if body.execution.repository and wanted is None:
        hint(f"the code comes from {plain(body.execution.repository)}; --upload takes the folder's files, too")
        return None
    chosen = choose(source.folder, include)
    for reason, count in chosen.left_out.items():
        hint(f"left out: {count} {reason}")
    return chosen


def _with_files(client: Client, body: m.TaskCreate, chosen: Chosen, *, quiet: bool) -> m.TaskCreate:
    sent = upload(chosen.members, chosen.bytes, client.address, partial(transfer, quiet=quiet))
    what = f"{len(chosen.members)} files, {size(chosen.bytes)}"
    hint(f"{what}: uploaded as {size(sent.size)}" if sent.new else f"{what}: the server has them already")
    execution = msgspec.structs.replace(body.execution, files=sent.digest)
    return msgspec.structs.replace(body, execution=execution)


def _show_plan(body: m.TaskCreate, queue: str, chosen: Chosen | None, json: bool) -> int:
    names = tuple(name for name, _ in chosen.members) if chosen else ()
    if json:
        print_json(Plan(body, queue, len(names), chosen.bytes if chosen else 0, names[:MOST_NAMED]))
        return 0
    execution = body.execution
    code = (
        f"{execution.repository} {execution.branch or execution.tag} {execution.commit[:12]} {execution.directory}"
    )
    lines: list[tuple[str, Any]] = [
        ("task", f"{body.project}/{body.name}"),
        ("repository", " ".join(code.split())),
        ("files", f"{len(names)} of {size(chosen.bytes)}" if chosen else ""),
        ("image", execution.image),
        ("setup", execution.setup),
        ("run", execution.run),
        ("resources", resources_told(execution.resources)),
        ("retries", retries_told(execution.retries)),
        ("sweep", sweep_told(execution.sweep)),
    ]
    for section, named in body.parameters.items():
        lines += [(f"{section}/{name}", value.value) for name, value in named.items()]
    for label, value in lines:
        if value:
            say(plain(f"{label}: {value}"))
    return 0


def _run_again(
    target: str,
    wishes: Wishes,
    values: dict[str, str],
    queue: str,
    *,
    draft: bool,
    dry_run: bool,
    follow: bool,
    json: bool,
) -> int:
    """A clone of a task with other values; the task itself stays as it is."""
    with connect.server() as client:
        found = connect.find_task(client, target)
        edit = TaskEdit(
            execution=msgspec.to_builtins(drafts.wished(found.execution, wishes)) or None,
            parameters=_values_for(found, values) or None,
            add_tags=wishes.tags,
        )
        body = m.TaskClone(name=wishes.name or found.name, project=wishes.project, edit=edit)
        if dry_run:
            if json:
                print_json(body)
            else:
                say(f"a clone of {short(found.id)} {plain(found.name)} with {msgspec.json.encode(edit).decode()}")
            return 0
        task = client.call(op.CLONE_TASK, body, task=found.id)
        return _queue(client, task, queue, wishes, draft=draft, follow=follow, json=json)


def _values_for(task: Task, values: dict[str, str]) -> dict[str, dict[str, Parameter | None]]:
    """Values for parameters that the task has; those of its task file are checked by that."""
    kept = task.configuration.get(FILE_NAME)
    schemas = schemas_of(kept.value) if kept is not None else {}
    changed: dict[str, dict[str, Parameter | None]] = {}
    wrong: list[str] = []
    for flat, text in values.items():
        section, key = (DEFAULT_SECTION, flat) if flat in schemas else split_name(flat)
        known = task.parameters.get(section, {})
        try:
            if section == DEFAULT_SECTION and key in schemas:
                value = check_values(schemas, {key: text})[section][key]
            elif key in known:
                value = changes.typed(task.parameters, section, key, text)
            else:
                names = [
                    n if s == DEFAULT_SECTION else f"{s}/{n}"
                    for s, named in task.parameters.items()
                    for n in named
                ]
                raise BadInput(f"the task has no parameter {flat!r}{nearest(flat, names)}")
        except BadInput as error:
            wrong.append(error.message)
            continue
        changed.setdefault(section, {})[key] = value
    if wrong:
        raise BadInput("\n".join(wrong), problems=wrong)
    return changed


def _queue(
    client: Client, task: Task, queue: str, wishes: Wishes, *, draft: bool, follow: bool, json: bool
) -> int:
    if not draft:
        task = client.call(op.ENQUEUE_TASK, m.Enqueue(queue=queue, priority=wishes.priority), task=task.id)
    if json:
        print_json(task)
    else:
        where = f" in queue {task.queue_name or queue or 'default'}" if task.status is Status.PENDING else ""
        say(f"{task.id} {plain(f'{task.project}/{task.name}')}: {task.status.value}{where}")
        if task.execution.commit and task.execution.repository:
            hint(f"commit {task.execution.commit} of {plain(task.execution.repository)}")
        if task.status is Status.PENDING and not follow:
            hint(client.call(op.WAITING, task=task.id).reason)
        if draft:
            hint(f"`taskloom run {short(task.id)}` runs it, as often as you like")
    return follow_task(client, task.id, json=json) if follow and not draft else 0
