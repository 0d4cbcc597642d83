"""Projects brought over from another server, kept as they were: id, times, user, tags."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict
from taskloom.domain.project import Project, check_project
from taskloom.server.projects import store

_ID = re.compile(r"[0-9a-f]{32}")
EnsureAbove = Callable[[Connection, str, str], None]
"""Makes the projects above a path, for a user."""
Rename = Callable[[Connection, Project, str, str], None]
"""Moves a project and those below it to a path, for a user."""


def put_project(tx: Connection, project: str, wanted: Project, ensure_above: EnsureAbove, rename: Rename) -> str:
    """Write it, unless it was changed here since; the id of the project that holds its tasks here.

    A project of the same name that is here under another id takes the tasks, and stays as it is.
    """
    if wanted.id != project or not _ID.fullmatch(project):
        raise BadInput(f"the project's id {wanted.id[:80]!a}: expected that of the address, 32 hexadecimal digits")
    for name in ("created", "last_update"):
        if not 0 <= getattr(wanted, name) < math.inf:
            raise BadInput(f"project {name}: expected seconds since the epoch")
    path = check_project(wanted.name)
    named, found = store.find_id(tx, path), store.get_project(tx, project)
    if named is not None and named != project:
        if found is not None:
            raise Conflict(f"project {path!r} exists, and {project} is {found.name!r} here", project=named)
        return named
    if found is None:
        ensure_above(tx, path, wanted.user)
        store.add_project(tx, wanted)
    elif found.last_update <= wanted.last_update:
        if found.name != path:
            rename(tx, found, path, wanted.user)
        fields = ("description", "tags", "system_tags", "output_uri", "created", "last_update")
        store.change_project(tx, project, {name: getattr(wanted, name) for name in fields})
    return project
