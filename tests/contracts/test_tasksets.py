"""Tasksets: rows in their order, every version as it was, parts of one upload as one version."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.conftest import House
from tests.contracts.eval_rig import Shelf, row

from taskloom.domain.errors import BadInput, Conflict, NotFound, TaskloomError
from taskloom.domain.evaluation import EvalRow
from taskloom.server.evals.tasksets import MAX_UPLOAD
from taskloom.wire import messages as m
from taskloom.wire import operations as op


def test_a_taskset_is_made_by_its_first_upload_and_keeps_the_order_of_its_rows(lasting_house: House) -> None:
    shelf = Shelf(lasting_house, "team/questions v2")
    full = row(
        "b", args={"n": [1, {"x": None}]}, columns={"level": "hard"}, validation=[{"a": 1}], agent_config={}
    )
    told = shelf.upload(row("c"), full, row("a"), description="What we ask")
    assert (told.created, told.updated, told.removed, told.unchanged) == (3, 0, 0, 0)
    info = shelf.info()
    assert (info.name, info.version, info.rows, info.user, info.description) == (
        *("team/questions v2", 1, 3, "admin"),
        "What we ask",
    )
    page = shelf.page()
    assert (page.total, page.version, page.rows) == (3, 1, [row("c"), full, row("a")])
    assert lasting_house.client.call(op.GET_TASKSET, taskset=info.id) == info  # by id, too


def test_rows_that_are_equal_make_no_version(lasting_house: House) -> None:
    shelf = Shelf(lasting_house)
    rows = [row(f"slug-{n}", args={"n": n}) for n in range(5)]
    shelf.upload(*rows)
    told = shelf.upload(*rows)
    assert (told.unchanged, told.taskset.version) == (5, 1)
    changed = [row("slug-0", args={"n": 0.0}), row("slug-1", args={"n": 1}, columns={}), *rows[2:]]
    told = shelf.upload(*changed)  # 0 and 0.0 differ, and so do {} and nothing
    assert (told.updated, told.unchanged, told.taskset.version) == (2, 3, 2)
    assert shelf.page().rows == changed


def test_every_version_stays_as_it_was(lasting_house: House) -> None:
    shelf = Shelf(lasting_house)
    shelf.upload(*(row(slug) for slug in "abcd"))
    shelf.upload(row("b", env="other"), row("e"), remove=["c", "nobody's"])
    shelf.upload(row("c"), remove=["a"])
    assert shelf.slugs(version=1) == ["a", "b", "c", "d"]
    assert shelf.slugs(version=2) == ["a", "b", "d", "e"]
    assert shelf.slugs(version=3) == shelf.slugs() == ["b", "d", "e", "c"]
    assert [one.env for one in shelf.page(version=2).rows] == ["an-env", "other", "an-env", "an-env"]
    assert [one.env for one in shelf.page(version=1).rows] == ["an-env"] * 4
    versions = lasting_house.client.call(op.LIST_VERSIONS, taskset=shelf.name).versions
    assert [(v.version, v.rows, v.added, v.changed, v.removed) for v in versions] == [
        (3, 4, 1, 0, 1),
        (2, 4, 1, 1, 1),
        (1, 4, 4, 0, 0),
    ]
    with pytest.raises(NotFound, match="no version 4"):
        shelf.page(version=4)


def test_pages_go_through_every_version_in_order(lasting_house: House) -> None:
    shelf = Shelf(lasting_house)
    shelf.upload(*(row(f"s{n:02}") for n in range(20)))
    shelf.upload(row("s05", env="other"), remove=["s00", "s07"])
    for version in (1, 2):
        whole = shelf.slugs(version=version)
        paged = [slug for at in range(0, 20, 6) for slug in shelf.slugs(version=version, offset=at, limit=6)]
        assert paged == whole
    assert shelf.page(limit=1, offset=3).total == 18


def test_parts_of_an_upload_are_one_version(lasting_house: House) -> None:
    shelf = Shelf(lasting_house)
    shelf.upload(row("old"), row("older"))
    first = shelf.upload(row("a"), row("b", args={"n": 1}), expects=1)
    part = first.taskset.version
    shelf.upload(row("b", args={"n": 2}), row("c"), continues=part)
    told = shelf.upload(row("old", env="other"), remove=["a", "older"], continues=part)
    assert told.taskset.version == part == 2
    assert shelf.slugs() == ["old", "b", "c"]
    assert [one.args for one in shelf.page().rows] == [{}, {"n": 2}, {}]
    assert shelf.slugs(version=1) == ["old", "older"]
    assert [one.env for one in shelf.page(version=1).rows] == ["an-env", "an-env"]


def test_what_was_changed_by_somebody_else_is_a_conflict(lasting_house: House) -> None:
    shelf = Shelf(lasting_house)
    with pytest.raises(Conflict, match="is at version 0, not 3"):
        shelf.upload(row("a"), expects=3)
    with pytest.raises(NotFound):
        shelf.info()  # it was not made
    shelf.upload(row("a"), expects=0)
    with pytest.raises(Conflict, match="is at version 1, not 0"):
        shelf.upload(row("a"), expects=0)
    shelf.upload(row("b"))
    with pytest.raises(Conflict, match="somebody changed it"):
        shelf.upload(row("c"), continues=1)
    assert shelf.slugs() == ["a", "b"]


def test_columns_are_facets_of_the_newest_version(lasting_house: House) -> None:
    shelf = Shelf(lasting_house)
    levels: list[Any] = ["hard", "easy", "hard", 3, None, True, ["a", "b"], "x" * 1000]
    shelf.upload(*(row(f"s{n}", columns={"level": level, "part": n // 4}) for n, level in enumerate(levels)))
    shelf.upload(row("plain"))
    facets = {column: {str(f.value): f.rows for f in found} for column, found in shelf.info().facets.items()}
    assert facets == {
        "level": {"hard": 2, "easy": 1, "3": 1, "None": 1, "True": 1, "['a', 'b']": 1},
        "part": {"0": 4, "1": 4},
    }
    assert shelf.slugs(column="level", value='"hard"') == shelf.slugs(column="level", value="hard") == ["s0", "s2"]
    assert shelf.slugs(column="level", value="3") == ["s3"]
    assert shelf.slugs(column="level", value="true") == ["s5"]
    assert shelf.slugs(column="level", value='["a", "b"]') == ["s6"]
    assert shelf.slugs(column="part", value="1", offset=1, limit=2) == ["s5", "s6"]
    shelf.upload(row("s0", columns={"level": "easy"}), remove=["s1", "s2"])
    left = {str(facet.value): facet.rows for facet in shelf.info().facets["level"]}
    assert left == {"easy": 1, "3": 1, "None": 1, "True": 1, "['a', 'b']": 1}
    assert shelf.slugs(version=1, column="level", value="hard") == ["s0", "s2"]


def test_rows_are_found_by_environment_and_slug(lasting_house: House) -> None:
    shelf = Shelf(lasting_house)
    shelf.upload(row("Sum-1", env="sums"), row("sum_2", env="sums"), row("text-1", env="texts"))
    assert shelf.slugs(env="sums") == shelf.slugs(search="SUM") == ["Sum-1", "sum_2"]
    assert shelf.slugs(search="m_2") == ["sum_2"]
    assert shelf.page(env="texts", search="1").total == 1


def test_tasksets_are_listed_by_name_and_deleted(any_house: House) -> None:
    for name in ("beta", "Alpha", "gamma"):
        Shelf(any_house, name).upload(row("a"))

    def names(**query: Any) -> list[str]:
        return [
            one.name for one in any_house.client.call(op.LIST_TASKSETS, query=m.TasksetQuery(**query)).tasksets
        ]

    assert sorted(names()) == ["Alpha", "beta", "gamma"]
    assert names(search="ALPH") == ["Alpha"]
    assert len(names(limit=1, offset=1)) == 1
    any_house.client.call(op.DELETE_TASKSET, taskset="beta")
    assert sorted(names()) == ["Alpha", "gamma"]
    with pytest.raises(NotFound):
        any_house.client.call(op.DELETE_TASKSET, taskset="beta")
    shelf = Shelf(any_house, "beta")
    assert shelf.upload(row("b")).taskset.version == 1  # nothing of the former one is there
    assert shelf.slugs() == ["b"]


def test_uploads_that_meet_are_one_after_the_other(lasting_house: House) -> None:
    """Each adds rows of its own and counts up one that all share."""
    shelves = [Shelf(lasting_house, "shared") for _ in range(6)]

    def upload(n: int) -> None:
        shelves[n].upload(*(row(f"own-{n}-{k}") for k in range(20)), row("common", args={"by": n}))

    shelves[0].upload(row("common"))
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(upload, range(6)))
    info = shelves[0].info()
    assert (info.rows, info.version) == (121, 7)
    assert len(set(shelves[0].slugs())) == 121
    for version in range(2, 8):
        assert len(shelves[0].slugs(version=version)) == 1 + 20 * (version - 1)


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"rows": [row("a"), row("a")]}, "'a' stands there twice"),
    ({"rows": [row("a")], "remove": ["a"]}, "to be uploaded and to be removed"),
    ({"rows": [row("")]}, "slug is empty"),
    ({"rows": [EvalRow(slug="a", env="", id="x")]}, "row 'a': env is empty"),
    ({"rows": [EvalRow(slug="a", env="e", id="")]}, "row 'a': id is empty"),
    ({"rows": [row("s" * 501)]}, "at most 500"),
    ({"rows": [row("line\nbreak")]}, "control character"),
    ({"rows": [row("a", columns={"c" * 300: 1})]}, "column's name"),
    ({"rows": [row("a", args={"text": "x" * 2**20})]}, "row 'a' has"),
    ({"remove": [str(n) for n in range(MAX_UPLOAD + 1)]}, "at most 20000"),
    ({"continues": -1}, "expected a version"),
    ({"description": "d" * 100_000}, "description"),
]


def test_an_upload_that_says_nonsense_changes_nothing(lasting_house: House) -> None:
    shelf = Shelf(lasting_house)
    for upload, expected in NONSENSE:
        with pytest.raises(TaskloomError, match=expected) as refused:
            lasting_house.client.call(op.UPLOAD_TASKSET, m.TasksetUpload(**upload), taskset=shelf.name)
        assert refused.value.http_status in {400, 413}
    with pytest.raises(NotFound):
        shelf.info()


def test_names_that_are_none_are_refused(lasting_house: House) -> None:
    for name in ("n" * 300, "   "):
        with pytest.raises(BadInput):
            Shelf(lasting_house, name).upload(row("a"))
    with pytest.raises(NotFound):
        Shelf(lasting_house, "0" * 32).upload(row("a"))  # an id, which nothing has
    with pytest.raises(BadInput, match="value without a column"):
        Shelf(lasting_house, "x").page(value="1")
