"""`get_config` and `get_secret`: what a task file's script is given, the same on a worker and on a laptop.

On a worker they read what the worker wrote down of the claimed task, so that edited values win and no network is
needed. Elsewhere the values are the defaults of the `task.yaml` beside the script, and secrets are environment
variables. A script that also calls `Task.init` has them recorded as the section `General`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.parameters import DEFAULT_SECTION, Sections, decode
from taskloom.sdk.identity import read_task_file
from taskloom.sdk.session import current
from taskloom.sdk.start import script_path
from taskloom.wire.worker_protocol import ENV_SECRETS, ENV_TASK_FILE

TASK_FILE = "task.yaml"


def get_config() -> dict[str, Any]:
    """The parameters of the task that runs here, by name, in their types: a dictionary of one's own.

    On a worker: those of the section `General`, edited values included. By hand: the defaults of the `task.yaml` in
    the working folder or beside the script; empty when there is none. BadInput for a task file that cannot be read.
    """
    claimed = read_task_file(os.environ.get(ENV_TASK_FILE, ""))
    if claimed is not None:
        return _values(claimed.parameters)
    values = _values(_beside_the_script())
    if values and current.session is not None and current.session.owner:
        from taskloom.sdk.task import Task

        task = Task.current_task()
        if task is not None:
            task.connect(values)
    return values


def get_secret(name: str) -> str:
    """The value of a secret that the task names (`secrets:` in its task.yaml, or `{{secret.NAME}}`).

    By hand: the environment variable of that name. NotFound (a LookupError) when there is none.
    """
    path = os.environ.get(ENV_SECRETS, "")
    if not path:
        found = os.environ.get(name)
        if found is None:
            raise NotFound(
                f"secret {name!r}: no worker runs this script, and no environment variable has that name"
            )
        return found
    try:
        known: dict[str, str] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{ENV_SECRETS} names {path!r}, which cannot be read: {error}") from None
    if name not in known:
        named = ", ".join(sorted(known)) or "none"
        raise NotFound(f"secret {name!r} is not named by the task (it names: {named}); add it to `secrets`")
    return known[name]


def _values(sections: Sections) -> dict[str, Any]:
    return {name: decode(parameter) for name, parameter in sections.get(DEFAULT_SECTION, {}).items()}


def _beside_the_script() -> Sections:
    script = script_path()
    folders = [Path.cwd()] if script is None else [Path.cwd(), script.parent]
    for folder in folders:
        path = folder / TASK_FILE
        if path.is_file():
            from taskloom.domain.taskfile import parse

            return parse(path.read_text(encoding="utf-8"), str(path)).parameters
    return {}
