"""Tasks: made, found, edited, moved, brought over from another server."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Sections
from taskloom.domain.status import Status
from taskloom.domain.task import ConfigurationObject, Property, Task, TaskEdit, TaskType
from taskloom.wire.messages.base import Answer, Request


class TaskCreate(Request, frozen=True, kw_only=True):
    """A draft, made without running anything. `id`: 32 hexadecimal digits, made by the server when empty."""

    id: str = ""
    name: str
    project: str
    type: TaskType = TaskType.TRAINING
    comment: str = ""
    parent: str = ""
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    execution: Execution = Execution()
    parameters: Sections = {}
    configuration: dict[str, ConfigurationObject] = {}
    properties: dict[str, Property] = {}
    runtime: dict[str, Any] = {}
    progress: float | None = None
    output_uri: str = ""


class TaskClone(Request, frozen=True, kw_only=True):
    """Name by default `Clone Of NAME`, project by default the source's. Results stay behind.

    `edit`: what else shall be different in the clone.
    """

    name: str = ""
    project: str = ""
    comment: str | None = None
    parent: str = ""  # by default the source
    edit: TaskEdit | None = None


Comparison = Literal["=", "!=", "<", "<=", ">", ">=", "contains", "exists", "matches", "in", "not in"]


class Condition(Request, frozen=True, kw_only=True):
    """A filter on one key: `parameters.Args/lr`, `metrics.loss/train` (last), `metrics.loss/train:min`, `:max`,
    `properties.NAME`, `runtime.NAME`, `execution.NAME` (repository, branch, tag, commit, entry_point, image), or a
    field of the task: `id`, `name`, `comment`, `project` (the path), `project_id`, `status`, `type`, `user`,
    `parent`, `queue` (its id), `worker`, `status_message`, `status_reason`, `output_uri`, `created`, `started`,
    `completed`, `status_changed`, `last_update`, `last_iteration`, `progress`; `tags` and `system_tags`, of which
    any may match.

    `matches` takes a regular expression (RE2: no look-around, no back-references) that may match anywhere;
    `in` and `not in` take a list, in which the empty text stands for "has none".
    """

    key: str
    is_: Comparison = msgspec.field(default="=", name="is")
    value: float | str | list[float | str] | None = None


class TaskQuery(Request, frozen=True, kw_only=True):
    """Which tasks, in which order, which page.

    ids, status, type, user, parent: any of the list. name: a part of it, case-insensitive, or the whole name
    with `exact_name`. project: a path; `subprojects` takes those below it along. tags, system_tags: the tag
    language of `domain.tagquery`. search: a part of name, comment or id. where: every condition holds; any_of:
    in every list at least one does. Archived and hidden tasks are left
    out unless `system_tags` names them or `hidden` is true or `ids` is given.
    order_by: `last_update` (default, newest first), `created`, `started`, `completed`, `status_changed`, `name`,
    `status`, `type`, `user`, `project`, `parent`, `worker`, `comment`, `id`, `last_iteration`, `progress`, or a key
    of values of `Condition`; a leading `-` reverses.
    fields: empty for whole tasks; else only these of Task's fields are filled besides id, name, project, status.
    The total is counted up to `count_to`; one more means "at least so many".
    """

    ids: list[str] = []
    project: str = ""
    subprojects: bool = False
    name: str = ""
    exact_name: bool = False
    tags: list[str] = []
    system_tags: list[str] = []
    status: list[Status] = []
    type: list[TaskType] = []
    user: list[str] = []
    parent: list[str] = []
    search: str = ""
    hidden: bool = False
    where: list[Condition] = []
    any_of: list[list[Condition]] = []
    order_by: list[str] = []
    fields: list[str] = []
    limit: int = 100  # at most 1000
    offset: int = 0
    count_to: int = 10_000


class TaskList(Answer, frozen=True, kw_only=True):
    tasks: list[Task]
    total: int


ImportStep = Literal["look", "begin", "finish"]
ImportState = Literal["new", "begun", "changed", "known"]


class TaskImport(Request, frozen=True, kw_only=True):
    """A task of another server, as it was there. `version` names its state there, up to 57 letters and digits.

    look     tells only what would have to be done
    begin    makes the task, or drops the results of an older version, and lets the journal of `writer` in
    finish   writes `task` as given: state, times, user, artifacts, links to models that are here
    """

    step: ImportStep
    version: str
    writer: str
    task: Task


class TaskImported(Answer, frozen=True, kw_only=True):
    """new: not here yet; begun: an import of it was cut; changed: here in another version; known: here as it is."""

    state: ImportState


class TaskEditRequest(Request, frozen=True, kw_only=True):
    """Body of PATCH on a task. `force` edits what only a draft allows; for administrators and repairs."""

    edit: TaskEdit
    force: bool = False


class MoveRequest(Request, frozen=True, kw_only=True):
    """Why; free text that the task keeps. `force` lets reset and delete reach a pending or running task."""

    reason: str = ""
    message: str = ""
    force: bool = False


class TaskDelete(Request, frozen=True, kw_only=True):
    """Query string of DELETE on a task."""

    force: bool = False
