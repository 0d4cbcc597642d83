"""ClearML's calls about models, on our models: found, made, edited, published, archived, deleted.

Which model belongs to which task is told by the tasks' calls; here a model only names the task that made it.
ClearML's "ready" is our "published". Public models are a matter of several companies, of which there is one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from taskloom.domain.artifact import Model, ModelLink
from taskloom.domain.errors import BadInput, Conflict, NotFound, TaskloomError
from taskloom.domain.status import Status
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.compat.clearml.addresses import artifact_url
from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoint,
    Endpoints,
    Rooms,
    flag,
    needed,
    reads,
    text,
    texts,
)
from taskloom.server.compat.clearml.errors import Refusal, told
from taskloom.server.compat.clearml.model_documents import edit_of, metadata_of, model_document, model_query
from taskloom.server.compat.clearml.people import people_of
from taskloom.server.compat.clearml.projecting import Paging, only, paging
from taskloom.wire.messages import Condition, ModelCreate, ModelEdit, ModelQuery, MoveRequest, ProjectCreate

ARCHIVED = "archived"
ON_THE_WAY = (
    "/uploading_file",
    "/failed_uploading",
)  # the address of weights whose upload goes on behind the script
PUBLISHED, IN_USE, MAKER_PUBLISHED = 203, 205, 206  # ClearML's subcodes of models
READ_AT_ONCE = 1000


def endpoints(rooms: Rooms) -> Endpoints:
    models = _Models(rooms)
    return {
        "models.get_all": reads(models.get_all),
        "models.get_all_ex": reads(models.get_all),
        "models.get_by_id": reads(models.get_by_id),
        "models.get_by_id_ex": reads(models.get_all),
        "models.get_by_task_id": reads(models.get_by_task_id),
        "models.get_frameworks": reads(models.get_frameworks),
        "models.create": Endpoint(models.create),
        "models.edit": Endpoint(models.edit),
        "models.update": Endpoint(models.edit),
        "models.update_for_task": Endpoint(models.update_for_task),
        "models.set_ready": Endpoint(models.set_ready),
        "models.publish_many": Endpoint(models.publish_many),
        "models.archive_many": Endpoint(models.archive_many),
        "models.unarchive_many": Endpoint(models.unarchive_many),
        "models.delete": Endpoint(models.delete),
        "models.delete_many": Endpoint(models.delete_many),
        "models.add_or_update_metadata": Endpoint(models.add_or_update_metadata),
        "models.delete_metadata": Endpoint(models.delete_metadata),
        "models.make_public": Endpoint(models.leave),
        "models.make_private": Endpoint(models.leave),
        "models.move": Endpoint(models.move),
    }


class _Models:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    @property
    def _artifacts(self) -> ArtifactService:
        return self._rooms.artifacts

    # --- found -------------------------------------------------------------------------------------------

    async def get_all(self, call: ClearMLCall) -> Data:
        body, page = call.body, paging(call.body)
        people = await people_of(self._rooms)
        projects = await self._paths(body)
        if projects and flag(body, "include_subprojects"):
            below = await self._rooms.projects.ids_below(texts(body, "project"))
            body = {**body, "project": below}
            projects = await self._paths(body)
        at_uris = await self._artifacts.files.models_at(texts(body, "uri"))
        query = model_query(body, projects, people, at_uris)
        if page.scrolls and not texts(body, "order_by"):
            found = await self._page(_behind(query, page), page.limit, 0)
        else:
            found = await self._page(query, page.limit, page.offset)
        told = {"scroll_id": page.next([model.id for model in found])} if page.scrolls else {}
        wanted = texts(body, "only_fields")
        return {"models": [only(d, wanted) for d in await self._documents(found, call)], **told}

    async def get_by_id(self, call: ClearMLCall) -> Data:
        found = await self._artifacts.get_model(needed(call.body, "model"))
        return {"model": (await self._documents([found], call))[0]}

    async def get_by_task_id(self, call: ClearMLCall) -> Data:
        """The last model that a task made."""
        task = await self._rooms.tasks.get_task(needed(call.body, "task"))
        made = [link.model for link in task.models if link.direction != "input"]
        if not made:
            raise NotFound(f"task {task.id} has no output model", model="")
        found = await self._artifacts.get_model(made[-1])
        return {"model": (await self._documents([found], call))[0]}

    async def get_frameworks(self, call: ClearMLCall) -> Data:
        wanted = texts(call.body, "projects")
        paths = await self._paths({"project": wanted})
        if wanted and not paths:
            return {"frameworks": []}
        return {"frameworks": await self._artifacts.frameworks(list(paths.values()))}

    async def _page(self, query: ModelQuery, limit: int, offset: int) -> list[Model]:
        found: list[Model] = []
        while len(found) < limit:
            size = min(limit - len(found), READ_AT_ONCE)
            part = msgspec.structs.replace(query, limit=size, offset=offset + len(found))
            some, _ = await self._artifacts.query_models(part)
            found += some
            if len(some) < size:
                break
        return found

    async def _paths(self, body: Data) -> dict[str, str]:
        """Paths by the ids that the body names; what no project has is missing."""
        known: dict[str, str] = {}
        for project in dict.fromkeys(texts(body, "project")):
            try:
                known[project.removeprefix("-")] = await self._rooms.projects.path_of(project.removeprefix("-"))
            except NotFound:
                continue
        return known

    async def _documents(self, models: Sequence[Model], call: ClearMLCall) -> list[dict[str, Any]]:
        projects = await self._rooms.projects.ids_of({model.project for model in models if model.project})
        people = await people_of(self._rooms)
        return [model_document(model, projects, people, call.origin) for model in models]

    # --- made and edited ---------------------------------------------------------------------------------

    async def create(self, call: ClearMLCall) -> Data:
        edit = await self._edit_of(call.body)
        made = await self._artifacts.create_model(call.caller, ModelCreate(model=_with(Model(id=""), edit)))
        if flag(call.body, "ready"):
            await self._artifacts.publish_model(made.id)
        return {"id": made.id, "created": True}

    async def edit(self, call: ClearMLCall) -> Data:
        """`models.update` is the same with fewer fields."""
        model_id = needed(call.body, "model")
        edit = await self._edit_of(call.body)
        await self._changed(model_id, edit)
        if flag(call.body, "ready"):
            await self._artifacts.publish_model(model_id)
        return {"updated": 1, "fields": _fields(call.body)}

    async def update_for_task(self, call: ClearMLCall) -> Data:
        """The output model of a task: the one that is named, the one it has, or a new one."""
        task = await self._rooms.tasks.get_task(needed(call.body, "task"))
        named = text(call.body, "override_model_id")
        links = [link for link in task.models if link.direction != "input"]
        model_id, created = named or (links[-1].model if links else ""), False
        edit = await self._edit_of({**call.body, "task": None})
        if named:
            await self._artifacts.get_model(named)
        elif model_id:
            await self._changed(model_id, edit)
        else:
            fresh = _with(Model(id="", name=task.name), edit)
            fresh = msgspec.structs.replace(fresh, task=task.id, project=task.project)
            model_id = (await self._artifacts.create_model(call.caller, ModelCreate(model=fresh))).id
            created = True
        name = next((link.name for link in links if link.model == model_id), "Output Model")
        await self._artifacts.refer(task.id, ModelLink(name=name, model=model_id))
        return {"id": model_id, "created": created, "updated": int(not created), "fields": _fields(call.body)}

    async def add_or_update_metadata(self, call: ClearMLCall) -> Data:
        items = metadata_of(call.body.get("metadata") or [])
        replace = flag(call.body, "replace_metadata")
        await self._artifacts.change_metadata(needed(call.body, "model"), items, replace=replace)
        return {"updated": 1}

    async def delete_metadata(self, call: ClearMLCall) -> Data:
        model_id, keys = needed(call.body, "model"), texts(call.body, "keys")
        await self._artifacts.change_metadata(model_id, {}, gone=keys)
        return {"updated": 1}

    async def move(self, call: ClearMLCall) -> Data:
        name = text(call.body, "project_name")
        if name:
            path = name.strip("/")
            try:
                await self._rooms.projects.create_project(call.caller, ProjectCreate(name=path))
            except Conflict:
                pass  # it is there
        else:
            project = text(call.body, "project")
            path = await self._rooms.projects.path_of(project) if project else ""
        ids = texts(call.body, "ids")
        for model_id in ids:
            await self._artifacts.edit_model(model_id, ModelEdit(project=path))
        return {"moved": len(ids), "project_id": (await self._rooms.projects.ids_of([path])).get(path)}

    async def leave(self, call: ClearMLCall) -> Data:
        return {"updated": 0}

    async def _changed(self, model_id: str, edit: ModelEdit) -> Model:
        awaited = (await self._artifacts.get_model(model_id)).uri.endswith(ON_THE_WAY)
        try:
            return await self._artifacts.edit_model(model_id, edit, awaited=awaited)
        except Conflict as error:
            raise Refusal(error.message, 400, PUBLISHED) from None

    async def _edit_of(self, body: Data) -> ModelEdit:
        project = text(body, "project")
        edit = edit_of(body, await self._rooms.projects.path_of(project) if project else None)
        if not edit.uri:
            return edit
        # What a client was told and tells again is no news: it was the address of our own bytes.
        model_id = text(body, "model")
        found = await self._artifacts.get_model(model_id) if model_id else None
        if found is not None and found.digest and _same_bytes(found, edit.uri):
            return msgspec.structs.replace(edit, uri=None)
        return edit

    # --- published, archived, deleted --------------------------------------------------------------------

    async def set_ready(self, call: ClearMLCall) -> Data:
        published = flag(call.body, "publish_task", True)
        force = flag(call.body, "force_publish_task")
        return await self._publish(needed(call.body, "model"), published, force)

    async def publish_many(self, call: ClearMLCall) -> Data:
        tasks = flag(call.body, "publish_tasks", flag(call.body, "publish_task", True))
        force = flag(call.body, "force_publish_task")
        return await _each(call, lambda model_id: self._publish(model_id, tasks, force))

    async def archive_many(self, call: ClearMLCall) -> Data:
        return await _each(call, lambda model_id: self._archive(model_id, True))

    async def unarchive_many(self, call: ClearMLCall) -> Data:
        return await _each(call, lambda model_id: self._archive(model_id, False))

    async def delete(self, call: ClearMLCall) -> Data:
        return await self._delete(needed(call.body, "model"), flag(call.body, "force"), call.origin)

    async def delete_many(self, call: ClearMLCall) -> Data:
        force = flag(call.body, "force")
        return await _each(call, lambda model_id: self._delete(model_id, force, call.origin))

    async def _publish(self, model_id: str, with_task: bool, force: bool) -> dict[str, Any]:
        model = await self._artifacts.get_model(model_id)
        answer: dict[str, Any] = {"updated": int(not model.published)}
        if with_task and model.task:
            answer |= await self._publish_task(model.task, force)
        await self._artifacts.publish_model(model_id)
        return answer

    async def _publish_task(self, task_id: str, force: bool) -> dict[str, Any]:
        try:
            task = await self._rooms.tasks.get_task(task_id)
        except NotFound:
            return {}
        if task.status is Status.PUBLISHED:
            return {}
        why = MoveRequest(reason="its model was published")
        if force:
            await self._rooms.tasks.bring_task(task_id, Status.PUBLISHED, why)
        else:
            await self._rooms.tasks.publish_task(task_id, why)
        return {"published_task": {"id": task_id, "data": {"updated": 1, "fields": {"status": "published"}}}}

    async def _archive(self, model_id: str, archive: bool) -> dict[str, Any]:
        model = await self._artifacts.get_model(model_id)
        tags = tuple(tag for tag in model.system_tags if tag != ARCHIVED)
        await self._artifacts.edit_model(model_id, ModelEdit(system_tags=(*tags, ARCHIVED) if archive else tags))
        return {"archived" if archive else "unarchived": True}

    async def _delete(self, model_id: str, force: bool, origin: str) -> dict[str, Any]:
        """Without `force` not what tasks use, nor what is published. The file is the client's to delete."""
        model = await self._artifacts.get_model(model_id)
        if not force:
            if await self._artifacts.users_of(model_id):
                raise Refusal(f"model {model_id} is used by tasks; use force=True to delete", 400, IN_USE)
            if model.published:
                raise Refusal(f"model {model_id} is published; use force=True to delete", 400, PUBLISHED)
            if await self._made_by_published(model):
                raise Refusal(
                    f"model {model_id} was made by task {model.task}, which is published; use force=True to delete",
                    400,
                    MAKER_PUBLISHED,
                )
        await self._artifacts.delete_model(model_id, force=force, with_file=False)
        return {"deleted": True, "url": artifact_url(origin, model) or None}

    async def _made_by_published(self, model: Model) -> bool:
        if not model.task:
            return False
        try:
            return (await self._rooms.tasks.get_task(model.task)).status is Status.PUBLISHED
        except NotFound:
            return False


