"""A tool: a name, a form for its arguments, and what it does. Results are bounded, and say what was cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from taskloom.domain.evaluation import ToolResult

MAX_TEXT = 64 * 1024  # characters of one result
MAX_IMAGE = 8 * 2**20  # base64 characters of one image
MAX_BLOCKS = 64  # of one result


@dataclass(frozen=True)
class Tool:
    """capability: the name of what offers it. call: its own failures are results; it raises what ends the run."""

    name: str
    description: str
    schema: dict[str, Any]
    capability: str
    call: Callable[[dict[str, Any]], Awaitable[ToolResult]]


class WrongArguments(ValueError):
    """The model's arguments are not what the tool takes; told to it."""


def tell(text: str, *, is_error: bool = False) -> ToolResult:
    return ToolResult(({"type": "text", "text": cut_middle(text, MAX_TEXT)},), is_error=is_error)


def bound(blocks: Sequence[dict[str, Any]], *, is_error: bool = False) -> ToolResult:
    """A result of those blocks, as far as a model can be shown them."""
    kept: list[dict[str, Any]] = []
    left = MAX_TEXT
    for number, block in enumerate(blocks):
        if number == MAX_BLOCKS:
            kept.append({"type": "text", "text": f"[{len(blocks) - number} more blocks were left out]"})
            break
        data = block.get("data")
        text = block.get("text")
        if isinstance(data, str) and len(data) > MAX_IMAGE:
            kind = block.get("mimeType") or block.get("type")
            kept.append({"type": "text", "text": f"[{kind} of {len(data)} characters was left out: too large]"})
        elif isinstance(text, str):
            kept.append(block | {"text": cut_middle(text, left)})
            left = max(0, left - len(text))
        else:
            kept.append(block)
    return ToolResult(tuple(kept), is_error)


def cut_middle(text: str, most: int) -> str:
    """Its beginning and its end, and how much is missing between them."""
    if len(text) <= most:
        return text
    half = most // 2
    tail = text[len(text) - half :] if half else ""
    return f"{text[:half]}\n[{len(text) - 2 * half} characters were cut out here]\n{tail}"


def text_of(arguments: dict[str, Any], name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise WrongArguments(f"{name}: expected a text, got {value!r:.80}")
    return value


def count_of(arguments: dict[str, Any], name: str, default: int, most: int) -> int:
    """A whole number from 0 to `most`."""
    value: Any = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise WrongArguments(f"{name}: expected a number from 0 on, got {value!r:.80}")
    return min(int(value), most)
