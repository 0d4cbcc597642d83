"""What a server tells of the models of a task, in words that do not change from run to run."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.frameworks.conftest import Bench

from taskloom.domain.artifact import Model
from taskloom.domain.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

_DEFAULTS = {"framework": "", "iteration": None, "labels": {}, "design": "", "metadata": {}, "system_tags": ()}


def told(bench: Bench, task: Task, direction: str = "output", folder: Path | str = "") -> dict[str, Any]:
    """By the name under which the task refers to a model, everything of it that is not made anew in every run.

    `stored` says whether the server holds the bytes; `uri` is told relative to `folder`.
    """
    return {name: _words(bench, model, task, folder) for name, model in bench.models(task, direction).items()}


def _words(bench: Bench, model: Model, task: Task, folder: Path | str) -> dict[str, Any]:
    assert model.project == task.project
    assert not model.published and model.created > 0
    found: dict[str, Any] = {name: getattr(model, name) for name in _DEFAULTS}
    found = {name: value for name, value in found.items() if value != _DEFAULTS[name]}
    found["file"] = model.filename
    if model.digest:
        data = bench.blob(model.digest)
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (model.digest, model.size)
        found["stored"] = True
    if model.uri:
        found["uri"] = model.uri.replace(Path(folder).as_uri(), "FOLDER") if folder else model.uri
    return found


def weights(bench: Bench, task: Task, name: str) -> bytes:
    return bench.blob(bench.models(task)[name].digest)


def unpacked(bench: Bench, task: Task, name: str, folder: Path) -> Path:
    """A model of several files, as a folder."""
    with zipfile.ZipFile(io.BytesIO(weights(bench, task, name))) as archive:
        archive.extractall(folder)
    return folder


def tasks_of(bench: Bench, project: str) -> Mapping[str, Task]:
    """The tasks of a project by their names, ended and wholly shipped."""
    found = bench.client.call(ops.QUERY_TASKS, m.TaskQuery(project=project)).tasks
    return {one.name: bench.ended(one.id) for one in found}
