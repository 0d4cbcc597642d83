"""Anthropic's messages. Thinking goes back as it came, with its signature; cache tokens count as part of the prompt."""

from __future__ import annotations

from typing import Any, Unpack

from taskloom.domain.evaluation import Usage
from taskloom.evals.agents.conversation import (
    NAMELESS,
    Answered,
    Block,
    Item,
    ModelAnswer,
    ProposedCall,
    Returned,
    Said,
    Text,
    read_arguments,
    read_result,
)
from taskloom.evals.agents.loop import ModelAgent, Options
from taskloom.evals.agents.protocol import Ask, UnreadableAnswer, put
from taskloom.evals.agents.reading import as_count, as_list, as_object, as_text

VERSION = "2023-06-01"
MAX_TOKENS = 8192  # of one answer, where the agent says nothing: the provider wants a number
CUT = {"max_tokens", "model_context_window_exceeded"}


class MessagesProtocol:
    """prompt_cache: mark the conversation's end, so that the next call finds what stands before it in the cache."""

    name = "anthropic"
    default_url = "https://api.anthropic.com"
    url_variables: tuple[str, ...] = ("ANTHROPIC_BASE_URL",)
    key_variables: tuple[str, ...] = ("ANTHROPIC_API_KEY",)

    def __init__(self, *, prompt_cache: bool = False) -> None:
        self.prompt_cache = prompt_cache

    def path(self, model: str) -> str:
        return "/v1/messages"

    def headers(self, key: str) -> dict[str, str]:
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    def body(self, ask: Ask) -> dict[str, Any]:
        messages = [_write_item(item) for item in ask.history]
        if self.prompt_cache and messages and messages[-1]["content"]:
            messages[-1]["content"][-1] = messages[-1]["content"][-1] | {"cache_control": {"type": "ephemeral"}}
        body: dict[str, Any] = {
            "model": ask.model,
            "max_tokens": ask.max_tokens or MAX_TOKENS,
            "messages": messages,
        }
        put(body, temperature=ask.temperature, system=ask.system or None)
        if ask.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
                for tool in ask.tools
            ]
        return body | dict(ask.extra)

    def read(self, answer: dict[str, Any]) -> ModelAnswer:
        if not isinstance(answer.get("content"), list):
            raise UnreadableAnswer("the answer has no content")
        blocks = [as_object(one) for one in as_list(answer.get("content"))]
        usage = as_object(answer.get("usage"))
        finish = as_text(answer.get("stop_reason"))
        content = "".join(as_text(block.get("text")) for block in blocks if block.get("type") == "text")
        refused = finish == "refusal"
        return ModelAnswer(
            content=content,
            reasoning="\n".join(as_text(one.get("thinking")) for one in blocks if one.get("type") == "thinking"),
            calls=tuple(_read_call(one) for one in blocks if one.get("type") == "tool_use"),
            usage=_read_usage(usage),
            cache_written=as_count(usage.get("cache_creation_input_tokens")),
            finish_reason=finish,
            cut=finish in CUT,
            refusal=(content or "refusal") if refused else "",
            model=as_text(answer.get("model")),
            kept=blocks,
        )


class AnthropicAgent(ModelAgent):
    """A model behind Anthropic's messages. As `ModelAgent`; key: `ANTHROPIC_API_KEY`, address: `ANTHROPIC_BASE_URL`.

    prompt_cache: use the provider's cache of prompts, worth it for runs of many steps. Thinking is asked for with
    `extra={"thinking": {"type": "enabled", "budget_tokens": 4096}}`.
    """

    type = "anthropic"

    def __init__(self, model: str, *, prompt_cache: bool = False, **options: Unpack[Options]) -> None:
        super().__init__(model, MessagesProtocol(prompt_cache=prompt_cache), **options)
        self.prompt_cache = prompt_cache

    def _own_config(self) -> dict[str, Any]:
        return {"prompt_cache": True} if self.prompt_cache else {}


def _write_item(item: Item) -> dict[str, Any]:
    match item:
        case Said(role=role, blocks=blocks):
            return {"role": role, "content": [_write_block(block) for block in blocks]}
        case Answered(answer=answer):
            return {"role": "assistant", "content": [_write_kept(as_object(one)) for one in as_list(answer.kept)]}
        case Returned(results=results):
            return {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": call.id,
                        "content": [_write_block(block) for block in read_result(result)],
                        "is_error": result.is_error,
                    }
                    for call, result in results
                ],
            }


def _write_kept(block: dict[str, Any]) -> dict[str, Any]:
    """A call goes back with an object, whatever was written."""
    if block.get("type") == "tool_use" and not isinstance(block.get("input"), dict):
        return block | {"input": {}}
    return block


def _write_block(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text", "text": block.text or " "}  # an empty text is refused
    if block.url:
        return {"type": "image", "source": {"type": "url", "url": block.url}}
    return {"type": "image", "source": {"type": "base64", "media_type": block.mime, "data": block.data}}


def _read_call(block: dict[str, Any]) -> ProposedCall:
    arguments, problem, written = read_arguments(block.get("input"))
    name = as_text(block.get("name"))
    problem = problem or ("" if name else NAMELESS)
    return ProposedCall(as_text(block.get("id")), name, arguments, problem, written)


def _read_usage(usage: dict[str, Any]) -> Usage:
    cached = as_count(usage.get("cache_read_input_tokens"))
    written = as_count(usage.get("cache_creation_input_tokens"))
    return Usage(
        prompt_tokens=as_count(usage.get("input_tokens")) + cached + written,
        completion_tokens=as_count(usage.get("output_tokens")),
        cached_tokens=cached,
    )
