"""Tasks found by ClearML's filters, over its own wire: every field, pages, scrolls, orders, and hostile input."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import House
from tests.journals import Run
from tests.unit.server.compat.wire import ClearMLWire, Refused

from taskloom.domain.parameters import encode
from taskloom.domain.task import Property, TaskEdit, TaskType
from taskloom.wire.messages import TaskCreate, TaskEditRequest
from taskloom.wire.operations import CREATE_TASK, EDIT_TASK

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with tasks that our own API made; the tests only read."""
    running = House(tmp_path_factory.mktemp("shelf") / "house")
    client = running.client
    for n in range(12):
        wanted = TaskCreate(
            name=f"task {n:02}",
            project="alpha" if n % 3 else "alpha/beta",
            type=TaskType.TRAINING if n % 2 else TaskType.TESTING,
            tags=tuple(t for t, every in (("two", 2), ("three", 3), ("five", 5)) if n % every == 0),
            comment="about .* stars" if n == 7 else "",
            parameters={"Args": {"lr": encode(n / 10), "colour": encode(COLOURS[n % 3])}, "a": {"b.c": encode(n)}},
            properties={"mark": Property("yes")} if n % 4 == 0 else {},
        )
        made = client.call(CREATE_TASK, wanted)
        runtime: dict[str, Any] = {"_job_hash": f"h{n}", "number": n, "nested": {"x": 1}}
        execution = {"repository": f"https://git.example/{COLOURS[n % 3]}.git", "branch": "main"}
        edit = TaskEdit(runtime=runtime, execution=execution, progress=float(n * 5))
        client.call(EDIT_TASK, TaskEditRequest(edit=edit), task=made.id)
    for n in range(4):
        run = Run(client).open(name=f"run {n}", project="runs/deep").scalar(n, n * 1.5, "train/loss", "a/b")
        run.scalar(n, float(4 - n), "acc", "v").end("failed" if n % 2 else "completed").ship()
    for tag in ("archived", "hidden"):
        client.call(CREATE_TASK, TaskCreate(name=f"{tag} thing", project="alpha", system_tags=(tag,)))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def wire(shelf: House) -> ClearMLWire:
    return ClearMLWire(shelf)


@pytest.fixture(scope="module")
def ids(wire: ClearMLWire) -> dict[str, str]:
    found = wire.call("projects.get_all", search_hidden=True, only_fields=["id", "name"])["projects"]
    return {project["name"]: project["id"] for project in found}


def names(wire: ClearMLWire, **fields: Any) -> list[str]:
    found = wire.call("tasks.get_all", only_fields=["name"], **fields)["tasks"]
    return [task["name"] for task in found]


def tasks(*numbers: int) -> list[str]:
    return [f"task {n:02}" for n in numbers]


