"""Events of any kind, a page at a time; and which metrics there are events of.

Events are told in the order of their iterations, the console in its own. Without a type all kinds follow one
another. A page ends where a kind's answer is full, so it may be shorter than was asked for.
"""

from __future__ import annotations

from typing import Any

from taskloom.server.compat.clearml.call import ClearMLCall, Data, Endpoints, Rooms, flag, number, reads, text
from taskloom.server.compat.clearml.errors import BAD_FIELD, Refusal
from taskloom.server.compat.clearml.event_asking import (
    Whole,
    is_wanted,
    known_owner,
    known_owners,
    place_of,
    scroll_of,
    task_list,
    wanted_metrics,
)
from taskloom.server.compat.clearml.event_console import log_event
from taskloom.server.compat.clearml.event_lines import IMAGE, LOG, PLOT, SCALAR, VECTOR
from taskloom.server.compat.clearml.event_points import scalar_events
from taskloom.server.compat.clearml.event_shows import Shows
from taskloom.server.metrics.curves import Wanted

KINDS = (LOG, SCALAR, VECTOR, PLOT, IMAGE)
PAGE, MOST = 500, 10_000
SCROLL = "events"
Place = tuple[int, int] | None
"""Where a kind stands: an iteration and how many of its points were told; else one number in the first."""


class _Pages:
    """The pages of one question."""

    def __init__(self, rooms: Rooms, shows: Shows, call: ClearMLCall, owner_id: str) -> None:
        self._rooms, self._shows, self._origin, self._owner = rooms, shows, call.origin, owner_id
        self._newest = text(call.body, "order") == "desc"
        self._wanted: Wanted | None = wanted_metrics(call.body)

    async def total(self, kind: str) -> int:
        if kind == LOG:
            return 0 if self._wanted else await self._rooms.metrics.console_count(self._owner)
        if kind == SCALAR:
            found = await self._rooms.metrics.summaries(self._owner)
            return sum(one.count for one in found if is_wanted(self._wanted, one.title, one.series))
        return len(await self._shown(kind))

    async def page(self, kind: str, place: Place, limit: int) -> tuple[list[dict[str, Any]], Place]:
        """Events, and where the next page begins; None when there are no more."""
        if kind == LOG:
            return await self._console(place, limit)
        if kind == SCALAR:
            page = await self._rooms.metrics.points_page(
                self._owner, place, limit, wanted=self._wanted, newest_first=self._newest
            )
            return scalar_events(self._owner, page), page.next if len(page.points) == limit else None
        shown = await self._shown(kind)
        at = max(0, place[0]) if place else 0
        events = await self._shows.events(shown[at : at + limit], self._origin)
        after = at + len(events)
        return events, (after, 0) if events and after < len(shown) else None

    async def _console(self, place: Place, limit: int) -> tuple[list[dict[str, Any]], Place]:
        if self._wanted:  # what is printed belongs to no metric
            return [], None
        at = place[0] if place else 2**62 if self._newest else 0
        entries = await self._rooms.metrics.console_around(self._owner, at, limit, after=not self._newest)
        events = [log_event(self._owner, entry) for entry in entries]
        return events, (entries[-1].number, 0) if len(entries) == limit else None

    async def _shown(self, kind: str) -> Any:
        look = {VECTOR: self._shows.vectors, PLOT: self._shows.plots, IMAGE: self._shows.samples}[kind]
        shown = await look(self._owner, self._wanted)
        return shown[::-1] if self._newest else shown


