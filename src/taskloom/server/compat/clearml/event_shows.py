"""What is shown at iterations: plots, vectors and debug samples, as events.

Iterations are told from the newest to the oldest unless asked otherwise. `debug_images` and `plots` scroll by whole
iterations of each task; `get_debug_image_sample` and its like step from one to the next, in the order of iteration,
metric, variant.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from taskloom.domain.artifact import Sample
from taskloom.server.compat.clearml.addresses import sample_url
from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoints,
    Rooms,
    flag,
    needed,
    number,
    reads,
    tables,
    text,
)
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
from taskloom.server.compat.clearml.event_lines import IMAGE, PLOT, VECTOR, VECTOR_KIND
from taskloom.server.metrics.curves import Wanted
from taskloom.server.metrics.query import PlotKey
from taskloom.server.metrics.reading import to_milliseconds
from taskloom.wire.messages import Plot, SamplesQuery

MOST = 10_000
OUTERMOST = 2**63 - 1


@dataclass(frozen=True)
class Shown:
    """One thing that was shown; `what` is the sample, or the key of the plot."""

    owner: str
    iteration: int
    title: str
    series: str
    name: str
    what: Sample | PlotKey


Look = Callable[[str, Wanted | None], Awaitable[list[Shown]]]
"""What an owner shows, oldest iteration first."""


class Shows:
    """Samples, plots and vectors of the rooms, and the events that they are told as."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def samples(self, owner_id: str, wanted: Wanted | None = None) -> list[Shown]:
        found: list[Sample] = []
        titles = [""] if wanted is None else [title for title in wanted if title]
        size = self._rooms.settings.max_page
        for title in titles:
            offset, total = 0, 1
            while offset < total:
                query = SamplesQuery(title=title, all_iterations=True, limit=size, offset=offset)
                page, total = await self._rooms.artifacts.list_samples(owner_id, query)
                found += page
                offset += size
        kept = (sample for sample in found if is_wanted(wanted, sample.title, sample.series))
        return _in_order(Shown(owner_id, s.iteration, s.title, s.series, s.name, s) for s in kept)

    async def plots(self, owner_id: str, wanted: Wanted | None = None) -> list[Shown]:
        return (await self.plots_of([owner_id], wanted))[owner_id]

    async def vectors(self, owner_id: str, wanted: Wanted | None = None) -> list[Shown]:
        return (await self.plots_of([owner_id], wanted, vectors=True))[owner_id]

    async def plots_of(
        self, owner_ids: Sequence[str], wanted: Wanted | None = None, *, vectors: bool = False
    ) -> dict[str, list[Shown]]:
        found = await self._rooms.metrics.plot_keys(owner_ids)
        return {
            owner_id: _in_order(
                Shown(owner_id, key.iteration, key.title, key.series, "", key)
                for key in found.get(owner_id, ())
                if (key.kind == VECTOR_KIND) is vectors and is_wanted(wanted, key.title, key.series)
            )
            for owner_id in owner_ids
        }

    async def events(self, shown: Sequence[Shown], origin: str) -> list[dict[str, Any]]:
        """Of things of one kind; of plots perhaps only the first ones, as many as one answer may hold."""
        if shown and isinstance(shown[0].what, PlotKey):
            keys = [(one.owner, one.what) for one in shown if isinstance(one.what, PlotKey)]
            return [_plot_event(owner_id, plot) for owner_id, plot in await self._rooms.metrics.figures(keys)]
        return [_image_event(one.owner, one.what, origin) for one in shown if isinstance(one.what, Sample)]


