"""HUD's tasksets are ours: rows by slug, a version with every upload that changes something."""

from __future__ import annotations

from typing import Any

import msgspec

from taskloom.domain.errors import NotFound
from taskloom.domain.evaluation import EvalRow
from taskloom.server.call import Caller
from taskloom.server.compat.hud.call import Endpoint, HudCall, Rooms, read_id, tell_id
from taskloom.server.evals.tasksets import MAX_ROWS, MAX_UPLOAD
from taskloom.wire.messages import RowsQuery, TasksetInfo, TasksetUpload

KEPT = "hud.row"  # an entry of `validation` that holds what our rows have no place for


class _Environment(msgspec.Struct):
    name: str


class _Row(msgspec.Struct):
    name: str
    env: _Environment
    task_id: str
    args: dict[str, Any] = {}
    columns: dict[str, Any] | None = None
    validation: list[dict[str, Any]] | None = None
    agent_config: dict[str, Any] | None = None
    runtime_config: dict[str, Any] | None = None
    verifier: dict[str, Any] | None = None


class _Upload(msgspec.Struct):
    taskset_name: str
    tasks: list[_Row]
    taskset_id: str | None = None
    project_id: str | None = None


class _NewTaskset(msgspec.Struct):
    name: str
    project_id: str | None = None


def endpoints(rooms: Rooms) -> list[Endpoint]:
    desk = rooms.evals.tasksets

    async def by_name(call: HudCall) -> Any:
        found = await desk.get_taskset(call.path["name"])
        return {"taskset_id": tell_id(found.id), "name": found.name}

    async def get_taskset(call: HudCall) -> Any:
        return _record(await desk.get_taskset(call.id("taskset", "taskset")), call.caller)

    async def create_taskset(call: HudCall) -> Any:
        changed = await desk.upload_taskset(call.caller, call.body(_NewTaskset).name, TasksetUpload())
        return _record(changed.taskset, call.caller)

    async def export(call: HudCall) -> Any:
        taskset = await desk.get_taskset(call.id("taskset", "taskset"))
        rows: list[dict[str, Any]] = []
        while len(rows) < taskset.rows:
            query = RowsQuery(version=taskset.version, limit=MAX_ROWS, offset=len(rows))
            page = await desk.list_rows(taskset.id, query)
            if not page.rows:
                break
            rows.extend(_tell_row(row) for row in page.rows)
        return {"id": tell_id(taskset.id), "name": taskset.name, "tasks": rows}

    async def upload(call: HudCall) -> Any:
        wanted = call.body(_Upload)
        address = wanted.taskset_name if wanted.taskset_id is None else read_id(wanted.taskset_id, "taskset")
        rows = [_read_row(row) for row in wanted.tasks]
        created = updated = version = 0
        taskset: TasksetInfo | None = None
        for start in range(0, max(1, len(rows)), MAX_UPLOAD):
            part = TasksetUpload(rows=rows[start : start + MAX_UPLOAD], continues=version)
            changed = await desk.upload_taskset(call.caller, address, part)
            taskset = changed.taskset
            address, created, updated = taskset.id, created + changed.created, updated + changed.updated
            version = taskset.version if created or updated else 0
        if taskset is None:
            raise NotFound("no taskset")
        return {"taskset_id": tell_id(taskset.id), "tasks_created": created, "tasks_updated": updated}

    return [
        Endpoint("GET", "/v2/tasksets/by-name/{name}", "viewer", by_name),
        Endpoint("GET", "/v2/tasksets/{taskset}", "viewer", get_taskset),
        Endpoint("GET", "/v2/tasksets/{taskset}/export", "viewer", export),
        Endpoint("POST", "/v2/tasksets", "member", create_taskset, 201),
        Endpoint("POST", "/v2/tasks/upload", "member", upload),
    ]


def _record(taskset: TasksetInfo, caller: Caller) -> dict[str, Any]:
    return {"id": tell_id(taskset.id), "name": taskset.name, "can_edit": caller.may("member")}


def _read_row(row: _Row) -> EvalRow:
    more = {"runtime_config": row.runtime_config, "verifier": row.verifier}
    kept = {name: value for name, value in more.items() if value is not None}
    validation = row.validation
    if kept:
        validation = [*(validation or ()), {"kind": KEPT, "alone": validation is None, **kept}]
    return EvalRow(
        slug=row.name,
        env=row.env.name,
        id=row.task_id,
        args=row.args,
        columns=row.columns,
        validation=validation,
        agent_config=row.agent_config,
    )


def _tell_row(row: EvalRow) -> dict[str, Any]:
    validation, kept = row.validation, dict[str, Any]()
    if validation and validation[-1].get("kind") == KEPT:
        kept = validation[-1]
        validation = None if kept.get("alone") else validation[:-1]
    return {
        "env": row.env,
        "scenario": row.id,
        "name": row.slug,
        "args": row.args,
        "validation": validation,
        "agent_config": row.agent_config,
        "columns": row.columns,
        "runtime_config": kept.get("runtime_config"),
        "verifier": kept.get("verifier"),
    }
