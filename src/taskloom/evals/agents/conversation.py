"""What was said between an agent and its model, in no provider's words: the loop keeps it, protocols translate it.

Contents come as MCP's blocks, in prompts and in tool results; here they are texts and images, what every provider takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from taskloom.domain.evaluation import TokenSample, ToolResult, Usage
from taskloom.evals.agents.reading import as_object, as_text
from taskloom.evals.failures import AgentFailure

NAMELESS = "the call names no tool"
MADE = "made-"  # begins the ids of calls that came without one: the loop numbers them, providers do not know them


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """Either base64 `data` or a `url`."""

    mime: str = ""
    data: str = ""
    url: str = ""

    @property
    def address(self) -> str:
        return self.url or f"data:{self.mime};base64,{self.data}"


Block = Text | Image


@dataclass(frozen=True, slots=True)
class ProposedCall:
    """A tool call as the model wrote it; `id` may be empty. problem: why it cannot be done; `written`: its arguments
    as they came, when those are at fault."""

    id: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    problem: str = ""
    written: str = ""


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """One answer of a model.

    finish_reason  the provider's own word; `cut`: it ended at a limit of length
    problem        it tried to call a tool and did not manage to, so that there is no call to answer
    usage          without a cost, but for one that the server tells; `cache_written`: tokens of the prompt that were
                   put into the provider's cache, which some charge for
    kept           its message in the provider's own form, sent back as it came
    """

    content: str = ""
    reasoning: str = ""
    calls: tuple[ProposedCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    cache_written: int = 0
    finish_reason: str = ""
    cut: bool = False
    refusal: str = ""
    problem: str = ""
    sample: TokenSample | None = None
    model: str = ""
    kept: Any = None


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the prompt, or of the loop itself."""

    role: Literal["user", "assistant"]
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        return join_texts(self.blocks)


@dataclass(frozen=True, slots=True)
class Answered:
    answer: ModelAnswer


@dataclass(frozen=True, slots=True)
class Returned:
    """What the calls of the answer before gave, in their order."""

    results: tuple[tuple[ProposedCall, ToolResult], ...]


Item = Said | Answered | Returned


def read_prompt(messages: Sequence[dict[str, Any]]) -> tuple[str, list[Item]]:
    """The system's text and the messages of a prompt; AgentFailure for roles and contents that models do not take."""
    system: list[str] = []
    items: list[Item] = []
    for message in messages:
        if not isinstance(message, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - an environment's own words
            raise AgentFailure(
                f"a message of the prompt is {message!r:.80}: expected an object with role and content"
            )
        role = message.get("role", "user")
        blocks = tuple(read_blocks(message.get("content")))
        if role in {"system", "developer"}:
            system.append(join_texts(blocks))
        elif role in {"user", "assistant"}:
            items.append(Said(role, blocks))
        else:
            raise AgentFailure(
                f"a message of the prompt has the role {role!r:.40}: expected user, assistant or system"
            )
    return "\n\n".join(system), items


def read_blocks(content: Any) -> list[Block]:
    """A message's content: a text, a block, or a list of them."""
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    if isinstance(content, list | tuple):
        return [block for one in cast("list[Any]", content) for block in read_blocks(one)]
    block = as_object(content)
    match block.get("type", "text" if "text" in block else ""):
        case "text" | "input_text" | "output_text":
            return [Text(str(block.get("text", "")))]
        case "image" if block.get("data"):
            return [Image(as_text(block.get("mimeType")) or "image/png", str(block["data"]))]
        case "image_url" | "input_image":
            place = block.get("image_url")
            return [_image_at(as_text(place) or as_text(as_object(place).get("url")))]
        case "resource":
            return [_read_resource(as_object(block.get("resource")))]
        case "resource_link":
            return [Text(f"{as_text(block.get('name'))} <{as_text(block.get('uri'))}>")]
        case kind:
            raise AgentFailure(f"a content block of the type {kind!r:.40} cannot be shown to a model")


def read_result(result: ToolResult) -> list[Block]:
    """The same of a tool's result, where an unknown block is told instead."""
    blocks: list[Block] = []
    for block in result.content:
        try:
            blocks += read_blocks(block)
        except AgentFailure as failure:
            blocks.append(Text(f"[left out: {failure}]"))
    return blocks or [Text("[no output]")]


def join_texts(blocks: Iterable[Block]) -> str:
    return "\n".join(block.text for block in blocks if isinstance(block, Text))


def read_arguments(written: Any) -> tuple[dict[str, Any], str, str]:
    """A call's arguments from JSON text: the object, or what is wrong with it and what was written."""
    if isinstance(written, dict):
        return cast("dict[str, Any]", written), "", ""
    text = as_text(written)
    if not text.strip():
        return {}, "", ""
    try:
        value = json.loads(text)
    except ValueError as error:
        return {}, f"the arguments are no JSON: {error}", text
    if not isinstance(value, dict):
        return {}, f"the arguments are {type(value).__name__}: expected a JSON object", text
    return cast("dict[str, Any]", value), "", ""


def _image_at(url: str) -> Image:
    head, comma, data = url.partition(",")
    if url.startswith("data:") and comma and head.endswith(";base64"):
        return Image(head.removeprefix("data:").removesuffix(";base64") or "image/png", data)
    return Image(url=url)


def _read_resource(resource: dict[str, Any]) -> Block:
    mime = as_text(resource.get("mimeType"))
    if "text" in resource:
        return Text(str(resource["text"]))
    if mime.startswith("image/") and resource.get("blob"):
        return Image(mime, str(resource["blob"]))
    return Text(f"[{mime or 'binary'} resource {as_text(resource.get('uri'))}]")
