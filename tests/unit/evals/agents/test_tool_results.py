"""What becomes of a tool's name and of its result, without any server. Against real servers: tests/evals."""

from __future__ import annotations

from typing import Any

from taskloom.evals.agents.tools import Tool, Toolbox
from taskloom.evals.agents.tools.shell import Kept
from taskloom.evals.agents.tools.tool import MAX_BLOCKS, MAX_IMAGE, MAX_TEXT, bound, cut_middle


def test_tools_of_one_name_are_told_apart_by_their_capability() -> None:
    async def call(_: dict[str, Any]) -> Any:
        raise AssertionError

    def tool(name: str, capability: str) -> Tool:
        return Tool(name, "", {}, capability, call)

    tools = [
        tool("run", "one"),
        tool("run", "two"),
        tool("run", "two"),
        tool("a.b/c", "one"),
        tool("x" * 80, "one"),
    ]
    assert [form.name for form in Toolbox(tools).forms] == ["one_run", "two_run", "two_run_2", "a_b_c", "x" * 64]


def test_a_tools_form_has_properties_even_where_its_schema_has_none() -> None:
    async def call(_: dict[str, Any]) -> Any:
        raise AssertionError

    (form,) = Toolbox([Tool("now", "Tells the time", {"additionalProperties": False}, "one", call)]).forms
    assert form.schema == {"type": "object", "properties": {}, "additionalProperties": False}


def test_results_are_bounded_and_say_what_is_missing() -> None:
    assert cut_middle("abcdef", 4) == "ab\n[2 characters were cut out here]\nef"
    blocks = [{"type": "image", "data": "x" * (MAX_IMAGE + 1), "mimeType": "image/png"}]
    assert bound(blocks).content[0]["text"] == f"[image/png of {MAX_IMAGE + 1} characters was left out: too large]"
    many = bound([{"type": "text", "text": "a"}] * (MAX_BLOCKS + 5))
    assert many.content[-1]["text"] == "[5 more blocks were left out]"
    assert len(many.content) == MAX_BLOCKS + 1
    long = bound([{"type": "text", "text": "a" * MAX_TEXT}, {"type": "text", "text": "b" * 100}])
    assert "b" not in long.content[1]["text"].replace("[100 characters", "")


def test_a_stream_is_kept_at_both_ends() -> None:
    kept = Kept(8)
    for piece in (b"abc", b"defgh", b"ijklmnop"):
        kept.add(piece)
    assert kept.text() == "abcd\n[8 bytes were cut out here]\nmnop"
    whole = Kept(8)
    whole.add(b"abcdefgh")
    assert whole.text() == "abcdefgh"
