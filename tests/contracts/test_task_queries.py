"""Lists of tasks: the tag language of the examples, filters, order, pages, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import House
from tests.contracts.conftest import BOTH, fresh_postgres
from tests.journals import Run, fresh_id

from taskloom.domain import tagquery
from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import Parameter, encode
from taskloom.domain.status import Status
from taskloom.domain.task import Property, Task, TaskEdit, TaskType
from taskloom.server.tasks import query as queries
from taskloom.wire.messages import Condition, TaskCreate, TaskEditRequest, TaskQuery
from taskloom.wire.operations import CREATE_TASK, EDIT_TASK, QUERY_TASKS

ROWS = 30
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module", params=BOTH)
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with tasks to look for; the tests only read."""
    addresses = iter([""]) if request.param == "sqlite" else fresh_postgres()
    running = House(tmp_path_factory.mktemp("shelf") / "house", database_url=next(addresses))
    fill(running)
    yield running
    running.stop()
    next(addresses, None)


def fill(house: House) -> None:
    client = house.client
    for n in range(ROWS):
        wanted = TaskCreate(
            name=f"task {n:02}",
            project="alpha" if n % 3 else "alpha/beta",
            type=TaskType.TRAINING if n % 2 else TaskType.TESTING,
            tags=tuple(t for t, every in (("two", 2), ("three", 3), ("five", 5)) if n % every == 0),
            comment="fifty % of a_b" if n == 7 else "",
            parameters={
                "Args": {"lr": encode(n / 10), "colour": encode(COLOURS[n % 3])},
                "General": {"odd": encode(bool(n % 2))} if n > 4 else {"text": encode(str(n))},
            },
            properties={"mark": Property("yes")} if n % 10 == 0 else {},
        )
        client.call(CREATE_TASK, wanted)
    for n in range(5):
        run = (
            Run(client)
            .open(name=f"run {n}", project="runs")
            .scalar(n, n * 1.5)
            .scalar(n, float(5 - n), "acc", "v")
        )
        run.end("failed" if n % 2 else "completed").ship()
    client.call(
        CREATE_TASK, TaskCreate(name="old thing", project="alpha", system_tags=("archived",), tags=("two",))
    )
    client.call(CREATE_TASK, TaskCreate(name="hidden thing", project="alpha", system_tags=("hidden",)))
    client.call(
        CREATE_TASK, TaskCreate(name="ÄÖ Straße ☃", project="alpha other", comment="backslash \\ and 100%")
    )


def find(house: House, **query: Any) -> list[Task]:
    return house.client.call(QUERY_TASKS, TaskQuery(**query)).tasks


def names(house: House, **query: Any) -> list[str]:
    return sorted(task.name for task in find(house, **query))


def tasks(*numbers: int) -> list[str]:
    return [f"task {n:02}" for n in numbers]


def where(key: str, is_: Any = "=", value: float | str | None = None) -> dict[str, Any]:
    return {"where": [Condition(key=key, is_=is_, value=value)], "limit": 100}


# --- tags -------------------------------------------------------------------------------------------------

EXAMPLES: dict[str, tuple[list[str], Any]] = {
    "any of them": (["a", "b", "c"], lambda t: bool(t & {"a", "b", "c"})),
    "all of them": (["__$and", "a", "b", "c"], lambda t: t >= {"a", "b", "c"}),
    "not a and b and not c": (["__$not", "a", "b", "__$not", "c"], lambda t: "b" in t and not t & {"a", "c"}),
    "the same with dashes": (["-a", "b", "-c"], lambda t: "b" in t and not t & {"a", "c"}),
    "a or b or (c and d)": (["a", "b", "__$and", "c", "d"], lambda t: bool(t & {"a", "b"}) or t >= {"c", "d"}),
    "(a or b) and c and d": (
        ["__$and", "__$or", "a", "b", "__$and", "c", "d"],
        lambda t: bool(t & {"a", "b"}) and t >= {"c", "d"},
    ),
    "with one, without another": (["a", "-b"], lambda t: "a" in t and "b" not in t),
    "a tag that begins with a dash": (["__$not", "-a", "b"], lambda t: "b" in t and "-a" not in t),
    "only without": (["-a"], lambda t: "a" not in t),
}


