"""The life of a task as ClearML's clients tell it: started, stopped, completed, failed, published, queued, reset.

Clients tell the state that a task shall have. `MOVES` says from which states they may without `force`; with it
every state is reached that our own moves lead to, and a published task stays what it is. Who is there already
stays there, so a call may be repeated. A task under a lease is ended by the lease's holder: an agent of ClearML
is that itself, for a task of our worker the words of the script are kept until the worker ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskloom.domain.errors import IllegalMove
from taskloom.domain.status import ENDED, Status
from taskloom.domain.task import Task
from taskloom.server.compat.clearml.call import ClearMLCall, Data, Endpoint, Endpoints, Rooms, flag, text
from taskloom.server.compat.clearml.documents import OURS, STATUSES
from taskloom.server.compat.clearml.errors import ALREADY_QUEUED, BAD_FIELD, NOT_IN_QUEUE, Refusal
from taskloom.server.compat.clearml.task_answers import changed, for_each, task_id
from taskloom.server.compat.clearml.tasks import uploaded
from taskloom.wire.messages import Enqueue, Finish, MoveRequest
from taskloom.wire.records import EndStatus

_D, _P, _R = Status.DRAFT, Status.PENDING, Status.RUNNING
_C, _F, _A = Status.COMPLETED, Status.FAILED, Status.ABORTED

MOVES: Mapping[Status, frozenset[Status]] = {
    _R: frozenset({_D, _P, _A, _C}),
    _A: frozenset({_P, _R, _F}),
    _F: frozenset({_R, _A}),
    _C: frozenset({_R, _A}),
    Status.PUBLISHED: frozenset({_A, _F, _C}),
    _P: frozenset({_D, _A, _F}),
}
"""Into each state, from which others without `force`."""

_OUTCOMES: Mapping[Status, EndStatus] = {_C: "completed", _F: "failed", _A: "aborted"}


def endpoints(rooms: Rooms) -> Endpoints:
    async def _bring(call: ClearMLCall, wanted: str, target: Status) -> Task:
        why = _why(call)
        sources = None if flag(call.body, "force") else MOVES[target]
        return await rooms.tasks.bring_task(wanted, target, why, sources)

    async def started(call: ClearMLCall) -> Data:
        wanted = task_id(call.body)
        task = await rooms.queues.start_for_agent(call.caller, wanted)
        return changed(task or await _bring(call, wanted, _R), started=1)

    async def _end(call: ClearMLCall, target: Status) -> Task:
        wanted, why = task_id(call.body), _why(call)
        said = Finish(outcome=_OUTCOMES[target], reason=why.reason, message=why.message)
        return await rooms.queues.end_for_agent(call.caller, wanted, said) or await _bring(call, wanted, target)

    async def stopped(call: ClearMLCall) -> Data:
        return changed(await _end(call, _A))

    async def failed(call: ClearMLCall) -> Data:
        return changed(await _end(call, _F))

    async def completed(call: ClearMLCall) -> Data:
        task = await _end(call, _C)
        if flag(call.body, "publish") and task.status in ENDED:
            return changed(await _publish(call, task.id), published=1)
        return changed(task)

    async def close(call: ClearMLCall) -> Data:
        """A closed task is over and done: ours is completed then."""
        return changed(await _bring(call, task_id(call.body), _C))

    async def _publish(call: ClearMLCall, wanted: str) -> Task:
        """Its models first: who finds it published finds them published."""
        if flag(call.body, "publish_model", True):
            task = await rooms.tasks.peek_task(wanted)
            if task.status in ENDED:
                for link in task.models:
                    if link.direction != "input":
                        await rooms.artifacts.publish_model(link.model)
        return await _bring(call, wanted, Status.PUBLISHED)

    async def publish(call: ClearMLCall) -> Data:
        return changed(await _publish(call, task_id(call.body)), committed_versions_results=[])

    async def publish_many(call: ClearMLCall) -> Data:
        async def one(wanted: str) -> Data:
            return changed(await _publish(call, wanted), published_task=True)

        return await for_each(call, one)

    async def _stop(call: ClearMLCall, wanted: str) -> dict[str, Any]:
        """What runs under a lease is asked to stop; what a person runs by hand is aborted, and sees it."""
        status = (await rooms.tasks.peek_task(wanted)).status
        if status is _A:
            return changed(await _bring(call, wanted, _A))
        if status in {_P, _R, _F}:
            return changed(await rooms.queues.abort(call.caller, wanted, _why(call)))
        return changed(await _bring(call, wanted, _A))

    async def stop(call: ClearMLCall) -> Data:
        return await _stop(call, task_id(call.body))

    async def stop_many(call: ClearMLCall) -> Data:
        async def one(wanted: str) -> Data:
            return await _stop(call, wanted)

        return await for_each(call, one)

    async def _reset(call: ClearMLCall, wanted: str) -> dict[str, Any]:
        before = await rooms.tasks.peek_task(wanted)
        urls = await uploaded(rooms, call, before)
        why = _why(call)
        forced = MoveRequest(reason=why.reason, message=why.message, force=True)
        task = await rooms.tasks.reset_task(wanted, forced, clear=flag(call.body, "clear_all"))
        left = {link.model for link in task.models}
        return changed(
            task,
            deleted_indices=[],
            dequeued={"removed": 1} if before.status is _P else {},
            events={},
            deleted_models=sum(link.model not in left for link in before.models if link.direction != "input"),
            urls=urls,
        )

    async def reset(call: ClearMLCall) -> Data:
        return await _reset(call, task_id(call.body))

    async def reset_many(call: ClearMLCall) -> Data:
        async def one(wanted: str) -> Data:
            told = await _reset(call, wanted)
            return {**told, "dequeued": bool(told["dequeued"])}

        return await for_each(call, one)

    # --- queues -----------------------------------------------------------------------------------------

    async def _enqueue(call: ClearMLCall, wanted: str) -> Task:
        queue, name = text(call.body, "queue"), text(call.body, "queue_name")
        status = (await rooms.tasks.peek_task(wanted)).status
        if status is _P:
            raise Refusal(f"task {wanted} is queued already", 400, ALREADY_QUEUED)
        if status not in MOVES[_P]:
            raise IllegalMove(
                f"a task that is {status.value} cannot be queued; reset it first", status=status.value
            )
        into = Enqueue(queue=queue or name, create=bool(name and not queue))
        return await rooms.queues.enqueue(call.caller, wanted, into)

    async def _watched(call: ClearMLCall, queue: str) -> dict[str, Any]:
        """Whether any worker looks into the queue, for who asks."""
        if not queue or not flag(call.body, "verify_watched_queue"):
            return {}
        workers = await rooms.queues.list_workers()
        return {"queue_watched": any(w.alive and not w.draining and queue in w.queues for w in workers)}

    async def enqueue(call: ClearMLCall) -> Data:
        task = await _enqueue(call, task_id(call.body))
        told = changed(task, queued=1, **await _watched(call, task.queue))
        told["fields"]["execution.queue"] = task.queue
        return told

    async def enqueue_many(call: ClearMLCall) -> Data:
        queue = ""

        async def one(wanted: str) -> Data:
            nonlocal queue
            task = await _enqueue(call, wanted)
            queue = task.queue
            return changed(task, queued=True)

        told = await for_each(call, one)
        return {**told, **await _watched(call, queue)}

    async def _dequeue(call: ClearMLCall, wanted: str) -> dict[str, Any]:
        """Back to a draft, or to the state that the caller names."""
        target = text(call.body, "new_status") or STATUSES[_D]
        if OURS.get(target) not in {_D, _R, _A}:
            raise Refusal(f"field 'new_status': a queued task does not become {target[:80]!a}", 400, BAD_FIELD)
        if (await rooms.tasks.peek_task(wanted)).status is not _P:
            raise Refusal(f"task {wanted} is in no queue", 400, NOT_IN_QUEUE)
        why = _why(call)
        match OURS[target]:
            case Status.RUNNING:
                task = await rooms.tasks.start_task(wanted, why)
            case Status.ABORTED:
                task = await rooms.queues.abort(call.caller, wanted, why)
            case _:
                task = await rooms.queues.dequeue(wanted, why)
        told = changed(task, dequeued=1)
        told["fields"]["execution.queue"] = None
        return told

    async def dequeue(call: ClearMLCall) -> Data:
        return await _dequeue(call, task_id(call.body))

    async def dequeue_many(call: ClearMLCall) -> Data:
        async def one(wanted: str) -> Data:
            return {**await _dequeue(call, wanted), "dequeued": True}

        return await for_each(call, one)

    async def ping(call: ClearMLCall) -> Data:
        wanted = task_id(call.body)
        await rooms.queues.heard_of(wanted)
        await rooms.tasks.ping_task(wanted)
        return {}

    return {
        "tasks.started": Endpoint(started),
        "tasks.stop": Endpoint(stop),
        "tasks.stop_many": Endpoint(stop_many),
        "tasks.stopped": Endpoint(stopped),
        "tasks.failed": Endpoint(failed),
        "tasks.completed": Endpoint(completed),
        "tasks.close": Endpoint(close),
        "tasks.publish": Endpoint(publish),
        "tasks.publish_many": Endpoint(publish_many),
        "tasks.reset": Endpoint(reset),
        "tasks.reset_many": Endpoint(reset_many),
        "tasks.enqueue": Endpoint(enqueue),
        "tasks.enqueue_many": Endpoint(enqueue_many),
        "tasks.dequeue": Endpoint(dequeue),
        "tasks.dequeue_many": Endpoint(dequeue_many),
        "tasks.ping": Endpoint(ping),
    }


def _why(call: ClearMLCall) -> MoveRequest:
    return MoveRequest(reason=text(call.body, "status_reason"), message=text(call.body, "status_message"))
