"""Our task as ClearML's task document, and ClearML's fields as an edit of our task.

What both know is translated: script and container are our execution, the section `properties` our properties,
`runtime.progress` our progress. What ClearML's clients keep with the code and nobody here acts on (conda
requirements, labels of a model, data views) stands in `execution.foreign` under ClearML's own names, so that it
goes along with a clone and outlives a reset, as it does with ClearML. A field that comes back as it was told
changes nothing: clients read whole sections, change one line and send all of it.

Nothing is read or written here. Artifacts and linked models are not part of an edit, see `tasks`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from taskloom.domain.destination import NOWHERE, SERVER
from taskloom.domain.execution import Execution
from taskloom.domain.metrics import SeriesSummary, WireNumber
from taskloom.domain.parameters import ARGS_SECTION, Parameter
from taskloom.domain.status import Status
from taskloom.domain.task import ConfigurationObject, Property, Task, TaskEdit, TaskType
from taskloom.server.compat.clearml.artifact_documents import artifact_document
from taskloom.server.compat.clearml.call import FILES, table, text, texts
from taskloom.server.compat.clearml.errors import BAD_FIELD, Refusal
from taskloom.server.compat.clearml.executions import Document, GivenExecution, execution_documents
from taskloom.server.compat.clearml.people import People
from taskloom.server.compat.clearml.tokens import COMPANY

STATUSES: dict[Status, str] = {
    Status.DRAFT: "created",
    Status.PENDING: "queued",
    Status.RUNNING: "in_progress",
    Status.ABORTED: "stopped",
    Status.FAILED: "failed",
    Status.COMPLETED: "completed",
    Status.PUBLISHED: "published",
}
OURS: dict[str, Status] = {
    **{theirs: ours for ours, theirs in STATUSES.items()},
    "closed": Status.COMPLETED,
    "publishing": Status.PUBLISHED,
}
"""Our state of each of ClearML's; it has two more that end up as these."""

PROPERTIES = "properties"  # the section of hyperparameters that holds user properties
PROGRESS = "progress"
LEGACY = "legacy"  # the type of parameters and configurations that came in the old flat form

# --- our task, told ---------------------------------------------------------------------------------------


def task_document(task: Task, people: People, origin: str) -> Document:
    """Every field of ClearML's task document; fields without a value are None, empty or left out as it has them."""
    script, container, execution = execution_documents(task.execution)
    ended = task.completed if task.completed >= task.started else 0.0
    until = ended or (task.last_update if task.status is Status.RUNNING else 0.0)
    foreign = task.execution.foreign
    outputs = [{"name": link.name, "model": link.model} for link in task.models if link.direction != "input"]
    document: Document = {
        "id": task.id,
        "name": task.name,
        "type": task.type.value,
        "project": task.project_id or None,
        "parent": task.parent or None,
        "user": people.id_of(task.user) or None,
        "company": COMPANY,
        "comment": task.comment,
        "tags": list(task.tags),
        "system_tags": list(task.system_tags),
        "status": STATUSES[task.status],
        "status_reason": task.status_reason,
        "status_message": task.status_message,
        "status_changed": moment(task.status_changed),
        "created": moment(task.created),
        "started": moment(task.started),
        "completed": moment(ended),
        "published": moment(task.status_changed) if task.status is Status.PUBLISHED else None,
        "active_duration": max(0, int(until - task.started)) if until and task.started else None,
        "last_update": moment(task.last_update),
        "last_change": moment(task.last_update),
        "last_iteration": task.last_iteration or 0,
        "last_worker": task.worker or None,
        "last_worker_report": moment(task.last_update) if task.worker else None,
        "output": {
            "destination": _destination(task.output_uri, origin),
            "model": outputs[0]["model"] if outputs else None,
            "result": "",
            "error": task.status_message if task.status is Status.FAILED else "",
        },
        "execution": {
            "model_labels": {},
            **execution,
            **_legacy(task),
            "queue": task.queue or None,
            "artifacts": [artifact_document(artifact, origin) for artifact in task.artifacts],
        },
        "script": script,
        "container": container,
        "hyperparams": _hyperparams(task),
        "configuration": {
            name: {"name": name, "value": c.value, "type": c.type or None, "description": c.description or None}
            for name, c in task.configuration.items()
        },
        "models": {
            "input": [{"name": n.name, "model": n.model} for n in task.models if n.direction == "input"],
            "output": outputs,
        },
        "runtime": _runtime(task),
        "last_metrics": _last_metrics(task.metrics),
        "unique_metrics": [f"{s.title}/{s.series}" for s in task.metrics],
    }
    if "input" in foreign:
        document["input"] = foreign["input"]
    return document


