"""The events of a batch as ClearML's clients write them, read fast and leniently, sorted by whom they are for.

A line that a strict reader refuses (NaN, an iteration as a text, a number as a float) is read once more with
patience; one that is no event at all is counted by what is wrong with it and does not lose the others. A scalar of
an iteration that was told before takes its place, and a log event is one entry of the console: at level error and
above on stderr, else on stdout. A vector becomes a plot of kind `vector`, a bar chart whose heights are its
values, so that pages can draw it and it can be read back.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import msgspec

from taskloom.domain.artifact import Sample
from taskloom.domain.errors import BadInput
from taskloom.domain.metrics import MAX_ITERATION, MIN_ITERATION
from taskloom.server.compat.clearml import bodies
from taskloom.server.metrics.reporting import Line, Reported, Told
from taskloom.wire.records import Plotted

SCALAR, VECTOR, PLOT, IMAGE, LOG = (
    "training_stats_scalar",
    "training_stats_vector",
    "plot",
    "training_debug_image",
    "log",
)
VECTOR_KIND = "vector"
PLOT_KIND = "plotly"
LONGEST_NAME = 1024  # characters of a metric or variant
LONGEST_ID = 32
ERRORS = frozenset({"error", "critical", "fatal"})
_LAST_TIME = 1e13  # milliseconds; later than that is no time


class Event(msgspec.Struct, gc=False):
    """All fields that events have, as their clients send them; others are not looked at."""

    type: str
    task: str
    timestamp: float | None = None
    iter: Annotated[int, msgspec.Meta(ge=MIN_ITERATION, le=MAX_ITERATION)] | None = None
    metric: str | None = None
    variant: str | None = None
    value: float | None = None
    values: list[float | None] | None = None
    plot_str: str | None = None
    key: str | None = None
    url: str | None = None
    msg: str | None = None
    level: str | None = None
    model_event: bool = False
    allow_locked: bool = False


_strict = msgspec.json.Decoder(Event)
_written = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Owner:
    """Whom events are for. `locked`: they come in although it is published."""

    id: str
    model: bool
    locked: bool


@dataclass
class Share:
    """What one owner gets of a batch; `count` events of it."""

    points: dict[tuple[str, str], Told] = field(default_factory=dict[tuple[str, str], Told])
    lines: list[Line] = field(default_factory=list[Line])
    plots: list[Plotted] = field(default_factory=list[Plotted])
    samples: list[Sample] = field(default_factory=list[Sample])
    count: int = 0
    timed: bool = True  # every line of the console has a time of its own

    def reported(self, digest: str) -> Reported:
        """Without a time the same line twice may be meant: such a batch is never known again."""
        return Reported(self.points, self.lines, self.plots, digest if self.timed else "")


@dataclass
class Batch:
    """`wrong`: what is wrong with how many lines."""

    digest: str
    shares: dict[Owner, Share]
    wrong: Counter[str]


def read(raw: bytes, now: float) -> Batch:
    """A body of JSON lines, or one JSON array of events, or an object with `requests`."""
    wrong: Counter[str] = Counter()
    shares: defaultdict[Owner, Share] = defaultdict(Share)
    _Sorting(shares, wrong, now).sort(_events(raw, wrong))
    return Batch(hashlib.sha256(raw).hexdigest(), dict(shares), wrong)


def read_one(document: dict[str, Any], now: float) -> Batch:
    """An event that came alone, as the body of a call."""
    wrong: Counter[str] = Counter()
    shares: defaultdict[Owner, Share] = defaultdict(Share)
    _Sorting(shares, wrong, now).sort(_patiently([document], wrong))
    return Batch(hashlib.sha256(_written(document)).hexdigest(), dict(shares), wrong)


# --- lines ------------------------------------------------------------------------------------------------


def _events(raw: bytes, wrong: Counter[str]) -> list[Event]:
    try:
        return _strict.decode_lines(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    begins = raw.lstrip()[:1]
    if begins == b"[":
        return _patiently(_documents(raw), wrong)
    found: list[Event] = []
    for line in raw.split(b"\n"):
        try:
            found.append(_strict.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            if line.strip():
                found += _patiently(_documents(line), wrong)
    return found


def _documents(text: bytes) -> list[Any]:
    """What stands in a line or an array; None for what cannot be read."""
    try:
        found = bodies.decode(text)
    except BadInput:
        return [None]
    if isinstance(found, dict):
        requests = cast("dict[str, Any]", found).get("requests")
        if isinstance(requests, list) and "type" not in found:
            return cast("list[Any]", requests)
    return cast("list[Any]", found) if isinstance(found, list) else [found]


def _patiently(documents: Iterable[Any], wrong: Counter[str]) -> list[Event]:
    found: list[Event] = []
    for document in documents:
        try:
            found.append(_lenient(document))
        except BadInput as error:
            wrong[error.message] += 1
    return found


def _lenient(document: Any) -> Event:
    if not isinstance(document, dict):
        raise BadInput("Event is no JSON object")
    fields = cast("dict[str, Any]", document)
    return Event(
        type=_text(fields, "type") or "",
        task=_text(fields, "task") or "",
        timestamp=_number(fields, "timestamp"),
        iter=_whole(fields, "iter"),
        metric=_text(fields, "metric"),
        variant=_text(fields, "variant"),
        value=_number(fields, "value"),
        values=_numbers(fields, "values"),
        plot_str=_text(fields, "plot_str"),
        key=_text(fields, "key"),
        url=_text(fields, "url"),
        msg=_text(fields, "msg"),
        level=_text(fields, "level"),
        model_event=_flag(fields, "model_event"),
        allow_locked=_flag(fields, "allow_locked"),
    )


def _text(fields: dict[str, Any], name: str) -> str | None:
    """Numbers are taken for their text; a plot may come as the object that its text would be."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if name == "plot_str" and isinstance(value, dict | list):
        return _written(value).decode()
    raise BadInput(f"Event field '{name}' is not a text")