def endpoints(rooms: Rooms) -> Endpoints:
    shows = Shows(rooms)

    async def task_events(call: ClearMLCall) -> Data:
        body = call.body
        owner_id, kinds = await known_owner(rooms, body), _kinds(body)
        order = text(body, "order")
        if order not in {"", "asc", "desc"}:
            raise Refusal(f"field 'order': {order[:40]!r} is neither asc nor desc", 400, BAD_FIELD)
        size = number(body, "batch_size", PAGE, 1, MOST)
        told = place_of(body, SCROLL, tuple[Whole, Whole, Whole])
        at, place = (0, None) if told is None else _stands(told)
        pages = _Pages(rooms, shows, call, owner_id)
        events: list[dict[str, Any]] = []
        while len(events) < size and at < len(kinds):
            found, place = await pages.page(kinds[at], place, size - len(events))
            events += found
            if place is not None:
                break
            at += 1
        return {
            "events": events,
            "returned": len(events),
            "total": sum([await pages.total(kind) for kind in kinds]) if flag(body, "count_total", True) else None,
            "scroll_id": scroll_of(SCROLL, at if place else -at - 1, *(place or (0, 0))),
        }

    async def task_metrics(call: ClearMLCall) -> Data:
        names, kind = await known_owners(rooms, call.body, task_list(call.body)), _kinds(call.body)
        told = [{"task": task_id, "metrics": list(await _metrics(task_id, kind))} for task_id in names]
        return {"metrics": [one for one in told if one["metrics"]]}

    async def multi_task_metrics(call: ClearMLCall) -> Data:
        names, kind = await known_owners(rooms, call.body, task_list(call.body)), _kinds(call.body)
        whole: dict[str, set[str]] = {}
        for task_id in names:
            for metric, variants in (await _metrics(task_id, kind)).items():
                whole.setdefault(metric, set()).update(variants)
        return {"metrics": [{"metric": metric, "variants": sorted(whole[metric])} for metric in sorted(whole)]}

    async def vector_metrics(call: ClearMLCall) -> Data:
        found = await _metrics(await known_owner(rooms, call.body), (VECTOR,))
        return {"metrics": {metric: sorted(variants) for metric, variants in found.items()}}

    async def vector_histogram(call: ClearMLCall) -> Data:
        owner_id = await known_owner(rooms, call.body)
        metric, variant = text(call.body, "metric"), text(call.body, "variant")
        shown = await shows.vectors(owner_id, {metric: (variant,)})
        events = await shows.events(shown, call.origin)
        return {
            "metric": metric,
            "variant": variant,
            "iterations": [event["iter"] for event in events],
            "vectors": [event["values"] for event in events],
        }

    async def clear_scroll(call: ClearMLCall) -> Data:
        return {}  # a scroll is nothing but its id

    async def _metrics(owner_id: str, kinds: tuple[str, ...]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        if SCALAR in kinds:
            for summary in await rooms.metrics.summaries(owner_id):
                found.setdefault(summary.title, set()).add(summary.series)
        for kind, look in ((VECTOR, shows.vectors), (PLOT, shows.plots), (IMAGE, shows.samples)):
            if kind in kinds:
                for one in await look(owner_id, None):
                    found.setdefault(one.title, set()).add(one.series)
        return found

    return {
        "events.get_task_events": reads(task_events),
        "events.get_task_metrics": reads(task_metrics),
        "events.get_multi_task_metrics": reads(multi_task_metrics),
        "events.get_vector_metrics_and_variants": reads(vector_metrics),
        "events.vector_metrics_iter_histogram": reads(vector_histogram),
        "events.clear_scroll": reads(clear_scroll),
    }


def _kinds(body: Data) -> tuple[str, ...]:
    kind = text(body, "event_type")
    if kind in {"", "all"}:
        return KINDS
    if kind not in KINDS:
        raise Refusal(f"field 'event_type': {kind[:40]!r} is none of {', '.join(KINDS)}", 400, BAD_FIELD)
    return (kind,)


def _stands(told: tuple[int, int, int]) -> tuple[int, Place]:
    """The number of the kind, and where in it; a kind that is to begin is told as -1 - its number."""
    kind, first, second = told
    return (-kind - 1, None) if kind < 0 else (kind, (first, max(0, second)))
