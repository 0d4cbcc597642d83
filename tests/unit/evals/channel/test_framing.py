"""Lines out of bytes, frames out of lines."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.evals.channel import framing
from taskloom.evals.channel.framing import LineBuffer, NotAFrame, read_reply, read_request, request_frame
from taskloom.evals.encoding import encode


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_lines_are_the_same_however_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    buffer = LineBuffer()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines = [line for begin, end in pairwise(places) for line in buffer.feed(data[begin:end])]
    assert [*lines, buffer.rest()] == data.split(b"\n")


def test_a_line_of_exactly_the_limit_passes_and_one_more_byte_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_FRAME", 10)
    for sent in (b"x" * 10 + b"\n", b"x" * 5):
        buffer = LineBuffer()
        assert buffer.feed(sent) == ([sent[:-1]] if sent.endswith(b"\n") else [])
        assert not buffer.overflowed
    for pieces in ([b"x" * 11 + b"\n"], [b"x" * 11], [b"x" * 6, b"x" * 5], [b"{}\n" + b"x" * 11]):
        buffer = LineBuffer()
        lines = [line for piece in pieces for line in buffer.feed(piece)]
        assert buffer.overflowed
        assert lines == ([b"{}"] if pieces[0].startswith(b"{}") else [])
        assert buffer.feed(b"{}\n") == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=20, deadline=None)
@given(json_values)
def test_what_python_can_write_as_json_comes_out_as_it_went_in(value: object) -> None:
    frame = request_frame(1, "m", {"value": value})
    assert frame.count(b"\n") == 1
    assert read_request(frame[:-1]).params == {"value": value}
    assert read_request(json.dumps({"params": value}).encode()).params == value


def test_nan_and_halves_of_surrogate_pairs_are_understood_because_pythons_clients_send_them() -> None:
    assert str(read_request(b'{"id":1,"params":{"answer":NaN}}').params["answer"]) == "nan"
    assert read_reply(b'{"id":1,"result":{"prompt":"\\ud800"}}').result == {"prompt": "\ud800"}
    assert json.loads(encode({"prompt": "\ud800"})) == {"prompt": "\ud800"}


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"null", b"7", b'"x"', b"{", b"\xff\xfe", b"HTTP/1.1 200 OK", b"[" * 10**5, b'{"a":' * 10**5],
)
def test_a_line_without_an_object_is_no_frame(line: bytes) -> None:
    for read in (read_request, read_reply):
        with pytest.raises(NotAFrame):
            read(line)


def test_what_is_no_json_is_named_by_its_type() -> None:
    with pytest.raises(TypeError, match="object is no JSON"):
        encode({"answer": object()})
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="nested too deeply"):
        encode(endless)
