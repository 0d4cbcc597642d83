"""Parameters keep the type they had in the script, through text and back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import Parameter, cast_like, decode, encode, number, split_name

plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
json_values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(json_values)
def test_a_value_comes_back_equal_and_of_the_same_type(value: object) -> None:
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)


@given(st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.integers())))
def test_text_is_cast_to_the_scripts_own_type(value: object) -> None:
    assert cast_like(encode(value).value, value) == value


def test_nan_survives() -> None:
    assert math.isnan(decode(encode(float("nan"))))


@pytest.mark.parametrize(
    ("text", "original", "expected"),
    [
        ("0.5", 1, 0.5),
        ("3", 0.1, 3.0),
        ("1e-4", 0.1, 1e-4),
        ("true", False, True),
        ("No", True, False),
        ("None", None, None),
        ("12", None, 12),
        ("[1, 2]", (0,), (1, 2)),
        ("('a', 'b')", ("x",), ("a", "b")),
        ("{'a': 1}", {"b": 2}, {"a": 1}),
        ("words", "x", "words"),
    ],
)
def test_edited_text_is_read_as_its_author_meant(text: str, original: object, expected: object) -> None:
    result = cast_like(text, original)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("text", "original"), [("fast", 1), ("fast", 0.1), ("maybe", True), ("1", [1]), ("[1", [1])]
)
def test_text_of_another_type_is_refused_by_name(text: str, original: object) -> None:
    with pytest.raises(BadInput, match="expected"):
        cast_like(text, original)


def test_a_name_without_a_section_belongs_to_general() -> None:
    assert split_name("lr") == ("General", "lr")
    assert split_name("Args/a/b") == ("Args", "a/b")
    for bad in ("/x", "x/", ""):
        with pytest.raises(BadInput):
            split_name(bad)


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (Parameter("1e-3", "float"), 1e-3),
        (Parameter("7", "str"), 7.0),
        (Parameter("True", "bool"), 1.0),
        (Parameter("x", "str"), None),
        (Parameter("", "none"), None),
        (Parameter("[1]", "list"), None),
    ],
)
def test_numbers_for_filters(parameter: Parameter, expected: float | None) -> None:
    assert number(parameter) == expected