def hashed(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


def metric(title: str, series: str, what: str = "value") -> str:
    return f"last_metrics.{hashed(title)}.{hashed(series)}.{what}"


# --- filters ----------------------------------------------------------------------------------------------


def test_names_are_regular_expressions(wire: ClearMLWire) -> None:
    assert names(wire, name="^task\\ 05$") == tasks(5)
    assert names(wire, name="sk 0[34]") == tasks(3, 4)
    assert names(wire, name="TASK") == []
    assert names(wire, name="(?i)TASK 01$") == tasks(1)
    assert names(wire, name="") == [*tasks(*range(12)), *(f"run {n}" for n in range(4)), "archived thing"]
    assert names(wire, comment="\\.\\* st") == tasks(7)


def test_lists_choose_and_exclude(wire: ClearMLWire, ids: dict[str, str]) -> None:
    assert names(wire, status=["failed"]) == ["run 1", "run 3"]
    assert names(wire, status=["failed", "closed"], project=[ids["runs/deep"]]) == [f"run {n}" for n in range(4)]
    assert names(wire, status=["-created"]) == [f"run {n}" for n in range(4)]
    assert names(wire, status=["__$not", "created", "__$not", "failed"]) == ["run 0", "run 2"]
    assert names(wire, type=["testing"], project=[ids["alpha"]]) == tasks(2, 4, 8, 10)
    assert names(wire, status=["no such"]) == []
    assert names(wire, status=["__$all", "failed", "completed"]) == []
    assert names(wire, status=[]) == names(wire)


def test_projects_go_by_id_and_take_those_below_when_asked(wire: ClearMLWire, ids: dict[str, str]) -> None:
    assert names(wire, project=[ids["alpha/beta"]]) == tasks(0, 3, 6, 9)
    assert len(names(wire, project=[ids["alpha"]])) == 9
    assert len(names(wire, project=[ids["alpha"]], include_subprojects=True)) == 13
    assert names(wire, project=[f"-{ids['alpha']}", f"-{ids['runs/deep']}"]) == tasks(0, 3, 6, 9)
    assert names(wire, project=["0" * 32]) == []


def test_tags_speak_their_language(wire: ClearMLWire) -> None:
    assert names(wire, tags=["two", "three"], name="task") == tasks(0, 2, 3, 4, 6, 8, 9, 10)
    assert names(wire, tags=["__$all", "two", "three"]) == tasks(0, 6)
    assert names(wire, tags=["two", "-three"]) == tasks(2, 4, 8, 10)
    assert names(wire, tags=["__$and", "two", "__$not", "three"]) == tasks(2, 4, 8, 10)
    assert names(wire, tags=[None], name="task") == tasks(1, 7, 11)
    assert names(wire, tags=[None, "five"], name="task") == tasks(0, 1, 5, 7, 10, 11)
    assert names(wire, tags=["__$all", "two", "three", None], name="task") == tasks(0, 1, 6, 7, 11)
    assert names(wire, tags=[None, "-two", "five"], name="task") == tasks(1, 5, 7, 11)


def test_archived_tasks_are_told_and_hidden_ones_only_when_asked_for(wire: ClearMLWire) -> None:
    assert names(wire, name="thing") == ["archived thing"]
    assert names(wire, name="thing", system_tags=["-archived"]) == []
    assert names(wire, name="thing", search_hidden=True) == ["archived thing", "hidden thing"]
    (hidden,) = wire.call("tasks.get_all", name="hidden", search_hidden=True)["tasks"]
    assert names(wire, id=[hidden["id"]]) == ["hidden thing"]


def test_users_go_by_id(wire: ClearMLWire) -> None:
    me = wire.call("users.get_current_user")["user"]["id"]
    assert len(names(wire, user=[me])) == 17
    assert names(wire, user=[f"-{me}"]) == []
    assert names(wire, user=["nobody"]) == []


def test_moments_have_operators_and_ranges(wire: ClearMLWire) -> None:
    (task,) = wire.call("tasks.get_all", name="^task 05$")["tasks"]
    moment = task["created"]
    assert names(wire, created=[f">={moment}"], name="task") == tasks(*range(5, 12))
    assert names(wire, created=[f"<{moment}"], name="task") == tasks(*range(5))
    assert names(wire, created=[f">={moment}", f"<={moment}"]) == tasks(5)
    assert names(wire, created=f">{moment}", name="task") == tasks(*range(6, 12))
    assert names(wire, created=[None, moment], name="task") == tasks(*range(6))
    assert names(wire, created=[moment]) == tasks(5)
    assert names(wire, started=[">2020-01-01"]) == [f"run {n}" for n in range(4)]
    assert names(wire, status_changed=[">2200-01-01 00:00:00.5"]) == []
    either = {"fields": ["last_update", "started"], "datetime": [">2200-01-01"]}
    assert names(wire, _or_=either) == []
    assert len(names(wire, _or_={"fields": ["last_update", "started"], "datetime": [">2020-01-01"]})) == 17
    assert len(names(wire, _and_={"fields": ["last_update", "started"], "datetime": [">2020-01-01"]})) == 4


def test_numbers_have_ranges(wire: ClearMLWire) -> None:
    assert names(wire, last_iteration=[1, 2]) == ["run 1", "run 2"]
    assert names(wire, last_iteration=[2, None]) == ["run 2", "run 3"]
    assert names(wire, last_iteration=[">=3"]) == ["run 3"]
    assert names(wire, last_iteration=2) == ["run 2"]
    assert names(wire, **{metric("train/loss", "a/b", "max_value"): [1.5, None]}) == ["run 1", "run 2", "run 3"]
    assert names(wire, **{metric("acc", "v"): [None, 2]}) == ["run 2", "run 3"]
    assert names(wire, **{metric("acc", "v", "min_value"): ["1", "1"]}) == ["run 3"]
    assert names(wire, **{metric("nobody", "reported"): [0, None]}) == []


def test_parameters_properties_and_runtime_are_fields(wire: ClearMLWire) -> None:
    assert names(wire, **{"hyperparams.Args.colour.value": ["green"]}) == tasks(1, 4, 7, 10)
    assert names(wire, **{"hyperparams.Args.colour.value": ["-green", "-red"], "name": "task"}) == tasks(
        2, 5, 8, 11
    )
    assert names(wire, **{"hyperparams.Args.lr.value": "0.5"}) == tasks(5)
    assert names(wire, **{"hyperparams.a.b.c.value": ["3", "4"]}) == tasks(3, 4)
    assert names(wire, **{"hyperparams.properties.mark.value": ["yes"]}) == tasks(0, 4, 8)
    assert names(wire, **{"hyperparams.properties.mark.value": [None], "name": "task 0"}) == tasks(
        1, 2, 3, 5, 6, 7, 9
    )
    assert names(wire, **{"runtime._job_hash": "h3"}) == tasks(3)
    assert names(wire, **{"runtime.number": 7}) == tasks(7)
    assert names(wire, **{"runtime.progress": [50, None]}) == tasks(10, 11)
    assert names(wire, **{"script.branch": ["main"], "name": "0[0-3]$"}) == tasks(0, 1, 2, 3)


def test_a_pattern_over_any_or_all_of_some_fields(wire: ClearMLWire) -> None:
    assert names(wire, _any_={"fields": ["comment", "name"], "pattern": "STARS|task 03"}) == tasks(3, 7)
    assert names(wire, _all_={"fields": ["script.repository"], "pattern": "git.example/blue"}) == tasks(
        2, 5, 8, 11
    )
    assert names(wire, _all_={"fields": ["runtime._job_hash"], "pattern": "^h1$"}) == tasks(1)
    assert names(wire, _all_={"fields": ["name", "comment"], "pattern": "a"}) == tasks(7)
    assert names(wire, _any_={"fields": ["hyperparams.Args.colour.value"], "pattern": "^gr"}) == tasks(1, 4, 7, 10)
    assert names(wire, _any_={"fields": ["tags"], "pattern": "^fi"}) == tasks(0, 5, 10)
    assert names(wire, _any_={"fields": ["no.such", "id"], "pattern": "zzz"}) == []
    assert names(wire, _all_={"fields": ["no.such"], "pattern": "a"}) == []
    assert len(names(wire, _any_={"fields": [], "pattern": "zzz"})) == 17


def test_free_text_looks_at_name_comment_and_id(wire: ClearMLWire) -> None:
    assert names(wire, search_text="STARS") == tasks(7)
    assert names(wire, search_text="t .* st") == tasks(7)
    assert names(wire, search_text="^TASK 0[12]$") == tasks(1, 2)
    assert names(wire, search_text="(unclosed") == []
    (task,) = wire.call("tasks.get_all", name="^task 02$")["tasks"]
    assert names(wire, search_text=task["id"][:20]) == tasks(2)


def test_parents_go_by_id_or_have_none(shelf: House, wire: ClearMLWire) -> None:
    (parent,) = wire.call("tasks.get_all", name="^run 0$")["tasks"]
    assert names(wire, parent=parent["id"]) == []
    assert len(names(wire, parent=[None])) == 17
    assert len(names(wire, parent=["-" + parent["id"]])) == 17


def test_unknown_fields_say_nothing(wire: ClearMLWire) -> None:
    everything = names(wire)
    assert names(wire, never_heard_of=1, task_types=["x"], order_by=["no.such", "{}last_metrics.x"]) == everything


# --- order, pages, fields ---------------------------------------------------------------------------------


def test_lists_are_ordered_by_what_was_asked(wire: ClearMLWire, ids: dict[str, str]) -> None:
    assert names(wire, name="task", order_by=["-created"]) == tasks(*reversed(range(12)))
    acc = metric("acc", "v", "max_value")
    assert names(wire, order_by=[acc], name="run") == ["run 3", "run 2", "run 1", "run 0"]
    assert names(wire, order_by=[f"-{acc}"], page_size=2) == ["run 0", "run 1"]
    assert names(wire, order_by=["-hyperparams.Args.lr.value"], page_size=3) == tasks(11, 10, 9)
    found = names(wire, order_by=["type", "-name"], name="task")
    assert found == tasks(*range(10, -1, -2), *range(11, 0, -2))


def test_pages_are_exact_and_follow_one_another(wire: ClearMLWire) -> None:
    everything = names(wire)
    pages = [names(wire, page=page, page_size=5) for page in range(5)]
    assert [len(page) for page in pages] == [5, 5, 5, 2, 0]
    assert list(itertools.chain(*pages)) == everything
    assert names(wire, page=0, page_size=100_000) == everything


@pytest.mark.parametrize("order", [[], ["-name"]])
def test_a_scroll_tells_each_task_once(wire: ClearMLWire, order: list[str]) -> None:
    seen: list[str] = []
    scroll = None
    for size in (6, 6, 6, 6):
        answer = wire.call("tasks.get_all", size=size, scroll_id=scroll, order_by=order, only_fields=["name"])
        seen += [task["name"] for task in answer["tasks"]]
        scroll = answer["scroll_id"]
    assert sorted(seen) == sorted(names(wire))
    again = wire.call("tasks.get_all", size=3, scroll_id=scroll, refresh_scroll=True, order_by=order)
    assert len(again["tasks"]) >= 3


def test_only_the_asked_fields_are_told_and_parents_of_missing_ones(wire: ClearMLWire) -> None:
    wanted = ["runtime.nothing", "hyperparams.Args.colour", "status", "never"]
    (task,) = wire.call("tasks.get_all", name="^task 04$", only_fields=wanted)["tasks"]
    assert task["status"] == "created"
    assert task["runtime"] == {}
    assert list(task["hyperparams"]["Args"]) == ["colour"]
    assert set(task) == {"id", "status", "runtime", "hyperparams"}
    (less,) = wire.call("tasks.get_all", name="^task 04$", only_fields=["-script", "-hyperparams.Args", "id"])[
        "tasks"
    ]
    assert less == {"id": task["id"]}
    (less,) = wire.call("tasks.get_all", name="^task 04$", only_fields=["-script", "-hyperparams.Args"])["tasks"]
    assert "script" not in less
    assert set(less["hyperparams"]) == {"a", "properties"}
    (run,) = wire.call("tasks.get_all", name="^run 3$", only_fields=[metric("acc", "v", "max_value")])["tasks"]
    assert run["last_metrics"] == {hashed("acc"): {hashed("v"): {"max_value": 1.0}}}


def test_whole_documents_hold_what_was_recorded(wire: ClearMLWire) -> None:
    (task,) = wire.call("tasks.get_all", name="^task 04$")["tasks"]
    assert task["hyperparams"]["Args"]["lr"]["value"] == "0.4"
    assert task["script"]["repository"] == "https://git.example/green.git"
    assert task["runtime"]["nested"] == {"x": 1}
    (run,) = wire.call("tasks.get_all", name="^run 3$")["tasks"]
    assert run["unique_metrics"] == ["acc/v", "train/loss/a/b"]


def test_the_extended_list_tells_names_with_ids(wire: ClearMLWire) -> None:
    (task,) = wire.call("tasks.get_all_ex", name="^task 04$")["tasks"]
    assert task["project"]["name"] == "alpha"
    assert task["user"]["name"] == "admin"
    (again,) = wire.call("tasks.get_by_id_ex", id=[task["id"]], only_fields=["project.name"])["tasks"]
    assert again == {"id": task["id"], "project": {"name": "alpha"}}


# --- what is refused, and what must not hurt --------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "subcode"),
    [
        ({"name": "(unclosed"}, 12),
        ({"name": "(?=look)ahead"}, 12),
        ({"name": "(a)\\1"}, 12),
        ({"name": "a{1000}{1000}"}, 12),
        ({"name": "x" * 5000}, 12),
        ({"name": ["a", "b"]}, 12),
        ({"status": {"a": 1}}, 12),
        ({"status": [["a"]]}, 12),
        ({"tags": ["__$not"]}, 12),
        ({"tags": [1, {}]}, 12),
        ({"created": ["yesterday"]}, 12),
        ({"created": [{}]}, 12),
        ({"last_iteration": ["many"]}, 12),
        ({"_any_": ["name"]}, 12),
        ({"_any_": {"fields": ["name"], "pattern": "("}}, 12),
        ({"_any_": {"fields": ["name"], "pattern": 5}}, 12),
        ({"page": "two"}, 12),
        ({"page_size": []}, 12),
        ({"only_fields": [1]}, 12),
        ({"order_by": {"a": 1}}, 12),
        ({"size": 10, "scroll_id": "nonsense"}, 1104),
        ({"size": 10, "scroll_id": "AAAA"}, 1104),
        ({"size": 10, "scroll_id": 17}, 1104),
        ({"size": 10, "scroll_id": "x" * 4000}, 1104),
    ],
)
def test_what_cannot_be_meant_is_refused(wire: ClearMLWire, fields: dict[str, Any], subcode: int) -> None:
    with pytest.raises(Refused) as refused:
        wire.call("tasks.get_all", **fields)
    assert (refused.value.code, refused.value.subcode) == (400, subcode)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y", "(.*){20}z$", "(a|aa)+$"]
)
def test_patterns_that_would_never_end_elsewhere_end(wire: ClearMLWire, pattern: str) -> None:
    wire.call("tasks.create", name="a" * 200 + "!", project="", type="custom", system_tags=["hidden"])
    assert names(wire, name=pattern, search_hidden=True) is not None
    assert names(wire, _any_={"fields": ["name", "comment", "id"], "pattern": pattern}) is not None


