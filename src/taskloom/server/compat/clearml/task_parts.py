"""Parts of a task edited one by one: parameters, configuration objects, packages, artifacts and linked models.

Clients that hold only a part of the task change it so, and two that change different parts keep both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection

from taskloom.domain.artifact import ModelLink
from taskloom.domain.errors import IllegalMove, NotFound
from taskloom.domain.parameters import Parameter
from taskloom.domain.status import Status
from taskloom.domain.task import ConfigurationObject, Property, Task, TaskEdit
from taskloom.server.compat.clearml.artifact_documents import artifact_document, artifact_mode, artifact_of
from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoint,
    Endpoints,
    Rooms,
    flag,
    needed,
    reads,
    tables,
    text,
    texts,
)
from taskloom.server.compat.clearml.documents import (
    PROPERTIES,
    configuration_of,
    parameter_document,
    parameter_of,
    property_of,
)
from taskloom.server.compat.clearml.errors import BAD_FIELD, Refusal
from taskloom.server.compat.clearml.executions import requirements_edit
from taskloom.server.compat.clearml.task_answers import changed, check_task_id, open_states, task_id, task_ids
from taskloom.wire.messages import TaskQuery

DIRECTIONS = ("input", "output")
REPLACES = frozenset({"none", "section", "all"})
Make = Callable[[Connection, Task], TaskEdit]


def endpoints(rooms: Rooms) -> Endpoints:
    async def _change(call: ClearMLCall, make: Make) -> Task:
        wanted = task_id(call.body)
        await rooms.queues.heard_of(wanted)
        return await rooms.tasks.change_task(call.caller, wanted, make, open_states(call.body))

    async def _read(call: ClearMLCall, *fields: str) -> list[Task]:
        """The tasks in the order in which they were asked for; NotFound when one is not there."""
        wanted = [check_task_id(found) for found in task_ids(call.body, "tasks")]
        listed = await rooms.tasks.query_tasks(TaskQuery(ids=wanted, fields=list(fields), limit=len(wanted)))
        found = {task.id: task for task in listed.tasks}
        for one in wanted:
            if one not in found:
                raise NotFound(f"no task {one}", task=one)
        return [found[one] for one in wanted]

    # --- parameters -------------------------------------------------------------------------------------

    async def get_hyper_params(call: ClearMLCall) -> Data:
        def told(task: Task) -> list[dict[str, Any]]:
            named = [(s, n, p) for s, names in task.parameters.items() for n, p in names.items()]
            own = [(PROPERTIES, n, p) for n, p in task.properties.items()]
            return [parameter_document(*one) for one in (*named, *own)]

        found = await _read(call, "parameters", "properties")
        return {"params": [{"task": task.id, "hyperparams": told(task)} for task in found]}

    async def edit_hyper_params(call: ClearMLCall) -> Data:
        given = tables(call.body, "hyperparams")
        replaces = text(call.body, "replace_hyperparams") or "none"
        if replaces not in REPLACES:
            raise Refusal(
                f"field 'replace_hyperparams': {replaces[:80]!a} is none of {sorted(REPLACES)}", 400, BAD_FIELD
            )
        task = await _change(call, lambda tx, task: _parameters_edit(task, given, replaces))
        return changed(task)

    async def delete_hyper_params(call: ClearMLCall) -> Data:
        given = [(needed(key, "section"), text(key, "name")) for key in tables(call.body, "hyperparams")]
        await _change(call, lambda tx, task: _removal(task, given))
        return {"deleted": 1}

    # --- configuration ----------------------------------------------------------------------------------

    async def get_configurations(call: ClearMLCall) -> Data:
        names = set(texts(call.body, "names"))

        def told(task: Task) -> list[dict[str, Any]]:
            return [
                {"name": n, "value": c.value, "type": c.type or None, "description": c.description or None}
                for n, c in task.configuration.items()
                if not names or n in names
            ]

        found = await _read(call, "configuration")
        return {"configurations": [{"task": task.id, "configuration": told(task)} for task in found]}

    async def get_configuration_names(call: ClearMLCall) -> Data:
        skip = flag(call.body, "skip_empty", True)
        found = [
            {"task": task.id, "names": [n for n, c in task.configuration.items() if c.value or not skip]}
            for task in await _read(call, "configuration")
        ]
        return {"configurations": found}

    async def edit_configuration(call: ClearMLCall) -> Data:
        given = {needed(item, "name"): configuration_of(item) for item in tables(call.body, "configuration")}
        replaces = flag(call.body, "replace_configuration")
        objects = cast("dict[str, ConfigurationObject | None]", given)
        edit = TaskEdit(configuration=objects, replace_configuration=replaces)
        return changed(await _change(call, lambda tx, task: edit))

    async def delete_configuration(call: ClearMLCall) -> Data:
        edit = TaskEdit(configuration=dict.fromkeys(texts(call.body, "configuration")))
        await _change(call, lambda tx, task: edit)
        return {"deleted": 1}

    async def set_requirements(call: ClearMLCall) -> Data:
        given = call.body.get("requirements")
        if given is None:
            needed(call.body, "requirements")
        return changed(await _change(call, lambda tx, task: requirements_edit(task, given)))

    # --- artifacts and models ---------------------------------------------------------------------------

    async def _results(call: ClearMLCall, work: Callable[[Connection, Task], None]) -> None:
        def make(tx: Connection, task: Task) -> TaskEdit:
            if task.status is Status.PUBLISHED:
                raise IllegalMove(f"task {task.id} is published and takes nothing more", status=task.status.value)
            work(tx, task)
            rooms.tasks.touch(tx, task.id)
            return TaskEdit()

        await _change(call, make)

    async def add_or_update_artifacts(call: ClearMLCall) -> Data:
        given = [artifact_of(document) for document in tables(call.body, "artifacts")]

        def work(tx: Connection, task: Task) -> None:
            for artifact in given:
                rooms.artifacts.store_artifact(tx, task.id, artifact)

        await _results(call, work)
        await rooms.artifacts.delete_unnamed_bytes()
        return {"updated": 1}

    async def delete_artifacts(call: ClearMLCall) -> Data:
        given = {needed(key, "key"): text(key, "mode") for key in tables(call.body, "artifacts")}

        def work(tx: Connection, task: Task) -> None:
            for artifact in rooms.artifacts.of_task(tx, task.id):
                if artifact.name in given and given[artifact.name] in {"", artifact_mode(artifact)}:
                    rooms.artifacts.remove_artifact(tx, task.id, artifact.name)

        await _results(call, work)
        await rooms.artifacts.delete_unnamed_bytes()
        return {"deleted": 1}

    async def add_or_update_model(call: ClearMLCall) -> Data:
        link = _link(needed(call.body, "type"), call.body)
        await _results(call, lambda tx, task: rooms.artifacts.link_model(tx, task.id, link))
        return {"updated": 1}

    async def delete_models(call: ClearMLCall) -> Data:
        given = [(_direction(needed(m, "type")), needed(m, "name")) for m in tables(call.body, "models")]

        def work(tx: Connection, task: Task) -> None:
            for direction, name in given:
                rooms.artifacts.unlink_model(tx, task.id, direction, name)

        await _results(call, work)
        return {"updated": 1}

    return {
        "tasks.get_hyper_params": reads(get_hyper_params),
        "tasks.edit_hyper_params": Endpoint(edit_hyper_params),
        "tasks.delete_hyper_params": Endpoint(delete_hyper_params),
        "tasks.get_configurations": reads(get_configurations),
        "tasks.get_configuration_names": reads(get_configuration_names),
        "tasks.edit_configuration": Endpoint(edit_configuration),
        "tasks.delete_configuration": Endpoint(delete_configuration),
        "tasks.set_requirements": Endpoint(set_requirements),
        "tasks.add_or_update_artifacts": Endpoint(add_or_update_artifacts),
        "tasks.delete_artifacts": Endpoint(delete_artifacts),
        "tasks.add_or_update_model": Endpoint(add_or_update_model),
        "tasks.delete_models": Endpoint(delete_models),
    }


# --- whole lists, as task documents hold them ---------------------------------------------------------------


def set_artifacts(
    rooms: Rooms, tx: Connection, task: str, documents: Sequence[Mapping[str, Any]], origin: str
) -> None:
    """The task's artifacts shall be these. One that comes back as it was told stays as it is."""
    there = {artifact.name: artifact for artifact in rooms.artifacts.of_task(tx, task)}
    given = {needed(document, "key"): document for document in documents}
    for name in there.keys() - given.keys():
        rooms.artifacts.remove_artifact(tx, task, name)
    for name, document in given.items():
        if name not in there or _bare(artifact_document(there[name], origin)) != _bare(document):
            rooms.artifacts.store_artifact(tx, task, artifact_of(document))


