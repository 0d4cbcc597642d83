"""Calls about tasks, handed to the service."""

from __future__ import annotations

from taskloom.domain.task import Task
from taskloom.server.call import Call, Handlers
from taskloom.server.tasks.reports import model_report
from taskloom.server.tasks.service import TaskService
from taskloom.wire.messages import (
    ArtifactList,
    Deleted,
    Done,
    JournalMarks,
    ProjectDelete,
    TaskDelete,
    TaskImported,
    TaskList,
)


def handlers(tasks: TaskService) -> Handlers:
    async def query_tasks(call: Call) -> TaskList:
        return await tasks.query_tasks(call.body)

    async def create_task(call: Call) -> Task:
        return await tasks.create_task(call.caller, call.body)

    async def get_task(call: Call) -> Task:
        return await tasks.get_task(call.path["task"])

    async def edit_task(call: Call) -> Task:
        return await tasks.edit_task(call.caller, call.path["task"], call.body)

    async def clone_task(call: Call) -> Task:
        return await tasks.clone_task(call.caller, call.path["task"], call.body)

    async def reset_task(call: Call) -> Task:
        return await tasks.reset_task(call.path["task"], call.body)

    async def publish_task(call: Call) -> Task:
        return await tasks.publish_task(call.path["task"], call.body)

    async def start_task(call: Call) -> Task:
        return await tasks.start_task(call.path["task"], call.body)

    async def end_task(call: Call) -> Task:
        return await tasks.end_task(call.path["task"], call.body)

    async def delete_task(call: Call) -> Deleted:
        query: TaskDelete = call.query
        return Deleted(external=await tasks.delete_task(call.path["task"], force=query.force))

    async def delete_project(call: Call) -> Deleted:
        query: ProjectDelete = call.query
        return Deleted(external=await tasks.delete_project(call.path["project"], force=query.force))

    async def put_artifact(call: Call) -> ArtifactList:
        return ArtifactList(artifacts=list(await tasks.put_artifact(call.path["task"], call.body)))

    async def delete_artifact(call: Call) -> ArtifactList:
        return ArtifactList(artifacts=list(await tasks.delete_artifact(call.path["task"], call.path["name"])))

    async def import_task(call: Call) -> TaskImported:
        return TaskImported(state=await tasks.import_task(call.path["task"], call.body))

    async def link_model(call: Call) -> Task:
        return await tasks.link_model(call.path["task"], call.body)

    async def report_model(call: Call) -> Done:
        await tasks.reports.report_model(call.path["model"], model_report(call.body))
        return Done()

    async def ship_journal(call: Call) -> JournalMarks:
        return await tasks.journals.ship(call.caller.user, call.path["task"], call.body)

    async def journal_marks(call: Call) -> JournalMarks:
        return await tasks.journals.marks(call.path["task"], call.path["writer"])

    return {
        "query_tasks": query_tasks,
        "create_task": create_task,
        "get_task": get_task,
        "edit_task": edit_task,
        "clone_task": clone_task,
        "reset_task": reset_task,
        "publish_task": publish_task,
        "start_task": start_task,
        "end_task": end_task,
        "delete_task": delete_task,
        "delete_project": delete_project,
        "put_artifact": put_artifact,
        "delete_artifact": delete_artifact,
        "import_task": import_task,
        "link_model": link_model,
        "report_model": report_model,
        "ship_journal": ship_journal,
        "journal_marks": journal_marks,
    }
