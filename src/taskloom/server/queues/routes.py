"""Calls about queues, workers and leases, handed to the service."""

from __future__ import annotations

from taskloom.domain.queue import Queue, Waiting, WorkerInfo
from taskloom.domain.task import Task
from taskloom.server.call import Call, Handlers
from taskloom.server.queues.service import QueueService
from taskloom.wire.messages import Claimed, Done, QueueEntries, QueueList, Renewed, WorkerList


def handlers(queues: QueueService) -> Handlers:
    async def list_queues(_: Call) -> QueueList:
        return QueueList(queues=await queues.list_queues())

    async def create_queue(call: Call) -> Queue:
        return await queues.create_queue(call.body)

    async def get_queue(call: Call) -> QueueEntries:
        return await queues.get_queue(call.path["queue"], call.query)

    async def edit_queue(call: Call) -> Queue:
        return await queues.edit_queue(call.path["queue"], call.body)

    async def delete_queue(call: Call) -> Done:
        await queues.delete_queue(call.path["queue"])
        return Done()

    async def move_entry(call: Call) -> QueueEntries:
        return await queues.move_entry(call.path["queue"], call.body.task, call.body.position)

    async def enqueue_task(call: Call) -> Task:
        return await queues.enqueue(call.caller, call.path["task"], call.body)

    async def dequeue_task(call: Call) -> Task:
        return await queues.dequeue(call.path["task"], call.body)

    async def abort_task(call: Call) -> Task:
        return await queues.abort(call.caller, call.path["task"], call.body)

    async def waiting(call: Call) -> Waiting:
        return await queues.waiting(call.path["task"])

    async def list_workers(_: Call) -> WorkerList:
        return WorkerList(workers=await queues.list_workers())

    async def register_worker(call: Call) -> WorkerInfo:
        return await queues.register_worker(call.caller, call.body)

    async def unregister_worker(call: Call) -> Done:
        await queues.unregister_worker(call.path["worker"])
        return Done()

    async def drain_worker(call: Call) -> WorkerInfo:
        return await queues.drain_worker(call.path["worker"], drain=call.body.drain)

    async def claim_task(call: Call) -> Claimed:
        return Claimed(lease=await queues.claim(call.caller, call.body, call.request.is_disconnected))

    async def renew_lease(call: Call) -> Renewed:
        return await queues.renew(call.path["token"], call.body)

    async def finish_lease(call: Call) -> Task:
        return await queues.finish(call.path["token"], call.body)

    return {
        "list_queues": list_queues,
        "create_queue": create_queue,
        "get_queue": get_queue,
        "edit_queue": edit_queue,
        "delete_queue": delete_queue,
        "move_entry": move_entry,
        "enqueue_task": enqueue_task,
        "dequeue_task": dequeue_task,
        "abort_task": abort_task,
        "waiting": waiting,
        "list_workers": list_workers,
        "register_worker": register_worker,
        "unregister_worker": unregister_worker,
        "drain_worker": drain_worker,
        "claim_task": claim_task,
        "renew_lease": renew_lease,
        "finish_lease": finish_lease,
    }
