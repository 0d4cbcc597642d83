"""Projects."""

from __future__ import annotations

from taskloom.domain.project import Project
from taskloom.wire.messages.base import Answer, Request


class ProjectCreate(Request, frozen=True, kw_only=True):
    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    output_uri: str = ""


class ProjectEdit(Request, frozen=True, kw_only=True):
    """Renaming moves the projects below it along."""

    name: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    system_tags: tuple[str, ...] | None = None
    output_uri: str | None = None


class ProjectQuery(Request, frozen=True, kw_only=True):
    """Query string of the project list. `name` is an exact path, `under` a path whose children are wanted."""

    name: str = ""
    under: str = ""
    search: str = ""
    limit: int = 500
    offset: int = 0


class ProjectList(Answer, frozen=True, kw_only=True):
    projects: list[Project]
    total: int


class ProjectDelete(Request, frozen=True, kw_only=True):
    """Query string. Without `force` only an empty project is deleted; with it its tasks go too."""

    force: bool = False