def _destination(uri: str, origin: str) -> str | None:
    """ClearML has no words of its own for our file store and for none."""
    return {SERVER: f"{origin}{FILES}", NOWHERE: None, "": None}.get(uri, uri)


def moment(seconds: float) -> str | None:
    """ISO 8601 with offset; None for 'not yet' and for what no calendar has."""
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    except (OverflowError, OSError, ValueError):
        return None


def seconds_of(iso: str) -> float:
    """Epoch seconds of a moment as ClearML writes them (without an offset: UTC); ValueError when it is none."""
    found = datetime.fromisoformat(iso)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _hyperparams(task: Task) -> Document:
    told = {
        section: {name: parameter_document(section, name, parameter) for name, parameter in names.items()}
        for section, names in task.parameters.items()
    }
    if task.properties:
        properties = {n: parameter_document(PROPERTIES, n, p) for n, p in task.properties.items()}
        told[PROPERTIES] = {**told.get(PROPERTIES, {}), **properties}
    return told


def _legacy(task: Task) -> Document:
    """What came in the old flat forms, in them, too."""
    flat = {
        name if section == ARGS_SECTION else f"{section}/{name}": parameter.value
        for section, names in task.parameters.items()
        for name, parameter in names.items()
        if parameter.type == LEGACY
    }
    designs = {name: c.value for name, c in task.configuration.items() if c.type == LEGACY}
    return {"parameters": flat, "model_desc": designs}


def parameter_document(section: str, name: str, item: Parameter | Property) -> Document:
    return {
        "section": section,
        "name": name,
        "value": item.value,
        "type": item.type or None,
        "description": item.description or None,
    }


def _runtime(task: Task) -> Document:
    if task.progress is None or PROGRESS in task.runtime:
        return dict(task.runtime)
    return {**task.runtime, PROGRESS: str(int(task.progress))}


