"""Where a task's bytes go: who chose the destination, and the addresses below it.

The first of these that says something: the task's own `output_uri` (of `Task.init`, set later, or edited on the
server), the project's, the environment's or settings file's `default_output_uri`. When nobody says anything, what a
script stores itself goes to the Taskloom server, and what a framework saves by itself is only named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskloom.domain.destination import NOWHERE, SERVER, normal_destination, place_below, task_folder
from taskloom.domain.errors import BadInput
from taskloom.wire.configuration import setting

if TYPE_CHECKING:
    from taskloom.sdk.recorder import Recorder
    from taskloom.wire.client import Address

ASK_WAIT = 3.0  # seconds that a script waits for its project's destination, once


def chosen_destination(recorder: Recorder) -> str | None:
    """None: nobody chose one, so models that frameworks save stay where they are. '': the Taskloom server.

    May ask the server for the project's default: once, bounded, and only when it is needed.
    """
    for found in (recorder.document().output_uri, recorder.project_destination(), _by_settings()):
        if found == NOWHERE:
            return None
        if found:
            return _usable(recorder, found)
    return None


def destination_of(recorder: Recorder) -> str:
    """Where a model or artifact goes that the script stores itself; '': the Taskloom server."""
    return chosen_destination(recorder) or ""


def place(destination: str, project: str, task_name: str, task_id: str, kind: str, filename: str) -> str:
    """The address of a file of a task: `<destination>/<project>/<name>.<id>/<kind>/<file>`.

    kind: `artifacts/NAME`, `models`, `metrics/TITLE/SERIES`; a path of names, none of which leaves the folder.
    """
    return place_below(task_folder(destination, project, task_name, task_id), kind, filename)


def ask_project(project: str, address: Address | None) -> str:
    """The `output_uri` of a project, else of the nearest one above it that has one. Bounded; raises nothing."""
    from taskloom.domain.errors import TaskloomError
    from taskloom.domain.project import ancestors
    from taskloom.journal.post import Post
    from taskloom.wire.messages import ProjectQuery
    from taskloom.wire.operations import LIST_PROJECTS

    if address is None:
        return ""
    post = Post(address, timeout=ASK_WAIT)
    try:
        for name in reversed(ancestors(project)):
            found = post.call(LIST_PROJECTS, query=ProjectQuery(name=name)).projects
            if found and found[0].output_uri:
                return found[0].output_uri
    except TaskloomError:
        pass  # nobody can tell now: the settings decide
    finally:
        post.close()
    return ""


def _by_settings() -> str:
    return str(setting("sdk.default_output_uri"))


def _usable(recorder: Recorder, found: str) -> str:
    """An address of our own server is the server; one that cannot be used is told once, and the server is used."""
    if found == SERVER:
        return ""
    if found.startswith(("http://", "https://")):
        return ""  # ClearML's way to name the server's file store
    try:
        return normal_destination(found)
    except BadInput as error:
        recorder.tell(f"{error.message}; what is stored goes to the Taskloom server")
        return ""