def _number(fields: dict[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
        except OverflowError:
            return math.inf if isinstance(value, int) and value > 0 else -math.inf
    raise BadInput(f"Event field '{name}' is not a number")


def _whole(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            found = (
                int(value)
                if not isinstance(value, str) or value.strip().lstrip("+-").isdecimal()
                else int(float(value))
            )
        except (ValueError, OverflowError):
            found = None
        if found is not None and MIN_ITERATION <= found <= MAX_ITERATION:
            return found
    raise BadInput(f"Event field '{name}' is not a whole number of 64 bits")


def _numbers(fields: dict[str, Any], name: str) -> list[float | None] | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadInput(f"Event field '{name}' is not a list of numbers")
    return [_number({name: item}, name) for item in cast("list[Any]", value)]


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    return value.lower() in {"true", "1"} if isinstance(value, str) else bool(value)


# --- sorting ----------------------------------------------------------------------------------------------


class _Sorting:
    """Events into the shares of their owners. Once for each series what belongs to all its points is checked."""

    def __init__(self, shares: defaultdict[Owner, Share], wrong: Counter[str], now: float) -> None:
        self._shares, self._wrong, self._now = shares, wrong, now
        self._known: dict[tuple[str, str | None, str | None, bool, bool], tuple[Share, Told]] = {}

    def sort(self, events: Iterable[Event]) -> None:
        known = self._known
        for event in events:
            try:
                if event.type == SCALAR:
                    key = (event.task, event.metric, event.variant, event.model_event, event.allow_locked)
                    found = known.get(key)
                    if found is None:
                        found = known[key] = self._series(event)
                    value = event.value
                    if value is None:
                        raise BadInput("Scalar event without a value")
                    share, told = found
                    time = event.timestamp
                    told.iteration.append(event.iter or 0)
                    told.value.append(value)
                    told.time.append(
                        time / 1000 if time is not None and abs(time) < _LAST_TIME else self._time(event)
                    )
                    share.count += 1
                else:
                    self._other(event)
            except BadInput as error:
                self._wrong[error.message] += 1

    def _series(self, event: Event) -> tuple[Share, Told]:
        share = self._share(event)
        if event.value is None:
            raise BadInput("Scalar event without a value")
        return share, share.points.setdefault(_names(event), Told())

    def _other(self, event: Event) -> None:
        if event.type == LOG:
            self._log(event)
        elif event.type in {PLOT, VECTOR}:
            self._plot(event)
        elif event.type == IMAGE:
            self._image(event)
        else:
            raise BadInput(f"Invalid event type {event.type[:40]}")

    def _share(self, event: Event) -> Share:
        owner = event.task
        if not owner:
            raise BadInput("Event must have a 'task' field")
        if len(owner) > LONGEST_ID or not owner.isalnum() or not owner.isascii():
            raise BadInput(f"Invalid {'model' if event.model_event else 'task'} id {owner[:80]}")
        return self._shares[Owner(owner, event.model_event, event.allow_locked)]

    def _log(self, event: Event) -> None:
        if event.model_event:
            raise BadInput("Log events are not supported for models")
        share = self._share(event)
        text = _storable(event.msg or "")
        stream = "stderr" if (event.level or "").lower() in ERRORS else "stdout"
        share.lines.append(Line(stream, self._time(event), text if text.endswith("\n") else f"{text}\n"))
        share.timed = share.timed and event.timestamp is not None
        share.count += 1

    def _plot(self, event: Event) -> None:
        kind, figure = PLOT_KIND, event.plot_str
        if event.type == VECTOR:
            kind, figure = VECTOR_KIND, None if event.values is None else _bars(event.values)
        if figure is None:
            raise BadInput(f"{'Plot' if kind == PLOT_KIND else 'Vector'} event without its data")
        share, (title, series) = self._share(event), _names(event)
        share.plots.append(
            Plotted(
                title=title,
                series=series,
                iteration=event.iter or 0,
                time=self._time(event),
                kind=kind,
                figure=_storable(figure),
            )
        )
        share.count += 1

    def _image(self, event: Event) -> None:
        share, (title, series) = self._share(event), _names(event)
        share.samples.append(
            Sample(
                title=title,
                series=series,
                iteration=event.iter or 0,
                time=self._time(event),
                name=_storable(event.key or ""),
                uri=_storable(event.url or ""),
            )
        )
        share.count += 1

    def _time(self, event: Event) -> float:
        time = event.timestamp
        return time / 1000 if time is not None and abs(time) < _LAST_TIME else self._now


def _names(event: Event) -> tuple[str, str]:
    title, series = _storable(event.metric or ""), _storable(event.variant or "")
    if len(title) > LONGEST_NAME or len(series) > LONGEST_NAME:
        raise BadInput(f"Metric or variant of more than {LONGEST_NAME} characters")
    return title, series


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _bars(values: list[float | None]) -> str:
    return _written({"data": [{"type": "bar", "y": values}], "layout": {}}).decode()