def endpoints(rooms: Rooms) -> Endpoints:
    shows = Shows(rooms)

    async def task_plots(call: ClearMLCall) -> Data:
        owner_id = await known_owner(rooms, call.body)
        newest = _newest(await shows.plots(owner_id, wanted_metrics(call.body)), _iters(call.body))
        events, about = await _page(shows, call, newest, "plots")
        return {"plots": events, **about}

    async def multi_task_plots(call: ClearMLCall) -> Data:
        names = await known_owners(rooms, call.body, task_list(call.body))
        found = await shows.plots_of(list(names), wanted_metrics(call.body))
        newest = [one for shown in found.values() for one in _newest(shown, _iters(call.body))]
        events, about = await _page(shows, call, newest, "multi")
        told: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
        for event in events:
            of_task = told.setdefault(event["metric"], {}).setdefault(event["variant"], {})
            here = of_task.setdefault(event["task"], {}).setdefault(
                str(event["iter"]), {"name": names[event["task"]], "plots": []}
            )
            here["plots"].append(event)
        return {"plots": told, **about}

    def by_iterations(look: Look, kind: str) -> Callable[[ClearMLCall], Awaitable[Data]]:
        async def answer(call: ClearMLCall) -> Data:
            body, earlier = call.body, flag(call.body, "navigate_earlier", True)
            asked = _asked(body)
            await known_owners(rooms, body, list(asked))
            told = place_of(body, kind, list[Whole])
            if told is None or len(told) != len(asked) or flag(body, "refresh"):
                told = [OUTERMOST if earlier else -OUTERMOST - 1] * len(asked)
            metrics: list[dict[str, Any]] = []
            place: list[int] = []
            for (owner_id, wanted), last in zip(asked.items(), told, strict=True):
                shown = await look(owner_id, wanted)
                beyond = [one for one in shown if (one.iteration < last if earlier else one.iteration > last)]
                iterations = sorted({one.iteration for one in beyond}, reverse=earlier)[: _iters(body)]
                kept = [one for one in beyond if one.iteration in set(iterations)]
                kept.sort(key=lambda one: one.iteration, reverse=earlier)
                events = await shows.events(kept, call.origin)
                whole = [(i, list(own)) for i, own in groupby(events, lambda event: event["iter"])]
                if len(events) < len(kept) and len(whole) > 1:
                    whole.pop()  # the answer was full in the middle of it: it is for the next page
                metrics.append({"task": owner_id, "iterations": [{"iter": i, "events": own} for i, own in whole]})
                place.append(whole[-1][0] if whole else last)
            return {"metrics": metrics, "scroll_id": scroll_of(kind, *place)}

        return answer

    def step(look: Look, kind: str, told: Callable[[list[dict[str, Any]]], Data]) -> tuple[Any, Any]:
        """Two calls: the one thing that is asked for, and what stands beside it."""

        async def answer(call: ClearMLCall, every: list[Shown], at: Shown | None, only: bool) -> Data:
            if at is None:
                return {"scroll_id": None, "min_iteration": None, "max_iteration": None, **told([])}
            of_variant = [one.iteration for one in every if _is_same(kind, one, at)]
            here = [one for one in every if one.iteration == at.iteration and _is_same(kind, one, at)]
            return {
                "scroll_id": scroll_of(kind, at.title, at.series, at.iteration, only),
                "min_iteration": min(of_variant),
                "max_iteration": max(of_variant),
                **told(await shows.events(here, call.origin)),
            }

        async def one_sample(call: ClearMLCall) -> Data:
            body, owner_id = call.body, await known_owner(rooms, call.body)
            only = flag(body, "navigate_current_metric", True)
            metric, variant = text(body, "metric"), text(body, "variant")
            every = await look(owner_id, None)
            mine = [one for one in every if one.title == metric and (kind == PLOT or one.series == variant)]
            if body.get("iteration") is not None:
                iteration = number(body, "iteration", 0, -OUTERMOST - 1, OUTERMOST)
                mine = [one for one in mine if one.iteration == iteration]
            return await answer(call, every, mine[-1] if mine else None, only)

        async def next_sample(call: ClearMLCall) -> Data:
            body, owner_id = call.body, await known_owner(rooms, call.body)
            needed(body, "scroll_id")
            metric, variant, iteration, only = place_of(body, kind, tuple[str, str, Whole, bool]) or (
                "",
                "",
                0,
                True,
            )
            every = await look(owner_id, {metric: ()} if only else None)
            if flag(body, "next_iteration"):
                every_next = [
                    one for one in every if one.title == metric and (kind == PLOT or one.series == variant)
                ]
            else:
                every_next = every
            here = (iteration, metric, "" if kind == PLOT else variant)
            if flag(body, "navigate_earlier", True):
                beside = [one for one in every_next if _place(kind, one) < here][-1:]
            else:
                beside = [one for one in every_next if _place(kind, one) > here][:1]
            return await answer(call, every, beside[0] if beside else None, only)

        return one_sample, next_sample

    image, next_image = step(shows.samples, IMAGE, lambda events: {"event": events[0] if events else None})
    plot, next_plot = step(shows.plots, PLOT, lambda events: {"events": events})
    return {
        "events.get_task_plots": reads(task_plots),
        "events.get_multi_task_plots": reads(multi_task_plots),
        "events.debug_images": reads(by_iterations(shows.samples, "images")),
        "events.plots": reads(by_iterations(shows.plots, "shown")),
        "events.get_debug_image_sample": reads(image),
        "events.next_debug_image_sample": reads(next_image),
        "events.get_plot_sample": reads(plot),
        "events.next_plot_sample": reads(next_plot),
    }


