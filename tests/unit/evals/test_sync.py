"""Plans between a taskset here and one on the server; uploads in parts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import House

from taskloom.domain.errors import Conflict
from taskloom.evals import Task, Taskset, sync
from taskloom.evals.sync import SyncPlan, diff, fetch, push, signature
from taskloom.wire import messages as m
from taskloom.wire import operations as op


def task(slug: str, **fields: Any) -> Task:
    return Task(**{"env": "sums", "id": "add", "slug": slug, **fields})


def slugs(tasks: list[Task]) -> list[str]:
    return [str(one.slug) for one in tasks]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("sync") / "house")
    yield house
    house.stop()


@pytest.fixture
def server(shared: House, monkeypatch: pytest.MonkeyPatch) -> House:
    for name, value in shared.environment().items():
        if name.startswith("TASKLOOM_"):
            monkeypatch.setenv(name, value)
    return shared


def test_a_plan_tells_rows_apart_by_their_slugs_and_signatures() -> None:
    local = Taskset("s", [task("new"), task("same"), task("changed", args={"n": 1}), task("newer")])
    remote = Taskset("s", [task("gone"), task("changed", args={"n": 2}), task("same")], version=3)
    plan = diff(local, remote)
    assert slugs(plan.to_create) == ["new", "newer"]
    assert slugs(plan.to_update) == ["changed"]
    assert slugs(plan.unchanged) == ["same"]
    assert slugs(plan.remote_only) == ["gone"]
    assert slugs(plan.to_apply) == ["new", "changed", "newer"]
    assert plan.summary() == "2 to create, 1 to update, 1 unchanged, 1 on the server only"
    assert slugs(diff(local, None).to_create) == ["new", "same", "changed", "newer"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"args": {"n": 1}}, {"args": {"n": 1.0}}),
        ({"columns": {}}, {"columns": None}),
        ({"env": "a"}, {"env": "b"}),
        ({"agent_config": {"max_steps": 1}}, {}),
        ({"args": {"n": True}}, {"args": {"n": 1}}),
    ],
)
def test_every_field_but_the_slug_is_part_of_a_signature(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert signature(task("a", **first)) != signature(task("a", **second))
    assert signature(task("a", **first)) == signature(task("b", **first))


def test_the_order_of_keys_is_no_difference() -> None:
    assert signature(task("a", args={"x": 1, "y": 2})) == signature(task("a", args={"y": 2, "x": 1}))


def test_what_is_pushed_is_fetched_and_is_then_unchanged(server: House) -> None:
    rows = [
        task(
            "full",
            args={"n": [1, 2.0, None, "é"]},
            columns={"level": "hard"},
            validation=[{"a": 1}],
            agent_config={},
        ),
        task("plain"),
        Task(env="sums", id="add", args={"odd": math.nan}),
    ]
    local = Taskset("pushed", rows)
    done = push("pushed", diff(local, fetch("pushed")))
    assert (done.created, done.updated, done.removed, done.unchanged) == (3, 0, 0, 0)
    remote = fetch("pushed")
    assert remote is not None
    assert (slugs(list(remote)), remote.version) == (slugs(rows), 1)
    assert remote["full"].model_dump() == rows[0].model_dump()
    plan = diff(local, remote)
    assert (plan.to_apply, len(plan.unchanged)) == ([], 3)
    assert push("pushed", plan).taskset is None  # nothing was asked of the server
    forced = push("pushed", SyncPlan(to_apply=list(local)))
    assert (forced.unchanged, forced.taskset and forced.taskset.version) == (3, 1)


def test_what_only_the_server_has_stays_unless_it_is_pruned(server: House) -> None:
    push("pruned", diff(Taskset("x", [task("a"), task("b")]), None))
    local = Taskset("x", [task("b"), task("c")])
    push("pruned", diff(local, fetch("pruned")))
    assert slugs(list(fetch("pruned") or [])) == ["a", "b", "c"]
    done = push("pruned", diff(local, fetch("pruned")), prune=True)
    assert (done.removed, slugs(list(fetch("pruned") or []))) == (1, ["b", "c"])


def test_an_upload_in_parts_is_one_version(server: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "PART_ROWS", 3)
    push("parts", diff(Taskset("x", [task("old"), task("a0")]), None))
    told: list[int] = []
    local = Taskset("x", [task(f"a{n}") for n in range(8)])
    done = push("parts", diff(local, fetch("parts")), prune=True, progress=told.append)
    assert (done.created, done.removed, sum(told), len(told)) == (7, 1, 8, 4)
    versions = server.client.call(op.LIST_VERSIONS, taskset="parts").versions
    assert [(v.version, v.rows, v.added, v.removed) for v in versions] == [(2, 8, 7, 1), (1, 2, 2, 0)]


def test_large_rows_are_parted_by_their_bytes(server: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "PART_BYTES", 2000)
    told: list[int] = []
    local = Taskset("x", [task(f"a{n}", args={"text": "t" * 900}) for n in range(5)])
    push("large", diff(local, None), progress=told.append)
    assert told == [2, 2, 1]


def test_a_plan_that_is_out_of_date_is_a_conflict(server: House) -> None:
    local = Taskset("x", [task("a")])
    plan = diff(local, fetch("raced"))
    server.client.call(op.UPLOAD_TASKSET, m.TasksetUpload(rows=[sync.to_wire(task("other"))]), taskset="raced")
    with pytest.raises(Conflict, match="is at version 1, not 0"):
        push("raced", plan)


def test_rows_of_a_file_go_up_and_come_back_as_they_were(server: House, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    Taskset("x", [task(f"s{n}", args={"n": n}, columns={"part": n % 2}) for n in range(30)]).to_file(first)
    push("file", diff(Taskset.from_file(first), None))
    Taskset.from_api("file").to_file(second)
    assert second.read_bytes() == first.read_bytes()
