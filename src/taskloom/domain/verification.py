"""Whether one run came out as another: every point of every scalar, digests, parameters, the end. Pure values.

Verdicts: `reproduced`, nothing differs that was compared; `differs`, and where first; `could not run`, the second run
did not come to an end that could be compared. Points are the same when their iterations are and their values lie
within `atol + rtol * |first value|`; NaN is the same as NaN, an infinity as itself. What lies behind a digest is not
opened: a pickle or a zip that holds the same in other bytes differs, and is told so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from taskloom.domain.artifact import NOTEBOOK_KIND
from taskloom.domain.metrics import WireNumber
from taskloom.domain.parameters import flatten
from taskloom.domain.status import Status
from taskloom.domain.task import VERIFICATION, Task

Verdict = Literal["reproduced", "differs", "could not run"]
Kind = Literal["status", "scalar", "artifact", "model", "parameter", "configuration"]
What = Literal["value", "missing", "surplus"]
REPRODUCED: Verdict = "reproduced"
DIFFERS: Verdict = "differs"
COULD_NOT_RUN: Verdict = "could not run"
KEPT = 50  # differences that a task keeps; `total` counts them all
SHOWN_TEXT = 200
_Sides = tuple[Mapping[str, str], Mapping[str, str]]


class Difference(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The first place at which one thing differs.

    name        `title/series` of a scalar, `section/name` of a parameter, else the thing's name
    what        `value`: both have it; `missing`: only the first run has it; `surplus`: only the second
    iteration   of a scalar: where it first differs; None when a whole series is missing or surplus
    first, second  what stands there in either run; None where there is nothing
    points      of a scalar: how many points differ or have no partner
    largest     of a scalar: the largest distance of two values, at iteration `largest_at`; None without finite pairs
    """

    kind: Kind
    name: str
    what: What
    iteration: int | None = None
    first: WireNumber | str | None = None
    second: WireNumber | str | None = None
    points: int = 0
    largest: float | None = None
    largest_at: int | None = None


