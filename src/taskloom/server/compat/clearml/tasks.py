"""Tasks made, read, edited, cloned, moved to projects, archived and deleted, as ClearML's clients ask for it.

States are changed in `lives`, single parameters, configurations, artifacts and models in `task_parts`; lists of
tasks are found elsewhere. Every change is one transaction, and the same again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import IllegalMove
from taskloom.domain.status import Status
from taskloom.domain.task import ARCHIVED_TAG, Task, TaskEdit
from taskloom.server.compat.clearml import bodies
from taskloom.server.compat.clearml.addresses import named_url
from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoint,
    Endpoints,
    Rooms,
    flag,
    needed,
    reads,
    table,
    tables,
    text,
    texts,
)
from taskloom.server.compat.clearml.documents import edit_of, task_document
from taskloom.server.compat.clearml.errors import EMPTY_BATCH, MISSING_FIELD, Refusal
from taskloom.server.compat.clearml.people import People, people_of
from taskloom.server.compat.clearml.task_answers import (
    MOST,
    changed,
    check_task_id,
    for_each,
    open_states,
    task_id,
    task_ids,
)
from taskloom.server.compat.clearml.task_parts import set_artifacts, set_models
from taskloom.server.tasks.checks import edited
from taskloom.wire.messages import MoveRequest, SamplesQuery, TaskClone, TaskCreate

DEFAULT_PROJECT = "default"  # of a task that is made without one
_CLONED = {
    "new_task_hyperparams": "hyperparams",
    "new_task_configuration": "configuration",
    "new_task_container": "container",
    "execution_overrides": "execution",
    "new_task_tags": "tags",
}


def endpoints(rooms: Rooms) -> Endpoints:
    async def create(call: ClearMLCall) -> Data:
        wanted = await _wanted(call)

        def also(tx: Connection, task: Task) -> None:
            _set_results(rooms, call, tx, task)

        return {"id": (await rooms.tasks.create_task(call.caller, wanted, also)).id}

    async def validate(call: ClearMLCall) -> Data:
        await _wanted(call)
        return {}

    async def _wanted(call: ClearMLCall) -> TaskCreate:
        needed(call.body, "name")
        project = text(call.body, "project")
        path = await rooms.projects.path_of(project) if project else DEFAULT_PROJECT
        task = edited(Task(id="", name="", project=path), edit_of(call.body))
        return TaskCreate(**{name: getattr(task, name) for name in TaskCreate.__struct_fields__})

    async def get_by_id(call: ClearMLCall) -> Data:
        task = await rooms.tasks.get_task(task_id(call.body))
        mine = task.user == call.caller.user
        people = People([(call.caller.user_id, task.user)]) if mine else await people_of(rooms)
        return {"task": task_document(task, people, call.origin)}

    # --- edits ------------------------------------------------------------------------------------------

    async def edit(call: ClearMLCall) -> Data:
        wanted = task_id(call.body)
        await rooms.queues.heard_of(wanted)

        def make(tx: Connection, task: Task) -> TaskEdit:
            _set_results(rooms, call, tx, task)
            return _placed(tx, edit_of(call.body, task), call.body)

        return changed(await rooms.tasks.change_task(call.caller, wanted, make, open_states(call.body)))

    async def update(call: ClearMLCall) -> Data:
        return changed(await _update(call, call.body))

    async def update_batch(call: ClearMLCall) -> Data:
        lines = [line for line in call.raw.splitlines() if line.strip()]
        if not lines:
            raise Refusal("the batch is empty", 400, EMPTY_BATCH)
        if len(lines) > MOST:
            raise Refusal(f"{len(lines)} tasks; expected at most {MOST}", 400)
        for line in lines:
            await _update(call, bodies.fields(line))
        return {"updated": len(lines)}

    async def _update(call: ClearMLCall, body: Data) -> Task:
        """Only what describes the task: any time."""
        fields = {n: body.get(n) for n in ("name", "tags", "system_tags", "comment", "parent", "output_dest")}

        def make(tx: Connection, task: Task) -> TaskEdit:
            return _placed(tx, edit_of(fields, task), body)

        return await rooms.tasks.change_task(call.caller, task_id(body), make)

    def _placed(tx: Connection, edit: TaskEdit, body: Data) -> TaskEdit:
        project = text(body, "project")
        if not project:
            return edit
        return msgspec.structs.replace(edit, project=rooms.projects.project_path(tx, project))

    async def move(call: ClearMLCall) -> Data:
        path = text(call.body, "project_name")
        project = text(call.body, "project")
        if not path and not project:
            raise Refusal(
                "missing field 'project' or 'project_name': every task has a project", 400, MISSING_FIELD
            )
        path = path or await rooms.projects.path_of(project)
        moved = [
            await rooms.tasks.change_task(call.caller, check_task_id(i), lambda tx, task: TaskEdit(project=path))
            for i in task_ids(call.body, "ids")
        ]
        return {"updated": len(moved), "project_id": moved[0].project_id}

    # --- archived or not --------------------------------------------------------------------------------

    async def _archive(call: ClearMLCall, wanted: str, archived: bool) -> Task:
        def make(tx: Connection, task: Task) -> TaskEdit:
            others = tuple(tag for tag in task.system_tags if tag != ARCHIVED_TAG)
            return TaskEdit(system_tags=(*others, ARCHIVED_TAG) if archived else others)

        task = await rooms.tasks.change_task(call.caller, check_task_id(wanted), make)
        if archived and task.status is Status.PENDING:
            await rooms.queues.dequeue(wanted, MoveRequest(reason=text(call.body, "status_reason")))
        return task

    async def archive(call: ClearMLCall) -> Data:
        done = [await _archive(call, wanted, True) for wanted in task_ids(call.body, "tasks")]
        return {"archived": len(done)}

    async def unarchive(call: ClearMLCall) -> Data:
        done = [await _archive(call, wanted, False) for wanted in task_ids(call.body, "tasks")]
        return {"unarchived": len(done)}

    async def archive_many(call: ClearMLCall) -> Data:
        async def one(wanted: str) -> Data:
            await _archive(call, wanted, True)
            return {"archived": True}

        return await for_each(call, one)

    async def unarchive_many(call: ClearMLCall) -> Data:
        async def one(wanted: str) -> Data:
            await _archive(call, wanted, False)
            return {"unarchived": True}

        return await for_each(call, one)

    async def make_public(call: ClearMLCall) -> Data:
        """Everybody with a key sees every task: nothing to change."""
        found = [await rooms.tasks.peek_task(check_task_id(wanted)) for wanted in task_ids(call.body, "ids")]
        return {"updated": len(found)}

    # --- cloned, deleted --------------------------------------------------------------------------------

    async def clone(call: ClearMLCall) -> Data:
        body = call.body
        source = await rooms.tasks.peek_task(task_id(body))
        fields = {ours: body.get(theirs) for theirs, ours in _CLONED.items()}
        project, new = text(body, "new_task_project"), text(body, "new_project_name")
        given = edit_of(fields, source)
        wanted = TaskClone(
            name=text(body, "new_task_name"),
            project=await rooms.projects.path_of(project) if project else new,
            comment=None if body.get("new_task_comment") is None else text(body, "new_task_comment"),
            parent=text(body, "new_task_parent") or source.parent,
            edit=msgspec.structs.replace(given, system_tags=tuple(texts(body, "new_task_system_tags"))),
        )
        inputs = None if body.get("new_task_input_models") is None else tables(body, "new_task_input_models")
        made = await rooms.tasks.clone_task(call.caller, source.id, wanted)
        if inputs is not None:

            def make(tx: Connection, task: Task) -> TaskEdit:
                set_models(rooms, tx, task.id, {"input": inputs})
                return TaskEdit()

            await rooms.tasks.change_task(call.caller, made.id, make)
        if new and not project:
            return {"id": made.id, "new_project": {"id": made.project_id, "name": made.project}}
        return {"id": made.id}

    async def delete(call: ClearMLCall) -> Data:
        return await _delete(call, task_id(call.body))

    async def delete_many(call: ClearMLCall) -> Data:
        async def one(wanted: str) -> Data:
            return await _delete(call, wanted)

        return await for_each(call, one)

    async def _delete(call: ClearMLCall, wanted: str) -> dict[str, Any]:
        """Its files here go with it; addresses elsewhere are told to who asks for them, and deletes them."""
        task = await rooms.tasks.peek_task(wanted)
        force = flag(call.body, "force")
        if not force and task.status is not Status.DRAFT and ARCHIVED_TAG not in task.system_tags:
            raise IllegalMove(f"task {wanted} is {task.status.value}; it is only deleted by force")
        urls = await uploaded(rooms, call, task)
        await rooms.tasks.delete_task(wanted, force=force)
        return {
            "deleted": True,
            "updated_children": 0,
            "updated_models": 0,
            "updated_versions": 0,
            "events": {},
            "urls": urls,
        }

    return {
        "tasks.create": Endpoint(create),
        "tasks.validate": reads(validate),
        "tasks.get_by_id": reads(get_by_id),
        "tasks.edit": Endpoint(edit),
        "tasks.update": Endpoint(update),
        "tasks.update_batch": Endpoint(update_batch, lines=True),
        "tasks.move": Endpoint(move),
        "tasks.archive": Endpoint(archive),
        "tasks.unarchive": Endpoint(unarchive),
        "tasks.archive_many": Endpoint(archive_many),
        "tasks.unarchive_many": Endpoint(unarchive_many),
        "tasks.make_public": Endpoint(make_public),
        "tasks.make_private": Endpoint(make_public),
        "tasks.clone": Endpoint(clone),
        "tasks.delete": Endpoint(delete),
        "tasks.delete_many": Endpoint(delete_many),
    }


def _set_results(rooms: Rooms, call: ClearMLCall, tx: Connection, task: Task) -> None:
    """Artifacts and models that stand in a task document, in the transaction that writes the rest."""
    execution = table(call.body, "execution")
    models = table(call.body, "models")
    if execution.get("artifacts") is None and not models:
        return
    if task.status is Status.PUBLISHED:
        raise IllegalMove(f"task {task.id} is published and takes nothing more", status=task.status.value)
    if execution.get("artifacts") is not None:
        set_artifacts(rooms, tx, task.id, tables(execution, "artifacts"), call.origin)
    if models:
        set_models(rooms, tx, task.id, models)


async def uploaded(rooms: Rooms, call: ClearMLCall, task: Task) -> Mapping[str, Any] | None:
    """The addresses of what a task stored, when the caller asks for them."""
    if not flag(call.body, "return_file_urls"):
        return None
    samples, _ = await rooms.artifacts.list_samples(task.id, SamplesQuery(all_iterations=True))
    models = [await rooms.artifacts.get_model(link.model) for link in task.models if link.direction != "input"]
    told = {
        "artifact_urls": [named_url(call.origin, a.uri, a.digest, a.filename) for a in task.artifacts],
        "model_urls": [named_url(call.origin, m.uri, m.digest, m.filename) for m in models],
        "event_urls": [named_url(call.origin, s.uri, s.digest, s.name) for s in samples],
    }
    return {kind: [url for url in urls if url] for kind, urls in told.items()}
