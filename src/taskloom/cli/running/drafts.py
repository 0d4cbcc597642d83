"""From a task file and the words of a command line to the draft that the server is asked to make."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.domain.execution import Execution
from taskloom.domain.parameters import DEFAULT_SECTION, Parameter, Sections
from taskloom.domain.project import MIN_NAME
from taskloom.domain.task import ConfigurationObject
from taskloom.domain.taskfile import FILE_NAME, TaskFile, check_parameters, check_values
from taskloom.domain.taskfile.quantities import read_accelerators, read_bytes, read_cpus, read_seconds
from taskloom.domain.variables import wrong_name
from taskloom.wire import messages as m

DEFAULT_PROJECT = "tasks"


@dataclass(frozen=True)
class Wishes:
    """What a command line says instead of the file; empty and None: nothing."""

    name: str = ""
    project: str = ""
    tags: tuple[str, ...] = ()
    run: str = ""
    setup: str | None = None
    image: str = ""
    cpus: str = ""
    memory: str = ""
    disk: str = ""
    accelerators: str = ""
    priority: int | None = None
    preemptible: bool | None = None
    retries: int | None = None
    time_limit: str = ""
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


def wished(execution: Execution, wishes: Wishes) -> dict[str, Any]:
    """The fields of the execution that the command line changes."""
    changes: dict[str, Any] = {}
    for name in ("run", "setup", "image", "priority", "preemptible"):
        value = getattr(wishes, name)
        if value not in {None, ""} or (name == "setup" and value is not None):
            changes[name] = value
    if wishes.retries is not None:
        changes["retries"] = msgspec.structs.replace(execution.retries, failed=wishes.retries)
    if wishes.time_limit:
        changes["time_limit"] = _read("--time-limit", read_seconds, wishes.time_limit)
    resources: dict[str, Any] = {}
    for name, read in (("cpus", read_cpus), ("memory", read_bytes), ("disk", read_bytes)):
        if text := getattr(wishes, name):
            resources[name] = _read(f"--{name}", read, text)
    if wishes.accelerators:
        kind, count, _ = _read("--accelerators", read_accelerators, wishes.accelerators)
        resources |= {"gpu_type": kind, "gpus": count}
    if resources:
        changes["resources"] = msgspec.structs.replace(execution.resources, **resources)
    if wishes.variables:
        for name in wishes.variables:
            if wrong := wrong_name(name):
                raise BadInput(f"--env {name[:80]}: {wrong}")
        changes["variables"] = {**execution.variables, **wishes.variables}
    return changes


def _read(option: str, read: Any, text: str) -> Any:
    try:
        return read(text)
    except BadInput as error:
        raise BadInput(f"{option}: {error.message}") from None


@dataclass(frozen=True)
class Origin:
    """Where the code comes from. code: fields of the execution; start: folder of the home in which the shell lines
    begin, as if it were the home; about: for people, kept in the task's runtime.
    """

    code: Mapping[str, Any] = field(default_factory=dict[str, Any])
    start: str = ""
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])


def draft_of(file: TaskFile, wishes: Wishes, values: Mapping[str, str], origin: Origin) -> m.TaskCreate:
    """The task as it is to be made, with this run's values."""
    given = check_values(file.schemas, values)
    execution = msgspec.structs.replace(file.execution, **{**origin.code, **wished(file.execution, wishes)})
    execution = msgspec.structs.replace(
        execution, run=_placed(execution.run, origin.start), setup=_placed(execution.setup, origin.start)
    )
    source = dict(origin.about)
    if execution.sweep is not None:
        for name in given.get(DEFAULT_SECTION, {}):
            if name in execution.sweep.grid:
                raise BadInput(f"parameter {name}: the file's sweep gives it several values already")
    return m.TaskCreate(
        name=wishes.name or file.name,
        project=wishes.project or file.project or default_project(source),
        type=file.type,
        comment=file.description,
        tags=tuple(dict.fromkeys((*file.tags, *wishes.tags))),
        execution=execution,
        parameters=merged(file.parameters, given),
        configuration={FILE_NAME: ConfigurationObject(file.text, "yaml")},
        runtime={"source": source} if source else {},
    )


def _placed(text: str, start: str) -> str:
    """The shell lines, beginning in that folder unless they name it themselves."""
    if not start or not text.strip():
        return text
    name = re.escape(start)
    if re.search(
        rf"(?:~|\$HOME|\$\{{HOME\}})/[\"']?{name}\b|\bcd\s+[\"']?(?:\./)?{name}\b|(?:^|[\s=\"']){name}/", text
    ):
        return text
    return f"cd ~/{shlex.quote(start)}\n{text}"


def merged(present: Sections, given: Sections) -> Sections:
    return {section: {**present.get(section, {}), **given.get(section, {})} for section in {**present, **given}}


def unfilled(file: TaskFile, draft: m.TaskCreate) -> list[str]:
    """Names of parameters that need a value and have none; BadInput when another one is wrong."""
    swept = draft.execution.sweep.grid if draft.execution.sweep else {}
    schemas = {name: schema for name, schema in file.schemas.items() if name not in swept}
    present = draft.parameters.get(DEFAULT_SECTION, {})
    missing = [name for name, schema in schemas.items() if schema.required and _is_empty(present.get(name))]
    wrong = check_parameters(
        {name: schema for name, schema in schemas.items() if name not in missing}, draft.parameters
    )
    if wrong:
        raise BadInput("\n".join(wrong), problems=wrong)
    return missing


def _is_empty(parameter: Parameter | None) -> bool:
    return parameter is None or parameter.type == "none"


def default_project(source: Mapping[str, Any]) -> str:
    """The repository's name, else the folder's; a shelf for all others."""
    for name in (repository_of(source), str(source.get("folder", ""))):
        plain = re.sub(r"[/\x00-\x1f]+", "-", name).strip("- ")
        if len(plain) >= MIN_NAME:
            return plain
    return DEFAULT_PROJECT


def repository_of(source: Mapping[str, Any]) -> str:
    from taskloom.domain.repository import repository_name

    return repository_name(str(source.get("repository", "") or ""))
