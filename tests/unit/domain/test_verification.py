"""The comparison of two runs: first differences, tolerances, what is missing, what nobody can know."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from taskloom.domain.artifact import Artifact
from taskloom.domain.metrics import SINGLE_VALUE, SeriesSummary, WireNumber
from taskloom.domain.parameters import Parameter
from taskloom.domain.status import Status
from taskloom.domain.task import ConfigurationObject, Task
from taskloom.domain.verification import (
    KEPT,
    Compared,
    Curve,
    Difference,
    Tolerance,
    Verification,
    compare_curves,
    compare_runs,
    read_verification,
)

EXACT = Tolerance()


def curve(points: dict[int, WireNumber]) -> Curve:
    return Curve(list(points), list(points.values()))


def differs(**more: Any) -> Difference:
    return Difference(kind="scalar", name="loss/train", **more)


@pytest.mark.parametrize(
    ("first", "second", "tolerance", "difference"),
    [
        ({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}, EXACT, None),
        ({}, {}, EXACT, None),
        ({0: "NaN", 1: "Infinity"}, {0: "NaN", 1: "Infinity"}, EXACT, None),
        ({0: 1}, {0: 1.0}, EXACT, None),
        (
            {0: 1.0, 1: 2.0, 2: 3.0, 3: 5.0},
            {0: 1.0, 1: 2.5, 2: 3.0, 3: 4.0},
            EXACT,
            differs(what="value", iteration=1, first=2.0, second=2.5, points=2, largest=1.0, largest_at=3),
        ),
        (
            {0: 1.0, 1: "NaN"},
            {0: 1.0, 1: 2.0},
            Tolerance(atol=1e9),
            differs(what="value", iteration=1, first="NaN", second=2.0, points=1),
        ),
        (
            {0: "Infinity"},
            {0: "-Infinity"},
            Tolerance(atol=1e9, rtol=1.0),
            differs(what="value", iteration=0, first="Infinity", second="-Infinity", points=1),
        ),
        ({0: 100.0}, {0: 101.0}, Tolerance(rtol=0.01), None),
        ({0: 0.5}, {0: 0.25}, Tolerance(atol=0.25), None),
        (
            {0: 0.0},
            {0: 5e-324},
            Tolerance(rtol=1.0),
            differs(what="value", iteration=0, first=0.0, second=5e-324, points=1, largest=5e-324, largest_at=0),
        ),
        (
            {0: 1.0, 1: 2.0, 2: 3.0},
            {0: 1.0, 1: 2.0},
            EXACT,
            differs(what="missing", iteration=2, first=3.0, second=None, points=1),
        ),
        (
            {0: 1.0, 2: 3.0},
            {0: 1.0, 1: 2.0, 2: 4.0},
            EXACT,
            differs(
                what="surplus", iteration=1, first=None, second=2.0, points=2, largest=1.0, largest_at=2
            ),
        ),
        (
            {0: 1.0, 2: 3.0},
            {0: 1.5, 2: 3.0, 3: 4.0},
            EXACT,
            differs(what="value", iteration=0, first=1.0, second=1.5, points=2, largest=0.5, largest_at=0),
        ),
        (
            {-5: 1.0},
            {},
            EXACT,
            differs(what="missing", iteration=-5, first=1.0, second=None, points=1),
        ),
        ({0: 1e308}, {0: -1e308}, EXACT, differs(what="value", iteration=0, first=1e308, second=-1e308, points=1)),
    ],
)  # fmt: skip
def test_a_series_says_where_it_first_differs(
    first: Any, second: Any, tolerance: Tolerance, difference: Difference | None
) -> None:
    assert compare_curves("loss/train", curve(first), curve(second), tolerance) == difference


def summary(title: str, series: str, count: int = 1, last_iteration: int = 0) -> SeriesSummary:
    return SeriesSummary(title, series, count, 0.0, last_iteration, 0.0, 0, 0.0, 0)


def task(id: str, **more: Any) -> Task:
    return Task(id=id, name="run", project="p", status=more.pop("status", Status.COMPLETED), **more)


def compared(
    first: Task, second: Task, tolerance: Tolerance = EXACT, points: Any = None, models: Any = ({}, {})
) -> Verification:
    known = points or {}
    return compare_runs(first, second, models, lambda t, title, series: known[t.id, title, series], tolerance, 7.0)


def test_two_runs_that_are_the_same_in_everything_are_reproduced() -> None:
    alike = {
        "metrics": (summary("loss", "train", 2), summary("Summary", "acc", 1, SINGLE_VALUE), summary(":monitor:machine", "cpu")),
        "parameters": {"Args": {"lr": Parameter("0.1", "float")}},
        "configuration": {"net": ConfigurationObject("{}", "json")},
        "artifacts": (Artifact("data", digest="a" * 64), Artifact("book", "notebook", digest="b" * 64)),
    }  # fmt: skip
    one = task("1", **alike)
    other = task("2", **alike, status=Status.PUBLISHED)
    other = msgspec.structs.replace(other, artifacts=(Artifact("data", uri="s3://b/x", fingerprint="a" * 64),))
    points = {(id, t, s): curve(p) for id in "12" for t, s, p in (
        ("loss", "train", {0: 1.0, 1: 0.5}), ("Summary", "acc", {SINGLE_VALUE: 0.9}),
    )}  # fmt: skip
    told = compared(one, other, points=points, models=({"output/net": "c"}, {"output/net": "c"}))
    assert told == Verification(
        task="1",
        by="2",
        verdict="reproduced",
        when=7.0,
        compared=Compared(scalars=2, points=3, artifacts=1, models=1, parameters=1, configuration=1),
    )
    assert read_verification({"verification": told.kept()}) == told


def test_everything_that_differs_is_named_in_order() -> None:
    one = task(
        "1",
        metrics=(summary("gone", "x", 3), summary("loss", "train")),
        parameters={"Args": {"lr": Parameter("0.1"), "only": Parameter("1")}},
        configuration={"net": ConfigurationObject("a" * 500)},
        artifacts=(Artifact("data", digest="a" * 64), Artifact("far", uri="s3://b/x")),
    )
    other = task(
        "2",
        metrics=(summary("loss", "train"), summary("new", "y", 2)),
        parameters={"Args": {"lr": Parameter("0.2")}, "General": {"more": Parameter("3")}},
        configuration={"net": ConfigurationObject("b")},
        artifacts=(Artifact("data", digest="b" * 64), Artifact("far", uri="s3://b/x")),
    )
    points = {("1", "loss", "train"): curve({0: 1.0}), ("2", "loss", "train"): curve({0: 2.0})}
    told = compared(one, other, points=points, models=({"output/net": "x"}, {"output/net": ""}))
    assert told.verdict == "differs"
    assert told.compared == Compared(
        scalars=3,
        points=1,
        artifacts=1,
        parameters=3,
        configuration=1,
        unknown=("artifact:far", "model:output/net"),
    )
    assert told.differences == (
        Difference(kind="scalar", name="gone/x", what="missing", points=3),
        differs(what="value", iteration=0, first=1.0, second=2.0, points=1, largest=1.0, largest_at=0),
        Difference(kind="scalar", name="new/y", what="surplus", points=2),
        Difference(kind="parameter", name="Args/lr", what="value", first="0.1", second="0.2"),
        Difference(kind="parameter", name="Args/only", what="missing", first="1"),
        Difference(kind="parameter", name="General/more", what="surplus", second="3"),
        Difference(kind="configuration", name="net", what="value", first="a" * 200 + "...", second="b"),
        Difference(kind="artifact", name="data", what="value", first="a" * 64, second="b" * 64),
    )
    assert told.total == 8
    ignoring = Tolerance(ignore=("gone/*", "loss/*", "new/y", "parameter:*", "configuration:net", "artifact:data"))
    told = compared(one, other, ignoring, points, ({"output/net": "x"}, {"output/net": ""}))
    assert told.verdict == "reproduced"
    assert told.compared == Compared(ignored=8, unknown=("artifact:far", "model:output/net"))


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ("completed", "failed", "could not run"),
        ("published", "aborted", "could not run"),
        ("failed", "aborted", "could not run"),
        ("failed", "failed", "reproduced"),
        ("failed", "completed", "differs"),
        ("published", "completed", "reproduced"),
    ],
)
def test_how_the_runs_ended(first: str, second: str, verdict: str) -> None:
    told = compared(task("1", status=Status(first)), task("2", status=Status(second), status_reason="no disk"))
    assert told.verdict == verdict
    assert told.reason == (f"the second run {second}: no disk" if verdict == "could not run" else "")


def test_a_task_keeps_a_bounded_part_and_counts_the_rest() -> None:
    many = {f"p{number:04}": Parameter(str(number)) for number in range(KEPT + 10)}
    told = compared(task("1", parameters={"Args": many}), task("2"))
    kept = read_verification({"verification": told.kept()})
    assert kept is not None
    assert (len(kept.differences), kept.total) == (KEPT, KEPT + 10)


@pytest.mark.parametrize("written", [None, 5, "reproduced", {"verdict": "perhaps"}, {"task": "1"}])
def test_what_somebody_else_wrote_there_is_no_verification(written: Any) -> None:
    assert read_verification({"verification": written}) is None
