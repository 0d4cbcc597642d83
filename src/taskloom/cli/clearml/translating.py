"""ClearML's documents as our values, for an import: the door's own translation, plus what only the source knows.

What the door refuses in a request is made to fit here, because nobody can correct it at the source: names that
are too long or hold control characters, types that we do not have. What was done stands in `notes`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from taskloom.domain.artifact import Artifact, Model, ModelLink, StoredFile
from taskloom.domain.execution import Execution
from taskloom.domain.project import MAX_NAME, MAX_TAG, MIN_NAME, Project
from taskloom.domain.status import Status
from taskloom.domain.task import SHORT_TEXT, Task, TaskType, apply_edit
from taskloom.server.compat.clearml import documents
from taskloom.server.compat.clearml.artifact_documents import artifact_of
from taskloom.server.compat.clearml.model_documents import edit_of as edit_of_model

Document = dict[str, Any]

LIGHT = (
    "id",
    "name",
    "type",
    "project",
    "status",
    "status_changed",
    "last_update",
    "last_change",
    "last_iteration",
    "tags",
    "system_tags",
    "comment",
    "parent",
    "user",
)
"""Fields by which a list shows whether a task changed."""
MAX_TAGS = 256
_ID = re.compile(r"[0-9a-f]{32}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ONE_LINE = ("repository", "branch", "tag", "version_num", "entry_point", "working_dir")


@dataclass(frozen=True)
class Names:
    """What ids of the source stand for: project id -> path here, user id -> name."""

    projects: Mapping[str, str] = field(default_factory=dict[str, str])
    users: Mapping[str, str] = field(default_factory=dict[str, str])

    def user(self, user_id: object) -> str:
        return "" if not isinstance(user_id, str) else self.users.get(user_id, user_id)


@dataclass(frozen=True)
class Told:
    """A task with what was changed to make it fit."""

    task: Task
    notes: tuple[str, ...]


def is_id(text: object) -> bool:
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def version_of(light: Document) -> str:
    """Names this state of a task, by all that a list shows of it."""
    told = {name: light.get(name) for name in LIGHT}
    return hashlib.sha256(msgspec.json.encode(told, order="sorted", enc_hook=str)).hexdigest()[:48]


def task_of(document: Document, names: Names, source: str) -> Told:
    """Without artifacts: those need their bytes first. `source` is named where a state could not be kept."""
    notes: list[str] = []
    given = dict(document)
    kind = given.get("type")
    if kind not in set(TaskType):
        notes.append(f"type {kind!r} became custom")
        given["type"] = TaskType.CUSTOM.value
    given["name"] = _name(given.get("name"), notes)
    given["tags"], given["system_tags"] = _tags(given.get("tags"), notes), _tags(given.get("system_tags"), notes)
    given["comment"] = _long(given.get("comment"))
    given["output_dest"] = _one_line(table(given.get("output")).get("destination"))
    script = table(given.get("script"))
    given["script"] = {**script, **{name: _one_line(script.get(name)) for name in _ONE_LINE if script.get(name)}}
    parent = given.get("parent")
    if parent and not is_id(parent):
        notes.append("its parent's id is none of ours")
    given["parent"] = parent if is_id(parent) else None
    edit = documents.edit_of(_without_nul(given))
    project = names.projects.get(str(document.get("project") or ""), "")
    blank = Task(id=str(document["id"]), name="", project=project or "no project", execution=Execution())
    task = apply_edit(blank, edit)
    status, why = _status(str(document.get("status") or "created"), source)
    reason = str(document.get("status_reason") or "")
    iteration = document.get("last_iteration")
    reported = isinstance(iteration, int) and (iteration != 0 or bool(document.get("last_metrics")))
    times = {n: _time(document.get(n)) for n in ("created", "started", "completed", "last_update")}
    whole = msgspec.structs.replace(
        task,
        status=status,
        status_reason=f"{reason}; {why}" if reason and why else reason or why,
        status_message=str(document.get("status_message") or ""),
        status_changed=_time(document.get("status_changed")) or times["last_update"] or times["created"],
        user=names.user(document.get("user"))[:MAX_NAME],
        last_iteration=iteration if reported else None,
        worker=str(document.get("last_worker") or "")[:MAX_NAME],
        models=links_of(document),
        **times,
    )
    return Told(whole, tuple([*notes, why] if why else notes))


def artifact(document: Document, found: StoredFile | None) -> Artifact:
    """With `found` its bytes are here, and the source's address of them is no longer told."""
    told = artifact_of(_without_nul(document), found)
    return told if found is None else msgspec.structs.replace(told, uri="", size=found.size)


def links_of(document: Document) -> tuple[ModelLink, ...]:
    found: dict[tuple[str, str], ModelLink] = {}
    models = table(document.get("models"))
    for direction in ("input", "output"):
        for item in tables(models.get(direction)):
            if is_id(item.get("model")):
                name = _one_line(item.get("name")) or "Model"
                found[direction, name] = ModelLink(name, str(item["model"]), direction)
    return tuple(found.values())


