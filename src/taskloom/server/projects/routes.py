"""Calls about projects, handed to the service."""

from __future__ import annotations

from taskloom.domain.project import Project
from taskloom.server.call import Call, Handlers
from taskloom.server.projects.service import ProjectService
from taskloom.wire.messages import ProjectList


def handlers(projects: ProjectService) -> Handlers:
    async def list_projects(call: Call) -> ProjectList:
        found, total = await projects.list_projects(call.query)
        return ProjectList(projects=found, total=total)

    async def create_project(call: Call) -> Project:
        return await projects.create_project(call.caller, call.body)

    async def get_project(call: Call) -> Project:
        return await projects.get_project(call.path["project"])

    async def import_project(call: Call) -> Project:
        return await projects.import_project(call.path["project"], call.body)

    async def edit_project(call: Call) -> Project:
        return await projects.edit_project(call.path["project"], call.body, call.caller)

    return {
        "list_projects": list_projects,
        "create_project": create_project,
        "get_project": get_project,
        "import_project": import_project,
        "edit_project": edit_project,
    }
