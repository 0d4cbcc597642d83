"""Conditions on every kind of key, joined by and and or: SQL finds what a plain reading of them finds."""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import House
from tests.contracts.conftest import BOTH, fresh_postgres
from tests.journals import Run

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import Parameter, encode, number
from taskloom.domain.task import Property, Task, TaskEdit, TaskType
from taskloom.server.patterns import finder
from taskloom.wire.messages import Condition, TaskCreate, TaskEditRequest, TaskQuery
from taskloom.wire.operations import CREATE_TASK, EDIT_TASK, QUERY_TASKS

TASKS = 40
WORDS = ("alpha", "beta", "alphabet", "10", "2.5", "")
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@pytest.fixture(scope="module", params=BOTH)
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with tasks of random contents; the tests only read."""
    addresses = iter([""]) if request.param == "sqlite" else fresh_postgres()
    running = House(tmp_path_factory.mktemp("shelf") / "house", database_url=next(addresses))
    fill(running)
    yield running
    running.stop()
    next(addresses, None)


@pytest.fixture(scope="module")
def everything(shelf: House) -> list[Task]:
    return find(shelf, limit=1000)


def fill(house: House) -> None:
    dice = random.Random(7)
    client = house.client
    for n in range(TASKS):
        wanted = TaskCreate(
            name=f"{dice.choice(WORDS)} task {n}",
            project=dice.choice(["one", "one/two", "three"]),
            type=dice.choice([TaskType.TRAINING, TaskType.QC]),
            comment=dice.choice(WORDS),
            tags=tuple(dice.sample(WORDS[:3], dice.randrange(3))),
            parameters={
                "P": {key: dice.choice([encode(dice.choice(WORDS)), encode(dice.choice([10, 2.5, -1])), encode(True)])
                      for key in "ab" if dice.random() < 0.7}
            },
            properties={"note": Property(dice.choice(WORDS))} if dice.random() < 0.5 else {},
        )  # fmt: skip
        made = client.call(CREATE_TASK, wanted)
        edit = TaskEdit(
            runtime={"r": dice.choice([*WORDS, 10, 2.5, True, {"deep": 1}])} if dice.random() < 0.6 else {},
            execution={"repository": dice.choice(WORDS)},
            progress=dice.choice([None, 0.0, 10.0, 2.5]),
        )
        client.call(EDIT_TASK, TaskEditRequest(edit=edit), task=made.id)
    for n in range(4):
        Run(client).open(name=f"run {n}", project="runs").scalar(n * 10, n * 2.5).end().ship()


def find(house: House, **query: Any) -> list[Task]:
    return house.client.call(QUERY_TASKS, TaskQuery(**query)).tasks


# --- a plain reading --------------------------------------------------------------------------------------

TEXTS = ("name", "comment", "project", "project_id", "type", "status", "id", "parent")
NUMBERS = ("progress", "last_iteration", "started", "created")
VALUES = (
    "parameters.P/a",
    "parameters.P/b",
    "properties.note",
    "runtime.r",
    "execution.repository",
    "metrics.loss/train",
    "metrics.loss/train:max",
)


def row(task: Task, key: str) -> tuple[float | None, str | None] | None:
    """The filterable value."""
    head, _, name = key.partition(".")
    if head == "metrics":
        return next(((m.last, None) for m in task.metrics), None)  # each run has one point: all the same
    if head == "execution":
        return (None, task.execution.repository) if task.execution.repository else None
    found: Parameter | None = None
    if head == "parameters":
        found = task.parameters.get("P", {}).get(name.removeprefix("P/"))
    elif head == "properties":
        found = Parameter(task.properties[name].value) if name in task.properties else None
    elif isinstance(value := task.runtime.get(name), str | int | float):
        found = Parameter(str(value), type(value).__name__)
    return None if found is None else (number(found), found.value)


def read(value: float | str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def of_text(text: str, c: Condition) -> bool:
    match c.is_, c.value:
        case "exists", _:
            return text != ""
        case "in", list(items):
            return text in [i if isinstance(i, str) else f"{i:g}" for i in items]
        case "not in", list(items):
            return text not in [i if isinstance(i, str) else f"{i:g}" for i in items]
        case "matches", value:
            return re.search(str(value), text) is not None
        case _, value:
            word = value if isinstance(value, str) else f"{value:g}"
            return word.lower() in text.lower() if c.is_ == "contains" else COMPARE[c.is_](text, word)


def of_number(found: float | None, c: Condition) -> bool:
    match c.is_, c.value:
        case "exists", _:
            return found is not None
        case (("in" | "not in"), list(items)):
            inside = (found is None and "" in items) or (found is not None and found in [read(i) for i in items])
            return inside is (c.is_ == "in")
        case _, "":
            return (c.is_ == "=" and found is None) or (c.is_ == "!=" and found is not None)
        case _, value:
            wanted = read(value)
            return c.is_ == "!=" if found is None else COMPARE[c.is_](found, wanted)


def of_row(found: tuple[float | None, str | None] | None, c: Condition) -> bool:
    value = c.value
    if isinstance(value, list):
        texts = [i for i in value if isinstance(i, str)]
        numbers = [n for i in value if (n := read(i)) is not None]
        inside = "" in value if found is None else (found[1] in texts or found[0] in numbers)
        return inside is (c.is_ == "in")
    if found is None or value is None:
        return found is not None
    amount, text = found
    if c.is_ in {"contains", "matches"}:
        return text is not None and of_text(text, c)
    wanted = read(value)
    numbers_hold = amount is not None and wanted is not None and COMPARE[c.is_](amount, wanted)
    if isinstance(value, str) and (wanted is None or c.is_ in {"=", "!="}):
        if c.is_ == "!=":
            return text != value and (wanted is None or amount is None or amount != wanted)
        return (text is not None and COMPARE[c.is_](text, value)) or (c.is_ == "=" and numbers_hold)
    return numbers_hold or (c.is_ == "!=" and amount is None)


def holds(task: Task, c: Condition) -> bool:
    if c.key in VALUES:
        return of_row(row(task, c.key), c)
    if c.key in NUMBERS:
        found = getattr(task, c.key)
        return of_number(None if c.key in {"started", "created"} and not found else found, c)
    if c.key != "tags":
        return of_text(str(getattr(task, c.key)), c)
    if c.is_ in {"!=", "not in"}:
        same = Condition(key="tags", is_="=" if c.is_ == "!=" else "in", value=c.value)
        return not holds(task, same)
    wanted = c.value if isinstance(c.value, list) else [c.value]
    none = not task.tags and c.is_ in {"=", "in"} and "" in wanted
    return none or any(of_text(tag, c) for tag in task.tags if c.is_ != "exists" or tag)


# --- the two agree ----------------------------------------------------------------------------------------

scalars = st.sampled_from([*WORDS, "alph", "training", "one", "created", "7", 10.0, 2.5, 0.0, -1.0])
amounts = st.sampled_from([10.0, 2.5, 0.0, "10", "", 20.0])
patterns = st.sampled_from(
    ["^al", "bet", "alpha task", "^alpha$", "a.p", "[0-9]$", "^$", "^one", "task 1.*", "", "t$"]
)


def conditions() -> st.SearchStrategy[Condition]:
    texts = st.sampled_from([*TEXTS, *VALUES, "tags"])
    compared = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
    made: Any = Condition
    return st.one_of(
        st.builds(made, key=texts, is_=compared, value=scalars),
        st.builds(made, key=texts, is_=st.just("contains"), value=st.sampled_from(["alpha", "ET", "1", "zzz"])),
        st.builds(made, key=texts, is_=st.just("matches"), value=patterns),
        st.builds(made, key=texts, is_=st.sampled_from(["in", "not in"]), value=st.lists(scalars, max_size=4)),
        st.builds(made, key=st.sampled_from([*TEXTS, *NUMBERS, *VALUES, "tags"]), is_=st.just("exists")),
        st.builds(made, key=st.sampled_from(NUMBERS), is_=compared, value=amounts),
        st.builds(
            made, key=st.sampled_from(NUMBERS), is_=st.sampled_from(["in", "not in"]), value=st.lists(amounts, max_size=3)
        ),
    )  # fmt: skip


@given(
    where=st.lists(conditions(), max_size=3),
    any_of=st.lists(st.lists(conditions(), min_size=1, max_size=3), max_size=2),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sql_finds_what_a_plain_reading_finds(
    shelf: House, everything: list[Task], where: list[Condition], any_of: list[list[Condition]]
) -> None:
    found = {task.id for task in find(shelf, where=where, any_of=any_of, limit=1000)}
    meant = {
        task.id
        for task in everything
        if all(holds(task, c) for c in where) and all(any(holds(task, c) for c in choice) for choice in any_of)
    }
    assert found == meant


@pytest.mark.parametrize("key", [*TEXTS, *VALUES, *NUMBERS, "tags"])
def test_lists_and_absence_are_read_plainly(shelf: House, everything: list[Task], key: str) -> None:
    words: list[list[float | str]] = [[], [""], ["10"], [10.0, ""], ["2.5", 0.0]]
    if key not in NUMBERS:
        words += [["alpha"], ["alpha", ""], ["beta", "alpha", "one"]]
    for is_ in ("in", "not in"):
        for value in words:
            condition = Condition(key=key, is_=is_, value=value)
            found = {task.id for task in find(shelf, where=[condition], limit=1000)}
            assert found == {task.id for task in everything if holds(task, condition)}, condition


@pytest.mark.parametrize(
    "key", ["name", "project", "id", "status_changed", "progress", "runtime.r", "parent", "comment"]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_orders_page_without_gaps_and_doubles(
    shelf: House, everything: list[Task], key: str, reverse: bool
) -> None:
    order = f"-{key}" if reverse else key
    seen = [t.id for n in range(0, 50, 7) for t in find(shelf, order_by=[order], limit=7, offset=n)]
    assert len(seen) == len(set(seen)) == len(everything)
    if key in {"name", "project", "id"}:
        by_id = {task.id: task for task in everything}
        told = [getattr(by_id[i], key) for i in seen]
        assert told == sorted(told, reverse=reverse)


def test_conditions_on_fields_work_beside_the_older_filters(shelf: House, everything: list[Task]) -> None:
    named = Condition(key="name", is_="matches", value="^alpha")
    found = find(shelf, project="one", subprojects=True, tags=["beta"], where=[named], limit=1000)
    assert {t.id for t in found} == {
        t.id for t in everything if t.project.startswith("one") and "beta" in t.tags and t.name.startswith("alpha")
    }


pieces = st.sampled_from(
    ["^", "$", ".*", "a", "alpha", " task", "\\ ", "1", "\\.", "\\$", ".", "[0-9]", "\\\\", "b", "é"]
)


@given(parts=st.lists(pieces, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_patterns_that_are_plain_texts_find_what_the_engine_finds(
    shelf: House, everything: list[Task], parts: list[str]
) -> None:
    pattern = "".join(parts)
    found = {
        task.id for task in find(shelf, where=[Condition(key="name", is_="matches", value=pattern)], limit=1000)
    }
    assert found == {task.id for task in everything if finder(pattern)(task.name)}


@pytest.mark.parametrize("pattern", ["(a+)+$", "(x|x)*y", "^(.*)*$", "(.{0,30}){10}z"])
def test_no_pattern_runs_away(shelf: House, pattern: str) -> None:
    find(shelf, where=[Condition(key="name", is_="matches", value=pattern)])
    find(shelf, where=[Condition(key="parameters.P/a", is_="matches", value=pattern)])


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        (Condition(key="name", is_="matches", value="("), "pattern '('"),
        (Condition(key="name", is_="matches", value="(?=a)"), "no look-around"),
        (Condition(key="name", is_="matches", value="(a)\\1"), "no back-references"),
        (Condition(key="name", is_="matches", value="x" * 3000), "at most 2048"),
        (Condition(key="name", is_="matches", value=3.0), "expected a pattern"),
        (Condition(key="created", is_="matches", value="a"), "is a number"),
        (Condition(key="progress", is_="contains", value=1.0), "is a number"),
        (Condition(key="created", is_=">", value="yesterday"), "is no number"),
        (Condition(key="name", is_="in", value="a"), "expected a list"),
        (Condition(key="name", is_="=", value=["a"]), "expected one value"),
        (Condition(key="name", is_="in", value=["a"] * 10_001), "at most 10000"),
        (Condition(key="name", is_="exists", value=["a"]), "expected no value"),
        (Condition(key="nam", value="a"), "did you mean 'name'"),
    ],
)
def test_conditions_that_cannot_be_meant_are_refused(shelf: House, condition: Condition, told: str) -> None:
    for query in ({"where": [condition]}, {"any_of": [[condition]]}):
        with pytest.raises(BadInput) as refused:
            find(shelf, **query)
        assert told in refused.value.message


def test_an_empty_choice_is_refused(shelf: House) -> None:
    with pytest.raises(BadInput, match="nothing can hold"):
        find(shelf, any_of=[[]])