def model_of(document: Document, names: Names) -> Model:
    """Without bytes; labels that are no numbers and metadata without a name are left out."""
    notes: list[str] = []
    given = cast(Document, _without_nul(dict(document)))
    given["tags"], given["system_tags"] = _tags(given.get("tags"), notes), _tags(given.get("system_tags"), notes)
    given["name"], given["uri"] = _one_line(given.get("name"))[:MAX_NAME], _one_line(given.get("uri"))
    given["framework"], given["iteration"] = _one_line(given.get("framework")), None
    given["task"] = given.get("task") if is_id(given.get("task")) else None
    given["parent"] = given.get("parent") if is_id(given.get("parent")) else None
    labels = table(given.get("labels"))
    given["labels"] = {str(name): value for name, value in labels.items() if isinstance(value, int)}
    metadata = table(given.get("metadata"))
    given["metadata"] = {name: item for name, item in metadata.items() if name and isinstance(item, dict)}
    project = names.projects.get(str(document.get("project") or ""), "")
    edit = edit_of_model(given, project)
    fields: dict[str, Any] = {n: value for n, value in msgspec.structs.asdict(edit).items() if value is not None}
    created = _time(document.get("created"))
    iteration = document.get("last_iteration")
    model = Model(
        id=str(document["id"]),
        iteration=iteration if isinstance(iteration, int) and iteration else None,
        published=bool(document.get("ready")),
        user=names.user(document.get("user"))[:MAX_NAME],
        created=created,
        last_update=_time(document.get("last_update")) or created,
    )
    return msgspec.structs.replace(model, **fields)


def project_of(document: Document, names: Names) -> Project:
    notes: list[str] = []
    created = _time(document.get("created"))
    return Project(
        id=str(document["id"]),
        name=project_name(document),
        description=_long(document.get("description")),
        tags=tuple(_tags(document.get("tags"), notes)),
        system_tags=tuple(_tags(document.get("system_tags"), notes)),
        created=created,
        last_update=_time(document.get("last_update")) or created,
        user=names.user(document.get("user"))[:MAX_NAME],
        output_uri=_one_line(document.get("default_output_destination")),
    )


def project_name(document: Document) -> str:
    parts = [_one_line(part) for part in str(document.get("name") or "").split("/")]
    name = "/".join(part for part in parts if part)[:MAX_NAME].strip().rstrip("/")
    return name if len(name) >= MIN_NAME else f"{name}{'_' * (MIN_NAME - len(name))}"


# --- making things fit ------------------------------------------------------------------------------------


def _status(theirs: str, source: str) -> tuple[Status, str]:
    """Our state, and why it is another one than there."""
    found = documents.OURS.get(theirs)
    if found is None:
        return Status.ABORTED, f"its state {theirs[:40]!r} is none of ours"
    if found is Status.PENDING:
        return Status.DRAFT, f"it waited in a queue at {source} when it was imported"
    if found is Status.RUNNING:
        return Status.ABORTED, f"it still ran at {source} when it was imported"
    return found, ""


def _name(name: object, notes: list[str]) -> str:
    told = _one_line(name)
    if len(told) > MAX_NAME:
        notes.append("its name was cut")
    return told[:MAX_NAME].strip().ljust(MIN_NAME, "_")


def _tags(tags: object, notes: list[str]) -> list[str]:
    found = [_one_line(tag)[:MAX_TAG] for tag in cast("list[Any]", tags)] if isinstance(tags, list) else []
    kept = list(dict.fromkeys(tag for tag in found if tag))
    if len(kept) > MAX_TAGS:
        notes.append(f"{len(kept) - MAX_TAGS} of its tags were left out")
    return kept[:MAX_TAGS]


def _one_line(value: object) -> str:
    return _CONTROL.sub(" ", value).strip()[:4096] if isinstance(value, str) else ""


def _long(value: object) -> str:
    return value.replace("\0", "\ufffd")[:SHORT_TEXT] if isinstance(value, str) else ""


def _time(value: object) -> float:
    """Epoch seconds; 0 for none and for what is no time."""
    if isinstance(value, str) and value:
        try:
            found = documents.seconds_of(value.replace("Z", "+00:00"))
        except (ValueError, OverflowError):
            return 0.0
        return found if math.isfinite(found) and found > 0 else 0.0
    return 0.0


def _without_nul(value: Any) -> Any:
    """No database holds the character NUL; older servers did."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd") if "\0" in value else value
    if isinstance(value, list):
        return [_without_nul(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {str(_without_nul(name)): _without_nul(item) for name, item in items}
    return value


def table(value: object) -> Document:
    return cast(Document, value) if isinstance(value, dict) else {}


def tables(value: object) -> list[Document]:
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast(Document, item) for item in items if isinstance(item, dict)]