@pytest.fixture(scope="module")
def tagged(shelf: House) -> dict[frozenset[str], str]:
    """One task for every set of the tags a, b, c, d, and one whose tag begins with a dash."""
    sets = [frozenset(t for t, bit in zip("abcd", f"{n:04b}", strict=True) if bit == "1") for n in range(16)]
    sets.append(frozenset({"-a", "b"}))
    made = {}
    for tags in sets:
        wanted = TaskCreate(name=f"tags {','.join(sorted(tags))}", project="tagged", tags=tuple(sorted(tags)))
        made[tags] = shelf.client.call(CREATE_TASK, wanted).id
    return made


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_tag_language_reads_as_its_examples(
    shelf: House, tagged: dict[frozenset[str], str], example: str
) -> None:
    words, meant = EXAMPLES[example]
    found = {task.id for task in find(shelf, project="tagged", tags=words)}
    assert found == {task_id for tags, task_id in tagged.items() if meant(tags)}


@given(words=st.lists(st.sampled_from(["a", "b", "c", "d", "-a", "-c", "__$and", "__$or", "__$nop"]), max_size=7))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sql_finds_what_the_parsed_query_matches(
    shelf: House, tagged: dict[frozenset[str], str], words: list[str]
) -> None:
    parsed = tagquery.parse_tags(words)
    found = {task.id for task in find(shelf, project="tagged", tags=words)}
    assert found == {task_id for tags, task_id in tagged.items() if parsed.matches(tags)}


# --- filters ----------------------------------------------------------------------------------------------


def test_projects_with_and_without_those_below(shelf: House) -> None:
    assert names(shelf, project="alpha/beta") == tasks(*range(0, ROWS, 3))
    assert len(names(shelf, project="alpha")) == 20
    assert len(names(shelf, project="alpha", subprojects=True)) == ROWS
    assert names(shelf, project="ALPHA", subprojects=True) == []
    assert names(shelf, project="no such") == []


def test_names_and_texts(shelf: House) -> None:
    assert names(shelf, name="TASK 0") == tasks(*range(10))
    assert names(shelf, name="task 07", exact_name=True) == tasks(7)
    assert names(shelf, name="task 0", exact_name=True) == []
    assert names(shelf, search="FIFTY") == tasks(7)
    assert names(shelf, search="ÄÖ Straße ☃") == ["ÄÖ Straße ☃"]
    assert names(shelf, search="k \\ a") == []
    assert names(shelf, search="\\") == ["ÄÖ Straße ☃"]


def test_wildcards_are_letters(shelf: House) -> None:
    assert names(shelf, search="%") == ["task 07", "ÄÖ Straße ☃"]
    assert names(shelf, search="a_b") == tasks(7)
    assert names(shelf, name="_") == []
    assert names(shelf, name="%") == []
    assert names(shelf, search="!") == []


def test_states_types_users_ids_and_parents(shelf: House) -> None:
    assert names(shelf, status=[Status.FAILED]) == ["run 1", "run 3"]
    assert len(names(shelf, status=[Status.FAILED, Status.COMPLETED])) == 5
    assert names(shelf, status=[Status.RUNNING]) == []
    assert names(shelf, type=[TaskType.TESTING], project="alpha", subprojects=True) == tasks(*range(0, ROWS, 2))
    assert names(shelf, user=["nobody"]) == []
    assert len(names(shelf, user=["admin", "nobody"], project="runs")) == 5
    some = find(shelf, project="runs")[0]
    assert [t.id for t in find(shelf, ids=[some.id, fresh_id(), "nonsense"])] == [some.id]
    assert names(shelf, parent=[some.id]) == []


def test_archived_and_hidden_tasks_are_left_out_unless_they_are_asked_for(shelf: House) -> None:
    assert names(shelf, name="thing") == []
    assert names(shelf, name="thing", hidden=True) == ["hidden thing", "old thing"]
    assert names(shelf, system_tags=["archived"]) == ["old thing"]
    assert names(shelf, system_tags=["hidden"]) == ["hidden thing"]
    assert names(shelf, system_tags=["-archived"], name="thing") == []
    assert names(shelf, tags=["two"], name="old") == []
    (old,) = find(shelf, name="old", hidden=True)
    assert names(shelf, ids=[old.id]) == ["old thing"]


