"""Who asks, and our projects as HUD's. A taskset of ours stands in no project, so theirs is only looked at."""

from __future__ import annotations

from typing import Any

import msgspec

from taskloom.domain.project import Project
from taskloom.server.compat.hud.call import Endpoint, HudCall, Rooms, tell_id
from taskloom.wire.messages import ProjectCreate, ProjectQuery, Role

TEAM = "team"  # a server is one team


class _NewProject(msgspec.Struct):
    name: str


def endpoints(rooms: Rooms) -> list[Endpoint]:
    async def me(call: HudCall) -> Any:
        caller = call.caller
        return {
            "user_id": tell_id(caller.user_id),
            "team_id": tell_id(TEAM),
            "name": caller.user,
            "role": caller.role,
        }

    async def list_projects(call: HudCall) -> Any:
        limit, offset = call.page()
        query = ProjectQuery(search=call.query.get("search", ""), limit=limit, offset=offset)
        found, total = await rooms.projects.list_projects(query)
        return {"items": [_project(one, call.caller.role) for one in found], "total": total}

    async def get_project(call: HudCall) -> Any:
        found = await rooms.projects.get_project(call.id("project", "project"))
        return _project(found, call.caller.role)

    async def create_project(call: HudCall) -> Any:
        made = await rooms.projects.create_project(call.caller, ProjectCreate(name=call.body(_NewProject).name))
        return _project(made, call.caller.role)

    return [
        Endpoint("GET", "/v2/auth/me", "viewer", me),
        Endpoint("GET", "/v2/projects", "viewer", list_projects),
        Endpoint("GET", "/v2/projects/{project}", "viewer", get_project),
        Endpoint("POST", "/v2/projects", "member", create_project, 201),
    ]


def _project(project: Project, role: Role) -> dict[str, Any]:
    return {
        "id": tell_id(project.id),
        "name": project.name,
        "description": project.description,
        "is_default": False,
        "capabilities": {"create": role != "viewer"},
    }
