"""Projects: made by naming them, moved with all that is below, counted with all that is below."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.conftest import House

from taskloom.domain.errors import BadInput, Conflict, NotFound
from taskloom.domain.project import Project
from taskloom.wire.messages import ProjectCreate, ProjectEdit, ProjectQuery, TaskCreate
from taskloom.wire.operations import (
    CREATE_PROJECT,
    CREATE_TASK,
    EDIT_PROJECT,
    GET_PROJECT,
    LIST_PROJECTS,
)


def create(house: House, name: str, **more: object) -> Project:
    return house.client.call(CREATE_PROJECT, ProjectCreate(name=name, **more))


def names(house: House, **query: object) -> list[str]:
    return [project.name for project in house.client.call(LIST_PROJECTS, query=ProjectQuery(**query)).projects]


def edit(house: House, project: Project, **changes: object) -> Project:
    return house.client.call(EDIT_PROJECT, ProjectEdit(**changes), project=project.id)


def test_the_projects_above_are_made_on_the_fly(any_house: House) -> None:
    made = create(any_house, " vision/digits/first ", description="ten\nkinds", tags=("a", "b", "a"))
    assert (made.name, made.description, made.tags) == ("vision/digits/first", "ten\nkinds", ("a", "b"))
    assert names(any_house) == ["vision", "vision/digits", "vision/digits/first"]
    assert any_house.client.call(GET_PROJECT, project=made.id) == made


def test_a_name_is_given_once(any_house: House) -> None:
    first = create(any_house, "vision")
    with pytest.raises(Conflict) as caught:
        create(any_house, "vision")
    assert caught.value.details["project"] == first.id
    assert create(any_house, "Vision").id != first.id


def test_of_many_that_make_one_name_at_once_one_wins(any_house: House) -> None:
    def attempt(_: int) -> bool:
        try:
            create(any_house, "shared/below")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(16))) == 1
    assert names(any_house) == ["shared", "shared/below"]


@pytest.mark.parametrize(
    "name", ["", "ab", "  ab  ", "a//b", "/abc", "abc/", "a\tbc", "x" * 257, "abc\u0000", "a/ /b"]
)
def test_a_name_that_is_none_is_refused(any_house: House, name: str) -> None:
    with pytest.raises(BadInput):
        create(any_house, name)
    assert names(any_house) == []


def test_a_list_can_be_narrowed_and_paged(any_house: House) -> None:
    for name in ("vision/digits", "vision/faces", "visionary", "Text_50%", "speech"):
        create(any_house, name)
    assert names(any_house, under="vision") == ["vision/digits", "vision/faces"]
    assert names(any_house, name="vision") == ["vision"]
    assert names(any_house, search="VISION") == ["vision", "vision/digits", "vision/faces", "visionary"]
    assert names(any_house, search="_50%") == ["Text_50%"]
    assert names(any_house, search="%") == ["Text_50%"]
    page = any_house.client.call(LIST_PROJECTS, query=ProjectQuery(limit=2, offset=3))
    assert (len(page.projects), page.total) == (2, 6)


def test_renaming_moves_what_is_below(any_house: House) -> None:
    top = create(any_house, "vision")
    deep = create(any_house, "vision/digits/first")
    create(any_house, "visionary")
    moved = edit(any_house, top, name="archive/2024/seeing")
    assert moved.name == "archive/2024/seeing"
    assert any_house.client.call(GET_PROJECT, project=deep.id).name == "archive/2024/seeing/digits/first"
    assert "visionary" in names(any_house)
    assert "vision" not in names(any_house)
    assert "archive/2024" in names(any_house)


def test_a_move_onto_something_or_below_itself_is_refused_whole(any_house: House) -> None:
    one = create(any_house, "one")
    create(any_house, "two/sub")
    create(any_house, "one/sub")
    before = names(any_house)
    with pytest.raises(Conflict):
        edit(any_house, one, name="two")
    with pytest.raises(BadInput):
        edit(any_house, one, name="one/sub/one")
    with pytest.raises(BadInput):
        edit(any_house, one, name="x" * 254)
    assert names(any_house) == before


def test_wildcards_in_a_name_are_only_letters(any_house: House) -> None:
    percent = create(any_house, "50%")
    create(any_house, "50%/inside")
    create(any_house, "500/outside")
    edit(any_house, percent, name="half")
    assert names(any_house) == sorted(["half", "half/inside", "500", "500/outside"])


def test_an_edit_changes_what_it_names_only(any_house: House) -> None:
    project = create(any_house, "vision", description="old", tags=("a",))
    changed = edit(any_house, project, description="new", output_uri="s3://place")
    assert (changed.description, changed.tags, changed.output_uri) == ("new", ("a",), "s3://place")
    assert changed.last_update >= project.last_update
    assert edit(any_house, project, tags=()).tags == ()
    with pytest.raises(BadInput):
        edit(any_house, project, tags=("",))
    with pytest.raises(NotFound):
        any_house.client.call(EDIT_PROJECT, ProjectEdit(description="x"), project="0" * 32)


def test_counts_hold_what_is_below(any_house: House) -> None:
    for project in ("vision", "vision/digits", "vision/digits", "visionary"):
        any_house.client.call(CREATE_TASK, TaskCreate(name="task", project=project))
    counts = {p.name: p.task_counts for p in any_house.client.call(LIST_PROJECTS).projects}
    assert counts == {"vision": {"draft": 3}, "vision/digits": {"draft": 2}, "visionary": {"draft": 1}}
    top = any_house.client.call(LIST_PROJECTS, query=ProjectQuery(name="vision")).projects[0]
    assert top.task_counts == {"draft": 3}
    assert any_house.client.call(GET_PROJECT, project=top.id).task_counts == {"draft": 3}
