"""Events come in, one or many lines at once, and are deleted; how they are read back stands in `event_points`,
`event_console`, `event_shows` and `event_pages`.

A batch may hold events of several tasks and models. Each owner's share is one transaction; an owner that takes
nothing (unknown, published, another attempt's) costs its own lines only. What would be refused to every client, such
as a full disk, is refused as a whole: the client sends the batch again, and what had come in is known.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from taskloom.domain.errors import BadInput, Conflict, NotFound, TaskloomError
from taskloom.server.compat.clearml import event_console, event_pages, event_points, event_shows
from taskloom.server.compat.clearml.call import ClearMLCall, Data, Endpoint, Endpoints, Rooms, flag, needed, number
from taskloom.server.compat.clearml.errors import EMPTY_BATCH, EVENTS_NOT_ADDED, Refusal
from taskloom.server.compat.clearml.event_lines import Batch, Owner, Share, read, read_one
from taskloom.server.settings import MIB

LARGE = MIB // 4  # bytes of a batch that is read beside the event loop
CENTURY = 100 * 366 * 86_400
WORDS = 20  # different mistakes that are told


def endpoints(rooms: Rooms) -> Endpoints:
    async def add(call: ClearMLCall) -> Data:
        return await _add(rooms, call, read_one(call.body, rooms.clock()))

    async def add_batch(call: ClearMLCall) -> Data:
        if not call.raw.strip():
            raise Refusal("the batch holds no events", 400, EMPTY_BATCH)
        if len(call.raw) < LARGE:
            return await _add(rooms, call, read(call.raw, rooms.clock()))
        return await _add(rooms, call, await asyncio.to_thread(read, call.raw, rooms.clock()))

    async def delete_for_task(call: ClearMLCall) -> Data:
        task_id = needed(call.body, "task")
        await rooms.tasks.reports.clear(call.caller, task_id, locked=flag(call.body, "allow_locked"))
        return {"deleted": True}

    async def delete_for_model(call: ClearMLCall) -> Data:
        model_id = needed(call.body, "model")
        await rooms.tasks.reports.clear_model(model_id, locked=flag(call.body, "allow_locked"))
        return {"deleted": True}

    async def clear_task_log(call: ClearMLCall) -> Data:
        seconds = number(call.body, "threshold_sec", 0, 0, CENTURY)
        deleted = await rooms.tasks.reports.clear_console(
            call.caller,
            needed(call.body, "task"),
            rooms.clock() - seconds if seconds else None,
            locked=flag(call.body, "allow_locked"),
        )
        return {"deleted": deleted}

    return {
        "events.add": Endpoint(add),
        "events.add_batch": Endpoint(add_batch, lines=True),
        "events.delete_for_task": Endpoint(delete_for_task),
        "events.delete_for_model": Endpoint(delete_for_model),
        "events.clear_task_log": Endpoint(clear_task_log),
        **event_points.endpoints(rooms),
        **event_console.endpoints(rooms),
        **event_shows.endpoints(rooms),
        **event_pages.endpoints(rooms),
    }


async def _add(rooms: Rooms, call: ClearMLCall, batch: Batch) -> Data:
    wrong, added = Counter(batch.wrong), 0
    for owner, share in batch.shares.items():
        if not share.count:
            continue
        try:
            await _give(rooms, call, owner, share, batch.digest)
            added += share.count
        except (NotFound, Conflict, BadInput) as error:
            wrong[_why(owner, error)] += share.count
    if not added and not wrong:
        raise Refusal("the batch holds no events", 400, EMPTY_BATCH)
    told = dict(wrong.most_common(WORDS))
    if not added:
        words = "; ".join(f"{why} ({count})" for why, count in told.items())
        raise Refusal(f"Failed adding events: {words}", 400, EVENTS_NOT_ADDED)
    return {"added": added, "errors": wrong.total(), "errors_info": told}


async def _give(rooms: Rooms, call: ClearMLCall, owner: Owner, share: Share, digest: str) -> None:
    reported = share.reported(digest)
    if owner.model:
        await rooms.tasks.reports.report_model(owner.id, reported, locked=owner.locked)
    else:
        await rooms.tasks.reports.report(call.caller, owner.id, reported, locked=owner.locked)
        await rooms.queues.heard_of(owner.id)
    if share.samples:
        await rooms.artifacts.put_samples(owner.id, share.samples)


def _why(owner: Owner, error: TaskloomError) -> str:
    if isinstance(error, NotFound):
        return f"Invalid {'model' if owner.model else 'task'} id {owner.id}"
    return error.message