async def _each(call: ClearMLCall, one: Callable[[str], Awaitable[dict[str, Any]]]) -> Data:
    """Each for itself: what fails does not keep the others."""
    succeeded: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    ids = texts(call.body, "ids")
    if not ids:
        raise BadInput("ids: expected at least one")
    for model_id in ids:
        try:
            succeeded.append({"id": model_id, **await one(model_id)})
        except TaskloomError as error:
            codes = list(told(error))
            if codes[0] >= 500:
                raise
            failed.append({"id": model_id, "error": {"codes": codes, "msg": error.message, "data": {}}})
    return {"succeeded": succeeded, "failed": failed}


def _behind(query: ModelQuery, page: Paging) -> ModelQuery:
    where = [*query.where, Condition(key="id", is_=">", value=page.after)] if page.after else query.where
    return msgspec.structs.replace(query, where=where, order_by=["id"])


def _same_bytes(model: Model, uri: str) -> bool:
    """Whether an address is one under which the model's own bytes are told, by whatever host."""
    from taskloom.server.artifacts.paths import digest_in, path_of

    path = path_of(uri)
    if path is None:
        return False
    return digest_in(path) == model.digest if not model.uri else path_of(model.uri) == path


def _with(model: Model, edit: ModelEdit) -> Model:
    given = {name: value for name, value in msgspec.structs.asdict(edit).items() if value is not None}
    return msgspec.structs.replace(model, **given)


def _fields(body: Data) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in {"model", "method"} and value is not None}
