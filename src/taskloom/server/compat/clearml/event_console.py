"""What a task printed, as log events: the pages of its console by time."""

from __future__ import annotations

from typing import Any

from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoints,
    Rooms,
    flag,
    needed,
    number,
    reads,
    text,
)
from taskloom.server.compat.clearml.errors import BAD_FIELD, Refusal
from taskloom.server.compat.clearml.event_lines import LOG
from taskloom.server.metrics.reading import to_milliseconds
from taskloom.wire.messages import ConsoleEntry

PAGE, MOST = 500, 10_000
_LATEST = 2**53  # milliseconds


def endpoints(rooms: Rooms) -> Endpoints:
    async def task_log(call: ClearMLCall) -> Data:
        body, task_id = call.body, needed(call.body, "task")
        await rooms.metrics.check_task(task_id)
        order = text(body, "order")
        if order not in {"", "asc", "desc"}:
            raise Refusal(f"field 'order': {order[:40]!r} is neither asc nor desc", 400, BAD_FIELD)
        earlier = flag(body, "navigate_earlier", text(body, "from") != "head")
        since = body.get("from_timestamp")
        entries = await rooms.metrics.console_at(
            task_id,
            None if since is None else number(body, "from_timestamp", 0, -_LATEST, _LATEST),
            number(body, "batch_size", PAGE, 1, MOST),
            earlier=earlier,
        )
        entries.sort(key=lambda entry: (to_milliseconds(entry.time), entry.number))
        if order == "desc" or (not order and earlier):
            entries.reverse()
        return {
            "events": [log_event(task_id, entry) for entry in entries],
            "returned": len(entries),
            "total": await rooms.metrics.console_count(task_id),
        }

    return {"events.get_task_log": reads(task_log)}


def log_event(task_id: str, entry: ConsoleEntry) -> dict[str, Any]:
    return {
        "type": LOG,
        "task": task_id,
        "timestamp": to_milliseconds(entry.time),
        "level": "error" if entry.stream == "stderr" else "info",
        "msg": entry.text.removesuffix("\n"),  # as it was sent: see `event_lines`
    }
