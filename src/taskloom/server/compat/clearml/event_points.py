"""Scalars read back: as charts, point by point, or only their last values.

ClearML's single values are points at one special iteration; charts leave them out. A number that JSON does not
know (NaN, infinities) is told as null. What our own SDK recorded is told in the same way.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from taskloom.domain.metrics import SINGLE_VALUE, SeriesSummary
from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoints,
    Rooms,
    flag,
    number,
    reads,
    table,
    text,
)
from taskloom.server.compat.clearml.errors import BAD_FIELD, Refusal
from taskloom.server.compat.clearml.event_asking import (
    Whole,
    known_owner,
    known_owners,
    place_of,
    scroll_of,
    task_list,
    wanted_metrics,
)
from taskloom.server.compat.clearml.event_lines import SCALAR
from taskloom.server.metrics.curves import Axis, Curve, PointsPage
from taskloom.server.metrics.reading import to_milliseconds

if TYPE_CHECKING:
    from taskloom.server.metrics.codec import Columns

SAMPLES = 6000  # points of a curve that a client gets when it names no number
MOST_SAMPLES = 1_000_000
RAW, MOST_RAW = 10_000, 200_000  # points of one page of `scalar_metrics_iter_raw`
PAGE, MOST = 500, 10_000  # events of one page
RAW_SCROLL, DATA_SCROLL = "raw", "data"
AXES: dict[str, Axis] = {"iter": "iteration", "timestamp": "time", "iso_time": "time"}


def endpoints(rooms: Rooms) -> Endpoints:
    async def histogram(call: ClearMLCall) -> Data:
        owner_id, key = await known_owner(rooms, call.body), _key(call.body)
        found = await rooms.metrics.curves([owner_id], AXES[key], _samples(call.body), wanted_metrics(call.body))
        told: dict[str, dict[str, Any]] = {}
        for curve in found.get(owner_id, ()):
            if len(curve.points):
                told.setdefault(curve.title, {})[curve.series] = _chart(curve, key, curve.series)
        return told

    async def multi_histogram(call: ClearMLCall) -> Data:
        names, key = await known_owners(rooms, call.body, task_list(call.body)), _key(call.body)
        found = await rooms.metrics.curves(list(names), AXES[key], _samples(call.body), wanted_metrics(call.body))
        told: dict[str, dict[str, dict[str, Any]]] = {}
        for task_id, name in names.items():
            for curve in found.get(task_id, ()):
                if len(curve.points):
                    variants = told.setdefault(curve.title, {}).setdefault(curve.series, {})
                    variants[task_id] = _chart(curve, key, name)
        return {"metrics": told}

    async def raw(call: ClearMLCall) -> Data:
        body = call.body
        owner_id, key = await known_owner(rooms, body), _key(body)
        asked = table(body, "metric")
        wanted = wanted_metrics({"metrics": [asked]}) if asked else None
        place, size = _place(body, RAW_SCROLL), number(body, "batch_size", 0, 0, MOST_RAW)
        size = size or (place[2] if place else RAW)  # a scroll goes on in pages of the size it began with
        after = place[:2] if place else None
        page = await rooms.metrics.points_page(owner_id, after, size, wanted=wanted)
        variants: dict[str, dict[str, list[Any]]] = {}
        for n, (_, variant) in enumerate(page.names):
            own = page.points.take((page.curve == n).nonzero()[0])
            if len(own):
                told = variants.setdefault(variant, {"y": [], key: []})
                told["y"] += own.value.tolist()
                told[key] += _axis(own, key)
        at = page.next or after
        return {
            "variants": variants,
            "returned": len(page.points),
            "total": page.total if flag(body, "count_total") else None,
            "scroll_id": scroll_of(RAW_SCROLL, *at, size) if at else None,
        }

    async def metric_data(call: ClearMLCall) -> Data:
        body = call.body
        owner_id = await known_owner(rooms, body)
        place = _place(body, DATA_SCROLL)
        page = await rooms.metrics.points_page(
            owner_id, place[:2] if place else None, MOST, wanted={text(body, "metric"): ()}, newest_first=True
        )
        at = page.next or (place[:2] if place else None)
        return {
            "events": scalar_events(owner_id, page),
            "returned": len(page.points),
            "total": page.total,
            "scroll_id": scroll_of(DATA_SCROLL, *at, MOST) if at and not flag(body, "no_scroll") else None,
        }

    async def single_values(call: ClearMLCall) -> Data:
        names = await known_owners(rooms, call.body, task_list(call.body))
        found = await rooms.metrics.single_values(list(names), wanted_metrics(call.body))
        return {
            "tasks": [
                {"task": task_id, "task_name": name, "values": [_single(curve) for curve in found[task_id]]}
                for task_id, name in names.items()
                if task_id in found
            ]
        }

    async def metrics_and_variants(call: ClearMLCall) -> Data:
        owner_id = await known_owner(rooms, call.body)
        told: dict[str, list[str]] = {}
        for summary in await rooms.metrics.summaries(owner_id):
            told.setdefault(summary.title, []).append(summary.series)
        return {"metrics": told}

    async def latest_values(call: ClearMLCall) -> Data:
        task = await rooms.tasks.get_task(await known_owner(rooms, {**call.body, "model_events": False}))
        told: dict[str, list[dict[str, Any]]] = {}
        for summary in task.metrics:
            told.setdefault(summary.title, []).append({"name": summary.series, "last_value": _last(summary)})
        latest = max((summary.last_time for summary in task.metrics), default=0.0)
        return {
            "metrics": [{"name": metric, "variants": variants} for metric, variants in told.items()],
            "last_iter": _last_iteration(task.metrics),
            "last_timestamp": to_milliseconds(latest) if latest else None,
            "name": task.name,
            "status": task.status.value,
        }

    return {
        "events.scalar_metrics_iter_histogram": reads(histogram),
        "events.multi_task_scalar_metrics_iter_histogram": reads(multi_histogram),
        "events.scalar_metrics_iter_raw": reads(raw),
        "events.get_scalar_metric_data": reads(metric_data),
        "events.get_task_single_value_metrics": reads(single_values),
        "events.get_scalar_metrics_and_variants": reads(metrics_and_variants),
        "events.get_task_latest_scalar_values": reads(latest_values),
    }


def scalar_events(owner_id: str, page: PointsPage) -> list[dict[str, Any]]:
    points = page.points
    return [
        {
            "type": SCALAR,
            "task": owner_id,
            "metric": page.names[curve][0],
            "variant": page.names[curve][1],
            "iter": iteration,
            "timestamp": to_milliseconds(time),
            "value": value,
        }
        for curve, iteration, value, time in zip(
            page.curve.tolist(),
            points.iteration.tolist(),
            points.value.tolist(),
            _finite(points.time.tolist()),
            strict=True,
        )
    ]


def _chart(curve: Curve, key: str, name: str) -> dict[str, Any]:
    return {"name": name, "x": _axis(curve.points, key), "y": curve.points.value.tolist()}


def _axis(points: Columns, key: str) -> list[Any]:
    if key == "iter":
        return points.iteration.tolist()
    milliseconds = [to_milliseconds(time) for time in _finite(points.time.tolist())]
    return [_iso(time) for time in milliseconds] if key == "iso_time" else milliseconds


def _finite(times: list[float]) -> list[float]:
    """A time that no clock shows is told as 0, like one that is unknown."""
    return [time if abs(time) < 1e11 else 0.0 for time in times]


def _iso(milliseconds: int) -> str:
    try:
        told = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        told = datetime.fromtimestamp(0, UTC)
    return told.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _single(curve: Curve) -> dict[str, Any]:
    (value,), (time,) = curve.points.value.tolist(), _finite(curve.points.time.tolist())
    return {"metric": curve.title, "variant": curve.series, "value": value, "timestamp": to_milliseconds(time)}


def _last(summary: SeriesSummary) -> float | None:
    return summary.last if isinstance(summary.last, float | int) else None


def _last_iteration(summaries: tuple[SeriesSummary, ...]) -> int:
    reached = [
        max(summary.last_iteration, summary.last_iteration if summary.greatest is None else summary.greatest)
        for summary in summaries
    ]
    return max((iteration for iteration in reached if iteration != SINGLE_VALUE), default=0)


def _key(body: Data) -> str:
    key = text(body, "key") or "iter"
    if key not in AXES:
        raise Refusal(f"field 'key': {key[:40]!r} is none of {', '.join(AXES)}", 400, BAD_FIELD)
    return key


def _samples(body: Data) -> int:
    return number(body, "samples", SAMPLES, 0, MOST_SAMPLES)


def _place(body: Data, kind: str) -> tuple[int, int, int] | None:
    place = place_of(body, kind, tuple[Whole, Whole, Whole])
    return None if place is None else (place[0], max(0, place[1]), min(max(1, place[2]), MOST_RAW))
