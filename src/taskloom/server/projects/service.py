"""Projects are made by naming them: the ones above appear on the fly, renaming moves the ones below.

What belongs to tasks, also deleting a project with them, stands in `tasks`.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict, NotFound
from taskloom.domain.project import Project, ancestors, check_project, check_tag, check_text
from taskloom.domain.task import SHORT_TEXT
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.events import EventBus
from taskloom.server.projects import importing, store
from taskloom.server.projects.contents import ProjectContents
from taskloom.server.settings import Clock, Settings
from taskloom.wire.messages import LiveEvent, ProjectCreate, ProjectEdit, ProjectQuery

MAX_TAGS = 256


class ProjectService:
    def __init__(self, db: Database, bus: EventBus, clock: Clock, settings: Settings) -> None:
        self._db, self._bus, self._clock, self._settings = db, bus, clock, settings
        self.contents = ProjectContents(db)

    async def list_projects(self, query: ProjectQuery) -> tuple[list[Project], int]:
        if not 1 <= query.limit <= self._settings.max_page or query.offset < 0:
            raise BadInput(f"limit: expected 1 to {self._settings.max_page}; offset: 0 or more")
        wanted = store.Wanted(name=query.name.strip("/"), under=query.under.strip("/"), search=query.search)

        def work(tx: Connection) -> tuple[list[Project], int]:
            found, total = store.list_projects(tx, wanted, query.limit, query.offset)
            within = wanted.name or wanted.under if found else ""
            return _counted(found, store.count_tasks(tx, within) if found else []), total

        return await self._db.read(work)

    async def get_project(self, project: str) -> Project:
        return await self._db.read(lambda tx: _counted_one(tx, project))

    async def find_projects(
        self, keep: Callable[[Project], bool], *, pattern: str = "", ids: Collection[str] = ()
    ) -> list[Project]:
        """All that `keep` keeps, by name, without counts. `pattern`: a regular expression of names (see patterns)."""
        return await self._db.read(lambda tx: [p for p in store.find_projects(tx, pattern, ids) if keep(p)])

    async def ids_below(self, projects: Iterable[str]) -> list[str]:
        """These ids and those of the projects below them."""

        def work(tx: Connection) -> list[str]:
            found: dict[str, None] = dict.fromkeys(projects)
            for project in list(found):
                name = store.find_name(tx, project)
                if name is not None:
                    found |= dict.fromkeys(store.names_below(tx, name))
            return list(found)

        return await self._db.read(work)

    async def create_project(self, caller: Caller, wanted: ProjectCreate) -> Project:
        """Makes it and the ones above it; a name that exists is a Conflict that carries its id."""
        name = check_project(wanted.name)
        values: dict[str, Any] = {
            "description": _check_long(wanted.description, "description"),
            "tags": _check_tags(wanted.tags),
            "system_tags": _check_tags(wanted.system_tags),
            "output_uri": _check_long(wanted.output_uri, "output_uri"),
        }

        def work(tx: Connection) -> Project:
            there = store.find_id(tx, name)
            if there is not None:
                raise Conflict(f"project {name!r} exists", project=there)
            made, _ = self.ensure_project(tx, name, caller.user)
            store.change_project(tx, made, values)
            return _known(tx, made)

        made = await self._db.write(work)
        self._tell(made)
        return made

    async def import_project(self, project: str, wanted: Project) -> Project:
        """See `importing`."""
        fields = {
            "description": _check_long(wanted.description, "description"),
            "output_uri": _check_long(wanted.output_uri, "output_uri"),
            "user": _check_long(wanted.user, "user"),
            "tags": _check_tags(wanted.tags),
            "system_tags": _check_tags(wanted.system_tags),
        }
        cleaned = msgspec.structs.replace(wanted, **fields)

        def work(tx: Connection) -> Project:
            held = importing.put_project(tx, project, cleaned, self._ensure_above, self._move)
            return _counted_one(tx, held)

        held = await self._db.write(work)
        self._tell(held)
        return held

    async def edit_project(self, project: str, edit: ProjectEdit, caller: Caller) -> Project:
        changes: dict[str, Any] = {}
        if edit.description is not None:
            changes["description"] = _check_long(edit.description, "description")
        if edit.output_uri is not None:
            changes["output_uri"] = _check_long(edit.output_uri, "output_uri")
        if edit.tags is not None:
            changes["tags"] = _check_tags(edit.tags)
        if edit.system_tags is not None:
            changes["system_tags"] = _check_tags(edit.system_tags)
        name = None if edit.name is None else check_project(edit.name)

        def work(tx: Connection) -> Project:
            found = _known(tx, project)
            if name is not None and name != found.name:
                self._move(tx, found, name, caller.user)
            store.change_project(tx, project, {**changes, "last_update": self._clock()})
            return _counted_one(tx, project)

        changed = await self._db.write(work)
        self._tell(changed)
        return changed

    async def merge_projects(
        self, caller: Caller, project: str, into: str, *, flat: bool = False
    ) -> tuple[int, int]:
        """Everything in and below one project goes to the other, and the first is gone.

        `into`: the path of the other, made when it is not there. `flat`: what lay below goes into it, too, instead
        of below it. Gives the numbers of tasks and models, and of projects, that moved.
        """
        target = check_project(into)

        def work(tx: Connection) -> tuple[int, int]:
            found = _known(tx, project)
            if target == found.name or target.startswith(f"{found.name}/"):
                raise BadInput(f"project {found.name!r} cannot be merged into itself or what is below it")
            held = moved = 0
            below = store.names_below(tx, found.name)
            for source, path in sorted({found.id: found.name, **below}.items(), key=lambda item: item[1]):
                place = target if flat else target + path[len(found.name) :]
                kept, _ = self.ensure_project(tx, place, caller.user)
                held += store.move_contents(tx, source, path, kept, place)
                moved += source != found.id
            store.remove_projects(tx, [found.id, *below])
            return held, moved

        done = await self._db.write(work)
        self._bus.publish(LiveEvent(kind="project", project=target, time=self._clock()))
        return done

    def ensure_project(self, tx: Connection, path: str, user: str) -> tuple[str, str]:
        """(id, name) of the project at `path`, made with the ones above it when it is not there."""
        found = store.find_id(tx, path)
        if found is not None:
            return found, path
        name = check_project(path)
        self._ensure_all(tx, ancestors(name), user)
        made_id = store.find_id(tx, name)
        if made_id is None:
            raise Conflict(f"project {name!r} was renamed at the same moment; try again")
        return made_id, name

    def find_project(self, tx: Connection, path: str) -> str | None:
        """Id of the project at exactly this path."""
        return store.find_id(tx, path)

    def project_path(self, tx: Connection, project: str) -> str:
        name = store.find_name(tx, project)
        if name is None:
            raise NotFound(f"no project {project[:80]!r}", project=project[:80])
        return name

    async def path_of(self, project: str) -> str:
        """The path of the project with this id."""
        return await self._db.read(lambda tx: self.project_path(tx, project))

    async def ids_of(self, paths: Collection[str]) -> dict[str, str]:
        """The ids of the projects at these paths; what is not there is missing."""
        return await self._db.read(lambda tx: store.find_ids(tx, sorted(paths))) if paths else {}

    def _move(self, tx: Connection, found: Project, name: str, user: str) -> None:
        """Rename it and everything below it, all or nothing."""
        if name.startswith(f"{found.name}/"):
            raise BadInput(f"project {found.name!r} cannot move below itself")
        below = store.names_below(tx, found.name)
        moved = {project: name + old[len(found.name) :] for project, old in below.items()}
        for path in moved.values():
            check_project(path)
        clash = store.taken(tx, [name, *moved.values()])
        if clash is not None:
            raise Conflict(f"project {clash!r} exists already", name=clash)
        self._ensure_all(tx, ancestors(name)[:-1], user)
        for project, path in {found.id: name, **moved}.items():
            store.change_project(tx, project, {"name": path})
            store.move_models(tx, below.get(project, found.name), path)

    def _ensure_all(self, tx: Connection, paths: list[str], user: str) -> None:
        now = self._clock()
        for path in paths:
            if store.find_id(tx, path) is None:
                made = Project(id=uuid.uuid4().hex, name=path, user=user, created=now, last_update=now)
                store.add_project(tx, made)

    def _ensure_above(self, tx: Connection, path: str, user: str) -> None:
        self._ensure_all(tx, ancestors(path)[:-1], user)

    def _tell(self, project: Project) -> None:
        self._bus.publish(LiveEvent(kind="project", project=project.name, time=self._clock()))


def _known(tx: Connection, project: str) -> Project:
    found = store.get_project(tx, project)
    if found is None:
        raise NotFound(f"no project {project!r}")
    return found


def _counted_one(tx: Connection, project: str) -> Project:
    found = _known(tx, project)
    return _counted([found], store.count_tasks(tx, found.name))[0]


def _counted(found: list[Project], counts: list[tuple[str, str, int]]) -> list[Project]:
    """The projects with the counts of everything at and below them."""
    sums: dict[str, Counter[str]] = {project.name: Counter() for project in found}
    for name, status, number in counts:
        for path in ancestors(name):
            if path in sums:
                sums[path][status] += number
    return [msgspec.structs.replace(p, task_counts=dict(sums[p.name])) for p in found]


def _check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    if len(tags) > MAX_TAGS:
        raise BadInput(f"{len(tags)} tags; expected at most {MAX_TAGS}")
    return tuple(dict.fromkeys(check_tag(tag) for tag in tags))


def _check_long(text: str, what: str) -> str:
    """Free text: line breaks are welcome, other control characters are not."""
    if len(text) > SHORT_TEXT:
        raise BadInput(f"{what} has {len(text)} characters; expected at most {SHORT_TEXT}")
    check_text(text.translate({9: " ", 10: " ", 13: " "}), what)
    return text