def test_conditions_on_parameters_metrics_and_properties(shelf: House) -> None:
    assert names(shelf, **where("parameters.Args/lr", "<", 0.25)) == tasks(0, 1, 2)
    assert names(shelf, **where("parameters.Args/lr", "<=", 0.2)) == tasks(0, 1, 2)
    assert names(shelf, **where("parameters.Args/lr", ">", 2.8)) == tasks(29)
    assert names(shelf, **where("parameters.Args/lr", ">=", "2.8")) == tasks(28, 29)
    assert names(shelf, **where("parameters.Args/lr", "=", 0.5)) == tasks(5)
    assert names(shelf, **where("parameters.Args/lr", "=", "0.5")) == tasks(5)
    assert len(names(shelf, **where("parameters.Args/lr", "!=", 0.5))) == ROWS - 1
    assert names(shelf, **where("parameters.Args/colour", "=", "red")) == tasks(*range(0, ROWS, 3))
    assert len(names(shelf, **where("parameters.Args/colour", "!=", "red"))) == 20
    assert names(shelf, **where("parameters.Args/colour", "contains", "REE")) == tasks(*range(1, ROWS, 3))
    assert names(shelf, **where("parameters.Args/colour", "<", "c")) == tasks(*range(2, ROWS, 3))
    assert names(shelf, **where("parameters.Args/colour", "<", 5.0)) == []
    assert names(shelf, **where("parameters.General/text", "exists")) == tasks(*range(5))
    assert names(shelf, **where("parameters.General/odd", "=", 1.0)) == tasks(*range(5, ROWS, 2))
    assert names(shelf, **where("properties.mark", "=", "yes")) == tasks(0, 10, 20)
    assert names(shelf, **where("metrics.loss/train", ">", 4.0)) == ["run 3", "run 4"]
    assert names(shelf, **where("metrics.acc/v:max", "=", 5.0)) == ["run 0"]
    assert names(shelf, **where("parameters.ARGS/lr", "exists")) == []
    both = [
        Condition(key="parameters.Args/lr", is_="<", value=1.0),
        Condition(key="properties.mark", is_="exists"),
    ]
    assert names(shelf, where=both) == tasks(0)
    assert names(shelf, where=both, tags=["-two"]) == []


# --- order and pages --------------------------------------------------------------------------------------

KEYS = ("parameters.Args/lr", "parameters.Args/colour", "metrics.loss/train", "parameters.General/odd")


@pytest.mark.parametrize("rare", [0, 1000])
@pytest.mark.parametrize("key", [*KEYS, "name", "created", "last_iteration", "progress", "status", "last_update"])
@pytest.mark.parametrize("reverse", [False, True])
def test_pages_hold_every_task_once_and_in_order(
    shelf: House, monkeypatch: pytest.MonkeyPatch, rare: int, key: str, reverse: bool
) -> None:
    """Whichever plan the number of matches chose: fetched and sorted, or walked along an index."""
    monkeypatch.setattr(queries, "RARE", rare)
    order = [f"-{key}" if reverse else key]
    query: dict[str, Any] = {"order_by": order, "status": [s for s in Status if s is not Status.RUNNING]}
    everything = find(shelf, **query, limit=1000)
    assert len(everything) == len({t.id for t in everything}) >= ROWS + 6
    paged: list[Task] = []
    for offset in range(0, len(everything) + 7, 7):
        paged += find(shelf, **query, limit=7, offset=offset)
    assert [t.id for t in paged] == [t.id for t in everything]
    told = [value_of(task, key) for task in everything]
    present = [value for value in told if value is not None]
    assert told == present + [None] * (len(told) - len(present))  # what has no value comes last
    assert present == sorted(present, reverse=reverse)


def value_of(task: Task, key: str) -> Any:
    if key.startswith("parameters."):
        section, name = key.removeprefix("parameters.").split("/")
        found = task.parameters.get(section, {}).get(name)
        if found is None:
            return None
        return {"True": 1.0, "False": 0.0}.get(found.value) if found.type == "bool" else _plain(found)
    if key.startswith("metrics."):
        return next(
            (m.last for m in task.metrics if f"{m.title}/{m.series}" == key.removeprefix("metrics.")), None
        )
    return getattr(task, key)


def _plain(parameter: Parameter) -> Any:
    return float(parameter.value) if parameter.type == "float" else parameter.value