@lru_cache(maxsize=20_000)
def hashed(name: str) -> str:
    """How ClearML names a metric or variant in `last_metrics`."""
    return hashlib.md5(name.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def _last_metrics(metrics: tuple[SeriesSummary, ...]) -> Document:
    told: dict[str, Document] = {}
    for s in metrics:
        told.setdefault(hashed(s.title), {})[hashed(s.series)] = {
            "metric": s.title,
            "variant": s.series,
            "value": number(s.last),
            "first_value": number(s.first),
            "min_value": number(s.min),
            "min_value_iteration": s.min_iteration,
            "max_value": number(s.max),
            "max_value_iteration": s.max_iteration,
            "mean_value": number(s.mean),
            "count": s.count,
            "iter": s.last_iteration,
        }
    return told


def number(value: WireNumber) -> float | None:
    """ClearML's clients take a number or nothing."""
    return value if isinstance(value, float | int) and math.isfinite(value) else None


# --- ClearML's fields, as an edit --------------------------------------------------------------------------


def edit_of(body: Mapping[str, Any], found: Task | None = None) -> TaskEdit:
    """The edit that the fields of a task document ask for; `found` is the task as it is, if there is one.

    As with ClearML: `script` and `execution` change the fields that they name; `hyperparams`, `configuration`,
    `container` and `runtime` replace what is there. None counts as not given. `project` is an id and not read.
    """
    execution = found.execution if found else Execution()
    parameters, properties = _parameters_of(body)
    configuration = _configuration_of(body)
    runtime, progress = _runtime_of(body)
    given = GivenExecution(execution)
    given.script(body)
    given.container(body)
    given.execution(body)
    kind = text(body, "type")
    return TaskEdit(
        name=_optional(body, "name"),
        type=_type_of(kind) if kind else None,
        comment=_optional(body, "comment"),
        parent=_optional(body, "parent"),
        tags=None if body.get("tags") is None else tuple(texts(body, "tags")),
        system_tags=None if body.get("system_tags") is None else tuple(texts(body, "system_tags")),
        output_uri=_optional(body, "output_dest"),
        execution=given.fields or None,
        parameters=parameters,
        replace_parameters=body.get("hyperparams") is not None,
        properties=properties,
        replace_properties=body.get("hyperparams") is not None,
        configuration=configuration,
        replace_configuration=body.get("configuration") is not None,
        runtime=runtime,
        replace_runtime=runtime is not None,
        progress=progress,
    )


def parameter_of(item: Mapping[str, Any]) -> Parameter:
    return Parameter(_value_text(item, "value"), text(item, "type"), text(item, "description"))


def property_of(item: Mapping[str, Any]) -> Property:
    return Property(_value_text(item, "value"), text(item, "type"), text(item, "description"))


def configuration_of(item: Mapping[str, Any]) -> ConfigurationObject:
    return ConfigurationObject(_value_text(item, "value"), text(item, "type"), text(item, "description"))


def _parameters_of(
    body: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Parameter | None]] | None, dict[str, Property | None] | None]:
    sections = table(body, "hyperparams")
    parameters: dict[str, dict[str, Parameter | None]] = {}
    properties: dict[str, Property | None] = {}
    for section in sections:
        for name in (items := table(sections, section)):
            item = table(items, name)
            if section == PROPERTIES:
                properties[name] = property_of(item)
            else:
                parameters.setdefault(section, {})[name] = parameter_of(item)
    flat = table(table(body, "execution"), "parameters")
    for full in flat:
        section, slash, name = full.partition("/")
        if not slash:
            section, name = ARGS_SECTION, full
        parameters.setdefault(section, {}).setdefault(name, Parameter(_value_text(flat, full), LEGACY))
    return parameters or None, properties or None


def _configuration_of(body: Mapping[str, Any]) -> dict[str, ConfigurationObject | None] | None:
    items = table(body, "configuration")
    found: dict[str, ConfigurationObject | None] = {n: configuration_of(table(items, n)) for n in items}
    old = table(table(body, "execution"), "model_desc")
    for name in old:
        found.setdefault(name, ConfigurationObject(_value_text(old, name), LEGACY))
    return found or None


def _runtime_of(body: Mapping[str, Any]) -> tuple[dict[str, Any] | None, float | None]:
    """Runtime values without a progress that is one, and the progress."""
    if body.get("runtime") is None:
        return None, None
    runtime = dict(table(body, "runtime"))
    try:
        progress = float(runtime.get(PROGRESS, "none"))
    except (TypeError, ValueError, OverflowError):
        return runtime, None
    if not 0 <= progress <= 100:
        return runtime, None
    del runtime[PROGRESS]
    return runtime, progress


def _type_of(kind: str) -> TaskType:
    try:
        return TaskType(kind)
    except ValueError:
        known = ", ".join(TaskType)
        raise Refusal(f"field 'type': {kind[:80]!a} is none of {known}", 400, BAD_FIELD) from None


def _optional(body: Mapping[str, Any], name: str) -> str | None:
    return None if body.get(name) is None else text(body, name)


def _value_text(item: Mapping[str, Any], name: str) -> str:
    """Values are texts; a client that sends a number or a flag means its text."""
    value = item.get(name)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return text(item, name)
