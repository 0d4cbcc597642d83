"""Taskloom: one self-hosted system for machine-learning work in which everything is a task.

    from taskloom import Task

    task = Task.init(project_name="digits", task_name="first try")
    task.get_logger().report_scalar("loss", "train", value=0.5, iteration=1)

Importing does nothing; the names below load their modules when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskloom.domain.version import VERSION as __version__

if TYPE_CHECKING:
    from taskloom.domain.errors import TaskloomError
    from taskloom.domain.task import TaskType
    from taskloom.domain.task import TaskType as TaskTypes
    from taskloom.sdk.artifacts import Artifact
    from taskloom.sdk.config import get_config, get_secret
    from taskloom.sdk.models import InputModel, Model, OutputModel
    from taskloom.sdk.reports.logger import Logger
    from taskloom.sdk.task import Task

__all__ = [
    "Artifact",
    "InputModel",
    "Logger",
    "Model",
    "OutputModel",
    "Task",
    "TaskType",
    "TaskTypes",
    "TaskloomError",
    "__version__",
    "get_config",
    "get_secret",
]

_PLACES = {
    "Artifact": ("taskloom.sdk.artifacts", "Artifact"),
    "InputModel": ("taskloom.sdk.models", "InputModel"),
    "Logger": ("taskloom.sdk.reports.logger", "Logger"),
    "Model": ("taskloom.sdk.models", "Model"),
    "OutputModel": ("taskloom.sdk.models", "OutputModel"),
    "Task": ("taskloom.sdk.task", "Task"),
    "TaskType": ("taskloom.domain.task", "TaskType"),
    "TaskTypes": ("taskloom.domain.task", "TaskType"),
    "TaskloomError": ("taskloom.domain.errors", "TaskloomError"),
    "get_config": ("taskloom.sdk.config", "get_config"),
    "get_secret": ("taskloom.sdk.config", "get_secret"),
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'taskloom' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(place[0]), place[1])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