@pytest.mark.parametrize("text", ["'; DROP TABLE tasks; --", "%", "a_b", "\\", "é☃", "\0", "\ud800", "x" * 1000])
def test_odd_texts_find_nothing_or_are_refused_but_never_a_fault(wire: ClearMLWire, text: str) -> None:
    for fields in (
        {"name": re.escape(text)},
        {"tags": [text]},
        {"parent": text},
        {"user": [text]},
        {f"hyperparams.{text}.{text}.value": [text]},
        {f"runtime.{text}": text},
        {"order_by": [f"runtime.{text}"], "name": "^nothing$"},
    ):
        try:
            assert names(wire, **fields) == []
        except Refused as refused:
            assert refused.code == 400


def test_who_looks_at_the_first_page_only_is_told_all_on_it(house: House) -> None:
    """`Task.get_tasks` never asks for a second page; other calls get the pages they ask for."""
    wire = ClearMLWire(house)
    made = [house.client.call(CREATE_TASK, TaskCreate(name=f"one {n}", project="many")).id for n in range(510)]
    first = ["id", "name", "last_update", "system_tags"]
    found = wire.call("tasks.get_all", page=0, page_size=500, only_fields=first)["tasks"]
    assert [task["id"] for task in found] == made
    for fields in ({"only_fields": ["id"]}, {"only_fields": first, "page_size": 400}, {}):
        pages = [
            wire.call("tasks.get_all", **{"page": page, "page_size": 500, **fields})["tasks"] for page in (0, 1)
        ]
        size = fields.get("page_size", 500)
        assert [len(page) for page in pages] == [size, 510 - size]
        assert [task["id"] for page in pages for task in page] == made
