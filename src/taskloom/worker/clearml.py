"""What a script that uses ClearML's SDK finds in its environment, so that its `Task.init` attaches to our task.

It takes itself for one that ClearML's agent runs: it reads edited parameters from the server, leaves the console
and its own end to whoever runs it, and speaks to our server with the key of this attempt. These variables win
over a `clearml.conf` of the machine; what of the worker's own environment would win over them is not passed on.
"""

from __future__ import annotations

from collections.abc import Mapping

KEY_PREFIX = "tl_"
NOT_INHERITED = (
    "CLEARML_AUTH_TOKEN",
    "CLEARML_OFFLINE_MODE",
    "CLEARML_SIMULATE_REMOTE_TASK",
    "CLEARML_PROC_MASTER_ID",
    "CLEARML_WORKER_",
    "TRAINS_",
)


def variables(task: str, url: str, key: str) -> Mapping[str, str]:
    """`key` is an API key of ours, which ClearML's clients hold as two words."""
    access, _, secret = key.removeprefix(KEY_PREFIX).partition("_")
    return {
        "CLEARML_TASK_ID": task,
        "CLEARML_LOG_TASK_TO_BACKEND": "0",
        "CLEARML_API_HOST": url,
        "CLEARML_WEB_HOST": url,
        "CLEARML_FILES_HOST": f"{url}/files",
        "CLEARML_API_ACCESS_KEY": access,
        "CLEARML_API_SECRET_KEY": secret,
    }
