"""What a job is called: its id, its name as a task's, its project."""

from __future__ import annotations

import os
import uuid

from taskloom.domain.errors import BadInput
from taskloom.domain.project import MAX_NAME, MIN_NAME, check_project
from taskloom.sdk.identity import from_environment
from taskloom.wire.configuration import data_folder, setting
from taskloom.wire.worker_protocol import ENV_LEASE


def new_job_id() -> str:
    """A new one; under a worker the id of its task, which the job then is."""
    if os.environ.get(ENV_LEASE, ""):
        identity = from_environment(os.environ, data_folder())
        if identity is not None:
            return identity.task
    return uuid.uuid4().hex


def task_name(name: str) -> str:
    """The job's name as one of tasks: printable, not too short and not too long."""
    text = "".join(c if c.isprintable() else " " for c in name).strip()
    if len(text) < MIN_NAME:
        text = f"{text} evaluation".strip()
    return text[:MAX_NAME].strip()


def default_project(taskset: str) -> str:
    """The project where nobody names one: the setting's, else one that is called like the taskset."""
    return setting("evals.project") or task_name(taskset.replace("/", "-"))


def project_name(project: str) -> str:
    """The project as a path; ValueError for what can be none."""
    try:
        return check_project(project)
    except BadInput as error:
        raise ValueError(error.message) from None
