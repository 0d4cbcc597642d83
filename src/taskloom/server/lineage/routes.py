"""Calls about lineage, handed to the service."""

from __future__ import annotations

from taskloom.server.call import Call, Handlers
from taskloom.server.lineage.service import LineageService
from taskloom.wire.messages import Lineage


def handlers(lineage: LineageService) -> Handlers:
    async def task_lineage(call: Call) -> Lineage:
        return await lineage.lineage("task", call.path["task"], call.query)

    async def model_lineage(call: Call) -> Lineage:
        return await lineage.lineage("model", call.path["model"], call.query)

    return {"task_lineage": task_lineage, "model_lineage": model_lineage}
