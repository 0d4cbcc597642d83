"""What the calls that read events have in common: whose events, which metrics, and where a scroll stands."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, cast

import msgspec

from taskloom.domain.errors import NotFound
from taskloom.server.compat.clearml.call import Data, Rooms, flag, needed, tables, text, texts
from taskloom.server.compat.clearml.errors import BAD_SCROLL, INVALID_MODEL, INVALID_TASK, Refusal
from taskloom.server.metrics.curves import Wanted
from taskloom.wire.messages import TaskQuery

MOST_TASKS = 100  # in one question
MODELS = "model_events"
LONGEST_SCROLL = 16_384

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
P = TypeVar("P")
_packed = msgspec.msgpack.Encoder().encode


async def known_owner(rooms: Rooms, body: Data) -> str:
    """The task, or with `model_events` the model, that the body names; a Refusal when there is none."""
    owner_id = needed(body, "task")
    if flag(body, MODELS):
        await _model_name(rooms, owner_id)
    else:
        await rooms.metrics.check_task(owner_id)
    return owner_id


async def known_owners(rooms: Rooms, body: Data, owner_ids: Sequence[str]) -> dict[str, str]:
    """Names by id of tasks or models, in the order asked for; a Refusal when one is missing."""
    wanted = list(dict.fromkeys(owner_ids))
    if not wanted:
        raise Refusal("missing field 'tasks'", 400, 11)
    if len(wanted) > MOST_TASKS:
        raise Refusal(f"{len(wanted)} tasks; at most {MOST_TASKS} may be asked about at once", 400, 12)
    if flag(body, MODELS):
        return {model_id: await _model_name(rooms, model_id) for model_id in wanted}
    query = TaskQuery(ids=wanted, fields=["name"], limit=len(wanted), count_to=0)
    found = {task.id: task.name for task in (await rooms.tasks.query_tasks(query)).tasks}
    if missing := [task_id for task_id in wanted if task_id not in found]:
        raise Refusal(f"invalid task id: {', '.join(i[:40] for i in missing[:5])}", 400, INVALID_TASK)
    return {task_id: found[task_id] for task_id in wanted}


async def _model_name(rooms: Rooms, model_id: str) -> str:
    try:
        return (await rooms.artifacts.get_model(model_id)).name
    except NotFound:
        raise Refusal(f"invalid model id {model_id[:80]!r}", 400, INVALID_MODEL) from None


def task_list(body: Data) -> list[str]:
    """`tasks` as a list, or as one text with commas."""
    return [task.strip() for given in texts(body, "tasks") for task in given.split(",") if task.strip()]


def wanted_metrics(body: Data, name: str = "metrics") -> Wanted | None:
    """`[{metric, variants}]`; None when all are wanted."""
    asked = tables(body, name)
    if not asked:
        return None
    wanted: dict[str, list[str]] = {}
    for entry in asked:
        metric, variants = text(entry, "metric"), texts(entry, "variants")
        if metric in wanted and not (wanted[metric] and variants):
            variants = []
        wanted[metric] = [*wanted.get(metric, []), *variants] if variants else []
    return wanted


def is_wanted(wanted: Wanted | None, metric: str, variant: str) -> bool:
    if wanted is None:
        return True
    variants = wanted.get(metric)
    return variants is not None and (not variants or variant in variants)


# --- scrolls ----------------------------------------------------------------------------------------------


def scroll_of(kind: str, *place: object) -> str:
    """Where a scroll stands, as its id: the kind of question, and numbers and texts that it understands."""
    return base64.urlsafe_b64encode(_packed([kind, *place])).decode()


def place_of(body: Data, kind: str, form: type[P]) -> P | None:
    """What a scroll's id tells, in the form `tuple[...]` of its numbers and texts; None where a scroll begins."""
    scroll = cast("Any", body.get("scroll_id"))
    if scroll is None or scroll == "":
        return None
    if isinstance(scroll, str) and len(scroll) < LONGEST_SCROLL:
        try:
            told, *place = msgspec.msgpack.decode(
                base64.b64decode(scroll.encode(), b"-_", validate=True), type=list[Any]
            )
            if told == kind:
                return msgspec.convert(place, form)
        except (binascii.Error, ValueError, msgspec.DecodeError):
            pass
    raise Refusal("bad scroll id: it is none that this server gave for such a question", 400, BAD_SCROLL)