def set_models(rooms: Rooms, tx: Connection, task: str, models: Mapping[str, Any]) -> None:
    """The task's links in each direction that is given shall be these."""
    for direction in DIRECTIONS:
        if models.get(direction) is None:
            continue
        links = [_link(direction, item) for item in tables(models, direction) if text(item, "model")]
        there = [link for link in rooms.artifacts.links_of_task(tx, task) if link.direction == direction]
        names = {link.name for link in links}
        for link in there:
            if link.name not in names:
                rooms.artifacts.unlink_model(tx, task, direction, link.name)
        for link in links:
            if link not in there:
                rooms.artifacts.link_model(tx, task, link)


def _bare(value: Any) -> Any:
    """Without the fields that hold nothing: clients leave them out when they send a document back."""
    if not isinstance(value, dict):
        return value
    items = cast("dict[str, Any]", value).items()
    return {name: _bare(item) for name, item in items if item is not None}


def _direction(kind: str) -> str:
    if kind not in DIRECTIONS:
        raise Refusal(f"field 'type': {kind[:80]!a} is neither input nor output", 400, BAD_FIELD)
    return kind


def _link(kind: str, item: Data) -> ModelLink:
    model = needed(item, "model")
    return ModelLink(name=text(item, "name") or model, model=model, direction=_direction(kind))


def _parameters_edit(task: Task, given: Sequence[Data], replaces: str) -> TaskEdit:
    parameters: dict[str, dict[str, Parameter | None]] = {}
    properties: dict[str, Property | None] = {}
    for item in given:
        section, name = needed(item, "section"), needed(item, "name")
        if section == PROPERTIES:
            properties[name] = property_of(item)
        else:
            parameters.setdefault(section, {})[name] = parameter_of(item)
    if replaces == "section":
        for section, names in parameters.items():
            parameters[section] = {**dict.fromkeys(task.parameters.get(section, {})), **names}
    return TaskEdit(
        parameters=parameters or None,
        replace_parameters=replaces == "all",
        properties=properties or None,
        replace_properties=replaces == "all" or (replaces == "section" and bool(properties)),
    )


def _removal(task: Task, keys: Sequence[tuple[str, str]]) -> TaskEdit:
    """A key without a name means the whole section."""
    parameters: dict[str, dict[str, Parameter | None]] = {}
    properties: dict[str, Property | None] = {}
    for section, name in keys:
        if section == PROPERTIES:
            properties.update(dict.fromkeys([name] if name else task.properties))
        else:
            names = [name] if name else list(task.parameters.get(section, {}))
            parameters.setdefault(section, {}).update(dict.fromkeys(names))
    return TaskEdit(parameters=parameters or None, properties=properties or None)