class Compared(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How much was looked at. `unknown`: names of artifacts and models whose bytes nobody knows."""

    scalars: int = 0
    points: int = 0
    artifacts: int = 0
    models: int = 0
    parameters: int = 0
    configuration: int = 0
    ignored: int = 0
    unknown: tuple[str, ...] = ()


class Verification(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The verdict, as both tasks keep it in their runtime. `task`: the run that was verified; `by`: the other one.

    `total` counts all differences; `differences` may be cut off. Times are seconds since the epoch.
    """

    task: str
    by: str
    verdict: Verdict
    when: float
    reason: str = ""
    rtol: float = 0.0
    atol: float = 0.0
    ignore: tuple[str, ...] = ()
    compared: Compared = Compared()
    total: int = 0
    differences: tuple[Difference, ...] = ()

    def kept(self) -> dict[str, Any]:
        """What a task keeps of it."""
        return msgspec.to_builtins(msgspec.structs.replace(self, differences=self.differences[:KEPT]))


class Curve(msgspec.Struct, frozen=True):
    """A series' points in the order of their iterations, which are distinct."""

    iterations: Sequence[int]
    values: Sequence[WireNumber]


class Tolerance(msgspec.Struct, frozen=True):
    """`rtol` of the first run's value, and `atol`; `ignore` are wildcards: `title/series`, or `kind:name`."""

    rtol: float = 0.0
    atol: float = 0.0
    ignore: tuple[str, ...] = ()

    def ignores(self, kind: Kind, name: str) -> bool:
        plain = name if kind == "scalar" else ""
        return any(fnmatchcase(f"{kind}:{name}", one) or fnmatchcase(plain, one) for one in self.ignore)

    def same(self, first: WireNumber, second: WireNumber) -> bool:
        if first == second:  # non-finite numbers are words
            return True
        if isinstance(first, str) or isinstance(second, str):
            return False
        return abs(second - first) <= self.atol + self.rtol * abs(first)


# --- curves -----------------------------------------------------------------------------------------------


def compare_curves(name: str, first: Curve, second: Curve, tolerance: Tolerance) -> Difference | None:
    """Where one series first differs; None when it does not. Equal lists cost no loop."""
    if first.iterations == second.iterations:
        if first.values == second.values:
            return None
        return _compare_values(name, first, second, tolerance)
    return _compare_points(name, first, second, tolerance)


def _compare_values(name: str, first: Curve, second: Curve, tolerance: Tolerance) -> Difference | None:
    """The usual case: a value for a value."""
    same = tolerance.same
    pairs = zip(first.values, second.values, strict=True)
    places = [place for place, (one, other) in enumerate(pairs) if one != other and not same(one, other)]
    if not places:
        return None
    at, apart, most = places[0], None, 0
    for place in places:
        gap = _distance(first.values[place], second.values[place])
        if gap is not None and (apart is None or gap > apart):
            apart, most = gap, place
    return Difference(
        kind="scalar",
        name=name,
        what="value",
        iteration=first.iterations[at],
        first=first.values[at],
        second=second.values[at],
        points=len(places),
        largest=apart,
        largest_at=None if apart is None else first.iterations[most],
    )


def _compare_points(name: str, first: Curve, second: Curve, tolerance: Tolerance) -> Difference:
    """Points without a partner count, and may come before or after the first value that differs."""
    ones = dict(zip(first.iterations, first.values, strict=True))
    others = dict(zip(second.iterations, second.values, strict=True))
    alone = sorted(ones.keys() ^ others.keys())
    common = [iteration for iteration in first.iterations if iteration in others]
    values = _compare_values(
        name,
        Curve(common, [ones[iteration] for iteration in common]),
        Curve(common, [others[iteration] for iteration in common]),
        tolerance,
    )
    points = len(alone) + (values.points if values is not None else 0)
    if values is not None and values.iteration is not None and values.iteration < alone[0]:
        return msgspec.structs.replace(values, points=points)
    return Difference(
        kind="scalar",
        name=name,
        what="missing" if alone[0] in ones else "surplus",
        iteration=alone[0],
        first=ones.get(alone[0]),
        second=others.get(alone[0]),
        points=points,
        largest=None if values is None else values.largest,
        largest_at=None if values is None else values.largest_at,
    )


def _distance(first: WireNumber, second: WireNumber) -> float | None:
    if isinstance(first, str) or isinstance(second, str):
        return None
    gap = abs(second - first)
    return gap if math.isfinite(gap) else None


# --- everything else --------------------------------------------------------------------------------------


def series_names(task: Task) -> list[tuple[str, str]]:
    """Title and series of every scalar but the machine's."""
    return sorted((one.title, one.series) for one in task.metrics if not one.title.startswith(":"))


def compare_names(
    kind: Kind, first: Mapping[str, str], second: Mapping[str, str], tolerance: Tolerance
) -> list[Difference]:
    """Values by name, in the order of the names; what is ignored is left out."""
    found: list[Difference] = []
    for name in sorted(first.keys() | second.keys()):
        one, other = first.get(name), second.get(name)
        if one == other or tolerance.ignores(kind, name):
            continue
        what: What = "missing" if other is None else "surplus" if one is None else "value"
        found.append(Difference(kind=kind, name=name, what=what, first=_shown(one), second=_shown(other)))
    return found


def compare_runs(
    first: Task,
    second: Task,
    models: _Sides,
    curve: Callable[[Task, str, str], Curve],
    tolerance: Tolerance,
    when: float,
) -> Verification:
    """The whole comparison.

    models  what the two runs' models are known by: `direction/name` -> digest, '' when nobody knows it
    curve   the points of one series of one of the tasks
    """
    found = _compare_ends(first, second)
    if found and second.status in {Status.FAILED, Status.ABORTED}:
        words = second.status_reason or second.status_message.partition("\n")[0]
        reason = f"the second run {second.status.value}" + (f": {words}" if words else "")
        return _verdict(first, second, tolerance, when, Compared(), found, COULD_NOT_RUN, reason)
    curves, scalars, points = _compare_scalars(first, second, curve, tolerance)
    found += curves
    unknown: list[str] = []
    counts: dict[str, int] = {}
    ignored = sum(tolerance.ignores("scalar", f"{title}/{series}") for title, series in _all_series(first, second))
    things: dict[Kind, _Sides] = {
        "parameter": (_parameters(first), _parameters(second)),
        "configuration": (_configuration(first), _configuration(second)),
        "artifact": (_artifacts(first), _artifacts(second)),
        "model": (models[0], models[1]),
    }
    for kind, sides in things.items():
        nameless = _nameless(*sides) if kind in {"artifact", "model"} else []
        unknown += [f"{kind}:{name}" for name in nameless]
        one, other = ({name: v for name, v in side.items() if name not in nameless} for side in sides)
        found += compare_names(kind, one, other, tolerance)
        names = one.keys() | other.keys()
        left_out = sum(tolerance.ignores(kind, name) for name in names)
        counts[kind], ignored = len(names) - left_out, ignored + left_out
    compared = Compared(
        scalars=scalars,
        points=points,
        artifacts=counts["artifact"],
        models=counts["model"],
        parameters=counts["parameter"],
        configuration=counts["configuration"],
        ignored=ignored,
        unknown=tuple(unknown),
    )
    return _verdict(first, second, tolerance, when, compared, found, DIFFERS if found else REPRODUCED)


def _verdict(
    first: Task,
    second: Task,
    tolerance: Tolerance,
    when: float,
    compared: Compared,
    found: Sequence[Difference],
    verdict: Verdict,
    reason: str = "",
) -> Verification:
    return Verification(
        task=first.id,
        by=second.id,
        verdict=verdict,
        when=when,
        reason=reason,
        rtol=tolerance.rtol,
        atol=tolerance.atol,
        ignore=tolerance.ignore,
        compared=compared,
        total=len(found),
        differences=tuple(found),
    )


def _compare_ends(first: Task, second: Task) -> list[Difference]:
    """Published is completed, and read-only."""
    one, other = (Status.COMPLETED if task.status is Status.PUBLISHED else task.status for task in (first, second))
    if one is other:
        return []
    return [Difference(kind="status", name="status", what="value", first=one.value, second=other.value)]


def _compare_scalars(
    first: Task, second: Task, curve: Callable[[Task, str, str], Curve], tolerance: Tolerance
) -> tuple[list[Difference], int, int]:
    """What differs, how many series and how many points of the first run were looked at."""
    ones, others = set(series_names(first)), set(series_names(second))
    found: list[Difference] = []
    scalars = points = 0
    for title, series in sorted(ones | others):
        name = f"{title}/{series}"
        if tolerance.ignores("scalar", name):
            continue
        scalars += 1
        if (title, series) not in others or (title, series) not in ones:
            there = first if (title, series) in ones else second
            what: What = "missing" if there is first else "surplus"
            count = next(one.count for one in there.metrics if (one.title, one.series) == (title, series))
            found.append(Difference(kind="scalar", name=name, what=what, points=count))
            continue
        told = curve(first, title, series)
        points += len(told.iterations)
        difference = compare_curves(name, told, curve(second, title, series), tolerance)
        if difference is not None:
            found.append(difference)
    return found, scalars, points


def _all_series(first: Task, second: Task) -> set[tuple[str, str]]:
    return {*series_names(first), *series_names(second)}


def _parameters(task: Task) -> dict[str, str]:
    return {flat: one.value for flat, one in flatten(task.parameters).items()}


def _configuration(task: Task) -> dict[str, str]:
    return {name: one.value for name, one in task.configuration.items()}


def _artifacts(task: Task) -> dict[str, str]:
    return {one.name: one.digest or one.fingerprint for one in task.artifacts if one.kind != NOTEBOOK_KIND}


def _nameless(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """What both have, and of which at least one is not known."""
    return sorted(name for name in first.keys() & second.keys() if not (first[name] and second[name]))


def _shown(value: str | None) -> str | None:
    return value if value is None or len(value) <= SHOWN_TEXT else f"{value[:SHOWN_TEXT]}..."


def read_verification(runtime: Mapping[str, Any]) -> Verification | None:
    """What a task keeps of its last verification; None when there is none, or somebody else wrote there."""
    try:
        return msgspec.convert(runtime.get(VERIFICATION), Verification)
    except msgspec.ValidationError:
        return None
