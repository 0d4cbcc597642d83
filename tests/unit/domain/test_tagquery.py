"""The tag language, with the examples of seed 003 as they stand there."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.errors import BadInput
from taskloom.domain.tagquery import parse_tags

ALL_SETS = [set(s) for n in range(5) for s in itertools.combinations("abcd", n)]

SEED_EXAMPLES = [
    (["a", "b", "c"], lambda t: bool(t & {"a", "b", "c"})),
    (["__$and", "a", "b", "c"], lambda t: {"a", "b", "c"} <= t),
    (["__$not", "a", "b", "__$not", "c"], lambda t: "a" not in t and "b" in t and "c" not in t),
    (["-a", "b", "-c"], lambda t: "a" not in t and "b" in t and "c" not in t),
    (["a", "b", "__$and", "c", "d"], lambda t: "a" in t or "b" in t or {"c", "d"} <= t),
    (["__$and", "__$or", "a", "b", "__$and", "c", "d"], lambda t: bool(t & {"a", "b"}) and {"c", "d"} <= t),
    (["included_tag", "-excluded_tag"], lambda t: "included_tag" in t and "excluded_tag" not in t),
    (["-archived"], lambda t: "archived" not in t),
]


@pytest.mark.parametrize(
    ("query", "meaning"), SEED_EXAMPLES, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_the_seeds_examples_read_as_the_seed_says(query, meaning) -> None:
    parsed = parse_tags(query)
    sets = [*ALL_SETS, {"included_tag"}, {"included_tag", "excluded_tag"}, {"archived"}, {"a", "archived"}]
    for tags in sets:
        assert parsed.matches(tags) is meaning(tags), (query, tags)


def test_a_tag_that_begins_with_a_dash_is_excluded_by_the_word_not() -> None:
    parsed = parse_tags(["__$not", "-odd"])
    assert not parsed.matches({"-odd"})
    assert parsed.matches({"odd"})


@pytest.mark.parametrize("query", [["a", "__$not"], ["__$not", "__$and", "a"], [""], ["-"]])
def test_a_query_that_says_nothing_is_refused(query: list[str]) -> None:
    with pytest.raises(BadInput, match="tag"):
        parse_tags(query)


@given(st.lists(st.sampled_from("abcd"), max_size=5))
def test_without_operators_any_tag_is_enough(query: list[str]) -> None:
    parsed = parse_tags(query)
    for tags in ALL_SETS:
        assert parsed.matches(tags) is (not query or bool(tags & set(query)))
