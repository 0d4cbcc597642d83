"""A script below an agent of another system (ClearML's): whether the agent runs a task of ours, and which.

The agent names the task in `CLEARML_TASK_ID`. It is ours when our server knows it: the server of `TASKLOOM_URL`,
else the one that the agent itself works for. That is asked before anything else happens, because the answer
holds the parameters that somebody edited; a server that is away for longer than `PATIENCE` is told to the user,
and the script records a run of its own. The journal is shipped by the script's own companion and bears no token;
the console, the code and the end of the task are the agent's to tell.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from taskloom.domain.errors import ServerAway, TaskloomError, Unavailable
from taskloom.domain.task import Task
from taskloom.journal import layout
from taskloom.sdk.identity import Identity, is_task_id, rank
from taskloom.sdk.notices import Notices
from taskloom.wire.client import Address
from taskloom.wire.connection import agent_address, find_address
from taskloom.wire.worker_protocol import ENV_URL

ENV_AGENTS_TASK = "CLEARML_TASK_ID"
PATIENCE = 60.0
PAUSE = 1.0


def under_agent(environ: Mapping[str, str], data: Path, notices: Notices) -> Identity | None:
    """None: no agent runs this, or what it runs is no task of ours."""
    task = environ.get(ENV_AGENTS_TASK, "")
    if not is_task_id(task):
        return None
    address = find_address(environ) if environ.get(ENV_URL) else agent_address(environ)
    claimed = None if address is None else _ask(address, task, notices)
    if claimed is None:
        return None
    role = "child" if rank(environ) > 0 else "main"
    return Identity(task, role, layout.journal_root(data), claimed=claimed, attached=True, address=address)


def _ask(address: Address, task: str, notices: Notices) -> Task | None:
    from taskloom.wire.operations import GET_TASK
    from taskloom.wire.send import Client

    client, ends = Client(address), time.monotonic() + PATIENCE
    try:
        while True:
            try:
                return client.call(GET_TASK, task=task)
            except (ServerAway, Unavailable) as error:
                if time.monotonic() > ends:
                    notices.say(f"whether task {task} is one of ours could not be asked: {error.message}")
                    return None
                time.sleep(PAUSE)
            except TaskloomError:  # another system's server, or one that does not know the task
                return None
    finally:
        client.close()