async def _page(
    shows: Shows, call: ClearMLCall, shown: list[Shown], kind: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """As many plots as an answer may hold, the newest first, from where the scroll stands."""
    shown.sort(key=lambda one: one.iteration, reverse=True)
    (at,) = place_of(call.body, kind, tuple[Whole]) or (0,)
    events = await shows.events(shown[max(0, at) :], call.origin)
    scroll = None if flag(call.body, "no_scroll") else scroll_of(kind, at + len(events))
    return events, {"returned": len(events), "total": len(shown), "scroll_id": scroll}


def _newest(shown: Sequence[Shown], iterations: int) -> list[Shown]:
    """The last ones of each metric and variant."""
    by_name: dict[tuple[str, str], list[Shown]] = {}
    for one in shown:
        by_name.setdefault((one.title, one.series), []).append(one)
    return [one for same in by_name.values() for one in same[-iterations:]]


def _asked(body: Data) -> dict[str, Wanted | None]:
    """`metrics` of the form `[{task, metric, variants}]` by task; an entry without a metric asks for all."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for entry in tables(body, "metrics") or [{"task": needed(body, "task")}]:
        by_task.setdefault(needed(entry, "task"), []).append(entry)
    return {
        task_id: wanted_metrics({"metrics": entries}) if all(entry.get("metric") for entry in entries) else None
        for task_id, entries in by_task.items()
    }


def _iters(body: Data) -> int:
    return number(body, "iters", 1, 1, MOST)


def _in_order(shown: Any) -> list[Shown]:
    return sorted(shown, key=lambda one: (one.iteration, one.title, one.series, one.name))


def _place(kind: str, one: Shown) -> tuple[int, str, str]:
    """All plots of a metric at an iteration are one step."""
    return one.iteration, one.title, "" if kind == PLOT else one.series


def _is_same(kind: str, one: Shown, other: Shown) -> bool:
    return one.title == other.title and (kind == PLOT or one.series == other.series)


def _image_event(owner_id: str, sample: Sample, origin: str) -> dict[str, Any]:
    return {
        "type": IMAGE,
        "task": owner_id,
        "metric": sample.title,
        "variant": sample.series,
        "iter": sample.iteration,
        "timestamp": to_milliseconds(sample.time),
        "key": sample.name,
        "url": sample_url(origin, sample),
    }


def _plot_event(owner_id: str, plot: Plot) -> dict[str, Any]:
    event: dict[str, Any] = {
        "type": PLOT,
        "task": owner_id,
        "metric": plot.title,
        "variant": plot.series,
        "iter": plot.iteration,
        "timestamp": to_milliseconds(plot.time),
    }
    if plot.kind == VECTOR_KIND:
        return {**event, "type": VECTOR, "values": vector_of(plot.figure)}
    return {**event, "plot_str": plot.figure, "plot_len": len(plot.figure)}


def vector_of(figure: str) -> list[float | None]:
    """The values of a vector: see `event_lines` for how it is kept."""
    return cast("list[float | None]", json.loads(figure)["data"][0]["y"])
