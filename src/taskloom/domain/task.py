"""The task: the record of one execution, and the edits that can be made to it.

`TaskEdit` is the one value in which a change travels: a running script journals it, a person's command sends
it as a PATCH, a clone is made with it. What it may change depends on the state: results-neutral fields (name,
comment, tags, properties, runtime, project) always; execution, parameters and configuration only in a draft
or by the run itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from taskloom.domain.artifact import Artifact, ModelLink
from taskloom.domain.execution import Execution
from taskloom.domain.metrics import SeriesSummary
from taskloom.domain.parameters import Parameter, Sections
from taskloom.domain.status import Status

_V = TypeVar("_V")


class TaskType(StrEnum):
    """Source: seed 001, "Task types"."""

    TRAINING = "training"
    TESTING = "testing"
    INFERENCE = "inference"
    CONTROLLER = "controller"
    OPTIMIZER = "optimizer"
    MONITOR = "monitor"
    SERVICE = "service"
    APPLICATION = "application"
    DATA_PROCESSING = "data_processing"
    QC = "qc"
    CUSTOM = "custom"


ARCHIVED_TAG = "archived"
HIDDEN_TAG = "hidden"
RANDOM_SEED = "random_seed"  # in runtime: what the run fixed, a number or "none"
VERIFICATION = "verification"  # in runtime: the verdict of the last one; a system tag of a run made for one
DEVELOPMENT_TAG = "development"  # a system tag while a person runs the script by hand
NOT_COPIED_TAGS = frozenset(
    {ARCHIVED_TAG, DEVELOPMENT_TAG, VERIFICATION}
)  # system tags that say nothing of a clone
SHORT_TEXT = 64 * 1024  # characters of a status message or a comment


class ConfigurationObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """A configuration kept as text; Taskloom does not know its inner structure. `type` is json, yaml, file..."""

    value: str = ""
    type: str = ""
    description: str = ""


class Property(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user property: editable in every state, without effect on the run."""

    value: str = ""
    type: str = ""
    description: str = ""


class Task(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A task as the server tells it. Times are seconds since the epoch, UTC; 0 means: not yet.

    `revision` grows with every edit; an editor that sends it back is refused when somebody was faster.
    `attempt` counts the leases that workers had on it since it was last reset.
    """

    id: str
    name: str
    project: str  # the path
    project_id: str = ""
    type: TaskType = TaskType.TRAINING
    status: Status = Status.DRAFT
    status_reason: str = ""
    status_message: str = ""
    status_changed: float = 0.0
    user: str = ""
    comment: str = ""
    parent: str = ""
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    created: float = 0.0
    started: float = 0.0
    completed: float = 0.0
    last_update: float = 0.0
    last_iteration: int | None = None
    progress: float | None = None
    revision: int = 0
    execution: Execution = Execution()
    parameters: Sections = {}
    configuration: dict[str, ConfigurationObject] = {}
    properties: dict[str, Property] = {}
    runtime: dict[str, Any] = {}
    output_uri: str = ""
    artifacts: tuple[Artifact, ...] = ()
    models: tuple[ModelLink, ...] = ()
    metrics: tuple[SeriesSummary, ...] = ()
    queue: str = ""  # id of the queue that it waits or waited in
    queue_name: str = ""
    worker: str = ""
    attempt: int = 0


class TaskEdit(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A change. `None` leaves a field alone; dictionaries add and overwrite unless their `replace_` is set.

    `execution` holds only the fields to change, by their names in `Execution` (values as that struct has
    them). A parameter, configuration object, property or runtime value given as None is removed.
    `revision`: refuse the edit unless the task still has it.
    """

    name: str | None = None
    project: str | None = None
    type: TaskType | None = None
    comment: str | None = None
    parent: str | None = None
    tags: tuple[str, ...] | None = None
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] | None = None
    execution: dict[str, Any] | None = None
    parameters: dict[str, dict[str, Parameter | None]] | None = None
    replace_parameters: bool = False
    configuration: dict[str, ConfigurationObject | None] | None = None
    replace_configuration: bool = False
    properties: dict[str, Property | None] | None = None
    replace_properties: bool = False
    runtime: dict[str, Any] | None = None
    replace_runtime: bool = False
    progress: float | None = None
    output_uri: str | None = None
    revision: int | None = None

    def needs_draft(self) -> bool:
        """Whether it touches what to run; everything else may change in every state."""
        return (
            self.execution is not None
            or self.parameters is not None
            or self.replace_parameters
            or self.configuration is not None
            or self.replace_configuration
        )


def how_to_run(runtime: dict[str, Any]) -> dict[str, Any]:
    """What of a run's own words belongs to the next run, too: of a clone, or after a reset."""
    return {name: value for name, value in runtime.items() if name == RANDOM_SEED}


def apply_edit(task: Task, edit: TaskEdit) -> Task:
    """The task after the edit: what the server stores and what a running script's own copy becomes.

    Checks shapes, not permissions: whether the edit is allowed in this state is the server's rule.
    """
    changes: dict[str, Any] = {
        field: value
        for field in ("name", "project", "type", "comment", "parent", "progress", "output_uri")
        if (value := getattr(edit, field)) is not None
    }
    if edit.system_tags is not None:
        changes["system_tags"] = _distinct(edit.system_tags)
    tags = _distinct(task.tags if edit.tags is None else edit.tags)
    gone = set(edit.remove_tags)
    changes["tags"] = tuple(t for t in _distinct((*tags, *edit.add_tags)) if t not in gone)
    if edit.execution is not None:
        merged = {**msgspec.to_builtins(task.execution), **edit.execution}
        changes["execution"] = msgspec.convert(merged, Execution)
    if edit.parameters is not None or edit.replace_parameters:
        sections: Sections = {} if edit.replace_parameters else {s: dict(n) for s, n in task.parameters.items()}
        for section, names in (edit.parameters or {}).items():
            sections[section] = _merged(sections.get(section, {}), names)
        changes["parameters"] = {s: n for s, n in sections.items() if n}
    if edit.configuration is not None or edit.replace_configuration:
        kept = {} if edit.replace_configuration else task.configuration
        changes["configuration"] = _merged(kept, edit.configuration or {})
    if edit.properties is not None or edit.replace_properties:
        changes["properties"] = _merged({} if edit.replace_properties else task.properties, edit.properties or {})
    if edit.runtime is not None or edit.replace_runtime:
        changes["runtime"] = _merged({} if edit.replace_runtime else task.runtime, edit.runtime or {})
    return msgspec.structs.replace(task, **changes)


def _merged(old: dict[str, _V], new: Mapping[str, _V | None]) -> dict[str, _V]:
    return {k: v for k, v in {**old, **new}.items() if v is not None}


def _distinct(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))
