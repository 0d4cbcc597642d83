"""ClearML's calls about projects: found, made, edited, moved, merged, deleted. What they hold: see project_contents.

ClearML has tasks and models without a project, ours always have one: what a deleted project leaves behind goes to
the project `default`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskloom.domain.errors import BadInput, Conflict, NotFound
from taskloom.domain.project import Project, ancestors
from taskloom.domain.task import HIDDEN_TAG
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
from taskloom.server.compat.clearml.documents import STATUSES, moment
from taskloom.server.compat.clearml.errors import NAME_EXISTS, Refusal
from taskloom.server.compat.clearml.people import People, people_of
from taskloom.server.compat.clearml.project_filters import basename, keeper, ordered
from taskloom.server.compat.clearml.projecting import only, paging
from taskloom.server.compat.clearml.tokens import COMPANY
from taskloom.wire.messages import ProjectCreate, ProjectEdit

HAS_TASKS, HAS_MODELS = 402, 403  # subcodes
LEFT_BEHIND = "default"  # the project of what a deleted one held
DAY = 24 * 3600.0
_THEIRS = {ours.value: theirs for ours, theirs in STATUSES.items()}
EDITED = ("name", "description", "default_output_destination", "tags", "system_tags")


def endpoints(rooms: Rooms) -> Endpoints:
    async def found(call: ClearMLCall) -> tuple[list[Project], People, dict[str, Any]]:
        """The projects of the page, who is who, and what the answer says of a scroll."""
        body, people = call.body, await people_of(rooms)
        parents = texts(body, "parent")
        above = await rooms.projects.find_projects(lambda _: True, ids=parents) if parents else []
        keep = keeper(body, people, [project.name for project in above])
        ids = texts(body, "id")
        matching = await rooms.projects.find_projects(keep, pattern=text(body, "name"), ids=ids)
        page = paging(body)
        if page.scrolls and not texts(body, "order_by"):
            told = sorted((p for p in matching if p.id > page.after), key=lambda p: p.id)[: page.limit]
        else:
            told = ordered(matching, body, people)[page.offset : page.offset + page.limit]
        return told, people, {"scroll_id": page.next([p.id for p in told])} if page.scrolls else {}

    async def documents(projects: Sequence[Project], people: People) -> list[dict[str, Any]]:
        paths = {path for project in projects for path in ancestors(project.name)[:-1]}
        ids = await rooms.projects.ids_of(paths)
        return [project_document(project, people, ids) for project in projects]

    async def get_all(call: ClearMLCall) -> Data:
        projects, people, told = await found(call)
        wanted = texts(call.body, "only_fields")
        return {"projects": [only(document, wanted) for document in await documents(projects, people)], **told}

    async def get_all_ex(call: ClearMLCall) -> Data:
        """With statistics, own or with those of the projects below, and the projects below."""
        projects, people, told = await found(call)
        wanted = texts(call.body, "only_fields")
        answer = [only(document, wanted) for document in await documents(projects, people)]
        if flag(call.body, "include_stats"):
            added = await _stats(rooms, projects, call.body)
            answer = [
                {**document, **added[project.id]} for document, project in zip(answer, projects, strict=True)
            ]
        if flag(call.body, "search_hidden"):
            answer = [
                {**document, "hidden": True} if HIDDEN_TAG in project.system_tags else document
                for document, project in zip(answer, projects, strict=True)
            ]
        return {"projects": answer, **told}

    async def get_by_id(call: ClearMLCall) -> Data:
        project = await _known(rooms, needed(call.body, "project"))
        (document,) = await documents([project], await people_of(rooms))
        return {"project": document}

    async def create(call: ClearMLCall) -> Data:
        body = call.body
        wanted = ProjectCreate(
            name=needed(body, "name"),
            description=text(body, "description"),
            tags=tuple(texts(body, "tags")),
            system_tags=tuple(texts(body, "system_tags")),
            output_uri=text(body, "default_output_destination"),
        )
        try:
            return {"id": (await rooms.projects.create_project(call.caller, wanted)).id}
        except Conflict as error:
            raise _taken(error) from None

    async def update(call: ClearMLCall) -> Data:
        body = call.body
        project = await _known(rooms, needed(body, "project"))
        edit = ProjectEdit(
            name=text(body, "name") or None,
            description=_given(body, "description"),
            output_uri=_given(body, "default_output_destination"),
            tags=None if body.get("tags") is None else tuple(texts(body, "tags")),
            system_tags=None if body.get("system_tags") is None else tuple(texts(body, "system_tags")),
        )
        try:
            await rooms.projects.edit_project(project.id, edit, call.caller)
        except Conflict as error:
            raise _taken(error) from None
        return {"updated": 1, "fields": {name: body[name] for name in EDITED if body.get(name) is not None}}

    async def move(call: ClearMLCall) -> Data:
        """Into another project, made when it is not there; an empty location is the top."""
        project = await _known(rooms, needed(call.body, "project"))
        location = text(call.body, "new_location").strip("/")
        name = f"{location}/{basename(project.name)}" if location else basename(project.name)
        moved = len(await rooms.projects.ids_below([project.id]))
        try:
            await rooms.projects.edit_project(project.id, ProjectEdit(name=name), call.caller)
        except Conflict as error:
            raise _taken(error) from None
        return {"moved": moved}

    async def merge(call: ClearMLCall) -> Data:
        source = await _known(rooms, needed(call.body, "project"))
        target = await _known(rooms, needed(call.body, "destination_project"))
        held, moved = await rooms.projects.merge_projects(call.caller, source.id, target.name)
        return {"moved_entities": held, "moved_projects": moved}

    async def validate_delete(call: ClearMLCall) -> Data:
        project = await _known(rooms, needed(call.body, "project"))
        return await _held(rooms, project)

    async def delete(call: ClearMLCall) -> Data:
        """Without force only a project without tasks and models (archived tasks do not count)."""
        project = await _known(rooms, needed(call.body, "project"))
        held = await _held(rooms, project)
        if not flag(call.body, "force"):
            for what, subcode in (("tasks", HAS_TASKS), ("models", HAS_MODELS)):
                if held[f"non_archived_{what}"]:
                    raise Refusal(
                        f"project {project.name!r} has {held[f'non_archived_{what}']} {what}", 400, subcode
                    )
        below = await rooms.projects.ids_below([project.id])
        answer = {"deleted": len(below), "disassociated_tasks": 0, "deleted_tasks": 0, "deleted_models": 0}
        if flag(call.body, "delete_contents"):
            for model in await rooms.projects.contents.models(below):
                await rooms.artifacts.delete_model(model, force=True)
            await rooms.tasks.delete_project(project.id, force=True)
            answer |= {"deleted_tasks": held["tasks"], "deleted_models": held["models"]}
        elif held["tasks"] or held["models"]:
            if project.name == LEFT_BEHIND:
                raise BadInput(f"project {LEFT_BEHIND!r} holds what has no other place; delete its contents, too")
            await rooms.projects.merge_projects(call.caller, project.id, LEFT_BEHIND, flat=True)
            answer["disassociated_tasks"] = held["tasks"]
        else:
            await rooms.tasks.delete_project(project.id, force=False)
        return {**answer, "urls": {"model_urls": [], "event_urls": [], "artifact_urls": []}}

    async def make_public(call: ClearMLCall) -> Data:
        """There is one company here: every project is seen by everybody in it, and by nobody else."""
        ids = texts(call.body, "ids")
        return {"updated": len(await rooms.projects.find_projects(lambda _: True, ids=ids)) if ids else 0}

    return {
        "projects.get_all": reads(get_all),
        "projects.get_all_ex": reads(get_all_ex),
        "projects.get_by_id": reads(get_by_id),
        "projects.create": Endpoint(create),
        "projects.update": Endpoint(update),
        "projects.move": Endpoint(move),
        "projects.merge": Endpoint(merge),
        "projects.validate_delete": reads(validate_delete),
        "projects.delete": Endpoint(delete),
        "projects.make_public": Endpoint(make_public),
        "projects.make_private": Endpoint(make_public),
    }


def project_document(project: Project, people: People, ids: Mapping[str, str]) -> dict[str, Any]:
    """`ids`: of the projects above it, by path."""
    above = [ids[path] for path in ancestors(project.name)[:-1] if path in ids]
    return {
        "id": project.id,
        "name": project.name,
        "basename": basename(project.name),
        "description": project.description,
        "tags": list(project.tags),
        "system_tags": list(project.system_tags),
        "parent": above[-1] if above else None,
        "path": above,
        "company": COMPANY,
        "user": people.id_of(project.user) or None,
        "default_output_destination": project.output_uri or None,
        "created": moment(project.created),
        "last_update": moment(project.last_update),
    }


async def _known(rooms: Rooms, project: str) -> Project:
    found = await rooms.projects.find_projects(lambda _: True, ids=[project])
    if not found:
        raise NotFound(f"no project {project[:80]!r}", project=project[:80])
    return found[0]


def _given(body: Data, name: str) -> str | None:
    return None if body.get(name) is None else text(body, name)


def _taken(error: Conflict) -> Refusal:
    return Refusal(error.message, 400, NAME_EXISTS)


async def _held(rooms: Rooms, project: Project) -> dict[str, int]:
    below = await rooms.projects.ids_below([project.id])
    sums = await rooms.projects.contents.task_sums(below, 0.0, hidden=True)
    models = len(await rooms.projects.contents.models(below))
    return {
        "tasks": sum(one.count for one in sums),
        "non_archived_tasks": sum(one.count for one in sums if not one.archived),
        "models": models,
        "non_archived_models": models,
    }


async def _stats(rooms: Rooms, projects: Sequence[Project], body: Data) -> dict[str, dict[str, Any]]:
    """`stats` and `sub_projects` of each, by its id."""
    hidden, deep = flag(body, "search_hidden"), flag(body, "stats_with_children", True)
    starts = tuple(f"{project.name}/" for project in projects)
    below = await rooms.projects.find_projects(
        lambda p: p.name.startswith(starts) and (hidden or HIDDEN_TAG not in p.system_tags)
    )
    names = {project.id: project.name for project in (*below, *projects)}
    sums = await rooms.projects.contents.task_sums(list(names), rooms.clock() - DAY, hidden=hidden)
    told: dict[str, dict[str, Any]] = {}
    for project in projects:
        start = f"{project.name}/"
        mine = [s for s in sums if s.project == project.id or (deep and names[s.project].startswith(start))]
        told[project.id] = {
            "stats": {
                state: {
                    "status_count": {
                        **dict.fromkeys(STATUSES.values(), 0),
                        **_counts([(_THEIRS[s.status], s.count) for s in mine if s.archived is archived]),
                    },
                    "total_tasks": sum(s.count for s in mine if s.archived is archived),
                    "total_runtime": int(sum(s.seconds for s in mine if s.archived is archived)),
                    "completed_tasks_24h": sum(s.ended for s in mine if s.archived is archived),
                    "last_task_run": int(max((s.latest for s in mine if s.archived is archived), default=0))
                    or None,
                }
                for state, archived in (("active", False), ("archived", True))
            },
            "sub_projects": [{"id": p.id, "name": p.name} for p in below if p.name.startswith(start)],
        }
    return told


def _counts(pairs: Sequence[tuple[str, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for status, count in pairs:
        counts[status] = counts.get(status, 0) + count
    return counts