def test_several_keys_and_the_default_order(shelf: House) -> None:
    found = find(
        shelf, project="alpha", subprojects=True, order_by=["parameters.Args/colour", "-parameters.Args/lr"]
    )
    told = [(value_of(t, "parameters.Args/colour"), -value_of(t, "parameters.Args/lr")) for t in found]
    assert told == sorted(told)
    latest = [task.last_update for task in find(shelf)]
    assert latest == sorted(latest, reverse=True)


def test_totals_are_counted_up_to_a_limit(shelf: House) -> None:
    def total(**query: Any) -> int:
        return shelf.client.call(QUERY_TASKS, TaskQuery(limit=1, **query)).total

    assert total(project="alpha", subprojects=True) == ROWS
    assert total(project="alpha", subprojects=True, count_to=10) == 11
    assert total(count_to=3) == 4
    assert total(project="nothing") == 0


def test_only_the_fields_that_were_asked_for(shelf: House) -> None:
    (task,) = find(shelf, name="task 05", fields=["tags", "parameters"])
    assert task == Task(
        id=task.id,
        name="task 05",
        project="alpha",
        status=Status.DRAFT,
        tags=("five",),
        parameters={
            "Args": {"lr": Parameter("0.5", "float"), "colour": Parameter("blue", "str")},
            "General": {"odd": Parameter("True", "bool")},
        },
    )
    (run,) = find(shelf, name="run 3", fields=["metrics", "user"])
    assert [(m.title, m.last) for m in run.metrics] == [("acc", 2.0), ("loss", 4.5)]
    assert (run.user, run.created) == ("admin", 0.0)


def test_an_edit_is_found_at_once_and_what_it_removed_is_not(shelf: House) -> None:
    task = shelf.client.call(
        CREATE_TASK,
        TaskCreate(name="edited", project="edits", tags=("x1",), parameters={"A": {"p": Parameter("1", "int")}}),
    )
    edit = TaskEdit(
        tags=("x2",),
        system_tags=("archived",),
        parameters={"A": {"p": None, "q": Parameter("nan", "float"), "r": Parameter("7", "int")}},
    )
    shelf.client.call(EDIT_TASK, TaskEditRequest(edit=edit), task=task.id)
    assert names(shelf, tags=["x1"], hidden=True) == []
    assert names(shelf, tags=["x2"]) == []
    assert names(shelf, tags=["x2"], hidden=True) == ["edited"]
    assert names(shelf, **where("parameters.A/p", "exists"), hidden=True) == []
    assert names(shelf, **where("parameters.A/r", "=", 7.0), hidden=True) == ["edited"]
    assert names(shelf, **where("parameters.A/q", "=", "nan"), hidden=True) == ["edited"]


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"limit": 0}, "limit 0: expected 1 to 1000"),
        ({"limit": 1001}, "expected 1 to 1000"),
        ({"offset": -1}, "offset -1"),
        ({"count_to": -1}, "count_to -1"),
        ({"fields": ["paramters"]}, "did you mean 'parameters'"),
        ({"order_by": ["createt"]}, "did you mean 'created'"),
        ({"order_by": ["document"]}, "unknown key 'document'"),
        ({"order_by": ["--created"]}, "unknown key"),
        ({"order_by": ["name; DROP TABLE tasks"]}, "unknown key"),
        ({"order_by": [""]}, "unknown key"),
        ({"order_by": ["metrics."]}, "unknown key"),
        ({"where": [Condition(key="parameter.Args/lr", value=1.0)]}, "did you mean 'parameters'"),
        ({"where": [Condition(key="statu", value="x")]}, "did you mean 'status'"),
        ({"where": [Condition(key="parameters.a/b")]}, "expected a value"),
        ({"where": [Condition(key="parameters.a/b", is_="exists", value=1.0)]}, "expected no value"),
        ({"where": [Condition(key="parameters.a/b", value=math.nan)]}, "NaN"),
        ({"where": [Condition(key="parameters.a/b", value=1.0)] * 33}, "at most 32"),
        ({"tags": ["__$not"]}, "must stand before a tag"),
        ({"tags": ["-"]}, "a tag is empty"),
        ({"search": "x" * 2000}, "at most 1024"),
        ({"search": "a\0b"}, "control character"),
        ({"ids": ["x"] * 10_001}, "at most 10000"),
    ],
)
def test_what_cannot_be_meant_is_refused(shelf: House, query: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as refused:
        find(shelf, **query)
    assert told in refused.value.message
