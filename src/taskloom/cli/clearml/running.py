"""A whole import: projects, then tasks, several at a time, then the models that no task brought.

What every task needs (projects, names of users) is read first. Each task stands alone: one that cannot be brought
is told in the report and does not keep the others. Wrong keys and a side that is away end the whole import; the next
one goes on where it ended.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import msgspec

from taskloom.cli.clearml import translating
from taskloom.cli.clearml.bringing import Bringing
from taskloom.cli.clearml.patience import ENDS_ALL, Patience, Stopped
from taskloom.cli.clearml.report import Report
from taskloom.cli.clearml.session import Session
from taskloom.cli.clearml.source import Refused, Source
from taskloom.cli.clearml.translating import Document, Names, is_id, table, tables
from taskloom.domain.artifact import Model
from taskloom.domain.errors import Conflict, Discarded, TaskloomError
from taskloom.domain.project import ancestors
from taskloom.wire import messages as m
from taskloom.wire import operations as op

REPORT_TYPES = frozenset({"report", "annotation", "annotation_manual"})  # no runs: documents of their own kind
AHEAD = 4  # tasks that wait for a thread, for each thread
IDS = 100  # ids in one question


@dataclass(frozen=True)
class Wanted:
    """Which tasks. `project`: a path, with what lies below it. `since`: ISO 8601, by last update."""

    project: str = ""
    tasks: Sequence[str] = ()
    since: str = ""
    archived: bool = False

    @property
    def everything(self) -> bool:
        return not (self.project or self.tasks or self.since)


@dataclass
class Import:
    """From a running server. `begin` is told how many tasks there are, `step` of each that is done."""

    source: Source
    bringing: Bringing
    report: Report
    patience: Patience
    jobs: int = 4
    dry_run: bool = False
    begin: Callable[[int], None] = lambda _count: None
    step: Callable[[], None] = lambda: None
    _names: Names = field(default_factory=Names)
    _models: set[str] = field(default_factory=set[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, wanted: Wanted) -> None:
        self.source.enter()
        users = self._users()
        projects = list(self.source.every("projects", search_hidden=True))
        filters = self._filters(wanted, projects)
        self._names = Names({str(p["id"]): translating.project_name(p) for p in projects}, users)
        tasks = self._listed(filters)
        self._names = Names(self._bring_projects(projects, tasks, wanted), users)
        self.begin(len(tasks))
        self._all(tasks)
        if not self.dry_run:
            self._other_models(wanted, filters)
        self._left_out(wanted, filters)

    # --- what there is ----------------------------------------------------------------------------------

    def _users(self) -> dict[str, str]:
        try:
            found = tables(self.source.call("users.get_all", only_fields=["id", "name"]).get("users"))
        except Refused as error:
            self.report.leave_out("users' names", f"the source does not tell them: {error.message}")
            return {}
        return {str(user.get("id")): str(user.get("name") or user.get("id")) for user in found}

    def _filters(self, wanted: Wanted, projects: Sequence[Document]) -> Document:
        filters: Document = {"search_hidden": True, "order_by": ["created"]}
        if wanted.project:
            path = wanted.project.strip("/")
            under = [p for p in projects if p.get("name") == path or str(p.get("name")).startswith(f"{path}/")]
            if not under:
                raise Refused(f"there is no project {path!r} at {self.source.url}")
            filters["project"] = [str(project["id"]) for project in under]
        if wanted.tasks:
            filters["id"] = list(wanted.tasks)
        if wanted.since:
            filters["last_update"] = [f">={wanted.since}"]
        if not wanted.archived:
            filters["system_tags"] = ["-archived"]
        return filters

    def _listed(self, filters: Document) -> list[Document]:
        """All of them, lightly: some hundred bytes each."""
        found: list[Document] = []
        for light in self.source.every("tasks", only_fields=list(translating.LIGHT), **filters):
            if not is_id(light.get("id")):
                self.report.leave_out("tasks", "their id is not of 32 hexadecimal digits", str(light.get("id")))
            elif light.get("type") in REPORT_TYPES:
                self.report.leave_out("reports", "there are none here", f"{light['id']} {light.get('name')}")
            else:
                found.append({name: light.get(name) for name in translating.LIGHT})
        return found

    # --- projects ---------------------------------------------------------------------------------------

    def _bring_projects(
        self, projects: Sequence[Document], tasks: Sequence[Document], wanted: Wanted
    ) -> dict[str, str]:
        """Path here by id there. Only those that are needed, unless everything is wanted; those above come first."""
        used = {self._names.projects.get(str(task.get("project")), "") for task in tasks}
        needed = {path for name in used if name for path in ancestors(name)}
        paths: dict[str, str] = {}
        for document in sorted(projects, key=translating.project_name):
            project = translating.project_of(document, self._names)
            paths[project.id] = project.name
            if not (wanted.everything or project.name in needed) or self.dry_run:
                continue
            if not is_id(project.id):
                self.report.leave_out("projects' ids", "not of 32 hexadecimal digits", project.id)
                continue
            try:
                kept = self.bringing.target.call(op.IMPORT_PROJECT, project, project=project.id)
            except ENDS_ALL:
                raise
            except TaskloomError as error:
                self.report.leave_out("projects", f"refused: {error.message}", project.name)
                continue
            if kept.id != project.id:
                why = "one of the same name is here and took the tasks; its description and tags stayed"
                self.report.leave_out("projects' ids", why, project.name)
            paths[project.id] = kept.name
            self.report.add("projects")
        return paths

    # --- tasks ------------------------------------------------------------------------------------------

    def _all(self, tasks: Sequence[Document]) -> None:
        """Several at a time, never more ahead than needed; the first error that concerns all of them is raised."""
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="import") as pool:
            waiting: set[Future[None]] = set()
            try:
                for light in tasks:
                    waiting.add(pool.submit(self._one, light))
                    if len(waiting) >= self.jobs * AHEAD:
                        waiting = self._settled(waiting)
                while waiting:
                    waiting = self._settled(waiting)
            except BaseException:
                self.patience.stop()
                for future in waiting:
                    future.cancel()
                raise

    def _settled(self, waiting: set[Future[None]]) -> set[Future[None]]:
        done, rest = wait(waiting, return_when=FIRST_COMPLETED)
        errors = [error for future in done if (error := future.exception()) is not None]
        for error in errors:
            if not isinstance(error, Stopped):
                raise error
        for _ in done:
            self.step()
        return rest

    def _one(self, light: Document) -> None:
        identity, name = str(light["id"]), str(light.get("name") or "")
        version = translating.version_of(light)
        try:
            told = translating.task_of(light, self._names, self.source.url)
            state = self.bringing.look(told.task, version)
            if state != "known" and not self.dry_run:
                document = table(self.source.call("tasks.get_by_id", task=identity).get("task"))
                self._bring({**document, "id": identity}, version)
            elif state != "known":
                self._note(told.notes, identity, name)
            self.report.task(state)
        except (Conflict, Discarded) as error:
            self.report.task("left")
            self.report.leave_out("tasks", _reason(error), f"{identity} {name}")
        except ENDS_ALL:
            raise
        except TaskloomError as error:
            self.report.fail(identity, name, error.message)

    def _bring(self, document: Document, version: str) -> None:
        told = translating.task_of(document, self._names, self.source.url)
        self._note(told.notes, told.task.id, told.task.name)
        artifacts = tables(table(document.get("execution")).get("artifacts"))
        linked = {link.model for link in told.task.models}
        self.bringing.bring(told.task, version, artifacts, lambda: list(self._task_models(told.task.id, linked)))

    def _note(self, notes: Sequence[str], identity: str, name: str) -> None:
        for note in notes:
            self.report.leave_out("details", note, f"{identity} {name}")

    # --- models -----------------------------------------------------------------------------------------

    def _task_models(self, task: str, linked: set[str]) -> Iterator[Model]:
        """Those that it made and those that it names."""
        found = list(self.source.every("models", task=[task]))
        missing = sorted(linked - {str(model.get("id")) for model in found})
        for at in range(0, len(missing), IDS):
            found += self.source.every("models", id=missing[at : at + IDS])
        yield from self._fresh(found)

    def _other_models(self, wanted: Wanted, filters: Document) -> None:
        """Models of the wanted projects that no task brought."""
        if wanted.tasks or wanted.since:
            return
        chosen: Document = {"project": filters["project"]} if "project" in filters else {}
        if not wanted.archived:
            chosen["system_tags"] = ["-archived"]
        fresh = self._fresh(self.source.every("models", **chosen))
        while some := list(itertools.islice(fresh, IDS)):
            self.bringing.bring_models(some)

    def _fresh(self, found: Any) -> Iterator[Model]:
        for document in found:
            if not is_id(document.get("id")):
                self.report.leave_out(
                    "models", "their id is not of 32 hexadecimal digits", str(document.get("id"))
                )
                continue
            with self._lock:
                if document["id"] in self._models:
                    continue
                self._models.add(document["id"])
            if document.get("last_metrics") or document.get("unique_metrics"):
                self.report.leave_out(
                    "models' own metrics", "only tasks' metrics are brought over", document["id"]
                )
            yield translating.model_of(document, self._names)

    # --- what stays -------------------------------------------------------------------------------------

    def _left_out(self, wanted: Wanted, filters: Document) -> None:
        """What the source has that has no place here, as far as it tells."""
        if not wanted.archived:
            archived = {**filters, "system_tags": ["archived"], "only_fields": ["id"]}
            if count := sum(1 for _ in self.source.every("tasks", **archived)):
                self.report.leave_out("tasks", "archived; --archived brings them, too", count=count)
        if not wanted.everything:
            return
        try:
            queues = tables(self.source.call("queues.get_all").get("queues"))
        except Refused:
            queues = []
        for queue in queues:
            if entries := len(tables(queue.get("entries"))):
                why = "what waits there is a draft here; enqueue it when it shall run"
                self.report.leave_out("queues' entries", why, str(queue.get("name")), entries)
        if users := len(self._names.users):
            why = "keys are not told by the source; `taskloom key create --user` makes new ones"
            self.report.leave_out("users' credentials", why, count=users)


# --- offline sessions -------------------------------------------------------------------------------------


def bring_session(session: Session, bringing: Bringing, report: Report, user: str, *, dry_run: bool) -> None:
    """A task of an offline session, as its user's."""
    document = session.document()
    models = session.models()
    names = Names({"": session.project}, {})
    told = translating.task_of({**document, "project": "", "user": user}, names, session.name)
    outputs = {"output": [{"name": model["name"], "model": model["id"]} for model in models]}
    links = translating.links_of({"models": outputs})
    task = msgspec.structs.replace(told.task, models=(*told.task.models, *links))
    version = session.version()
    try:
        state: m.ImportState = bringing.look(task, version)
        if state != "known" and not dry_run:
            artifacts = tables(table(document.get("execution")).get("artifacts"))
            own = Names({"": task.project}, {})
            bringing.bring(
                task, version, artifacts, lambda: [translating.model_of({**d, "project": ""}, own) for d in models]
            )
        report.task(state)
    except (Conflict, Discarded) as error:
        report.task("left")
        report.leave_out("tasks", _reason(error), f"{task.id} {task.name}")
    for note in told.notes:
        report.leave_out("details", note, f"{task.id} {task.name}")


def _reason(error: TaskloomError) -> str:
    """Without the id, so that equal reasons are counted together."""
    task = str(error.details.get("task", ""))
    return " ".join(word for word in error.message.split() if word != task) if task else error.message
