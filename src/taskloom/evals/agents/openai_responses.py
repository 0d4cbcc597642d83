"""OpenAI's responses: the model's output is a list of items, which go back as they came, its reasoning included."""

from __future__ import annotations

from typing import Any, Unpack

from taskloom.domain.evaluation import Usage
from taskloom.evals.agents.conversation import (
    NAMELESS,
    Answered,
    Block,
    Image,
    Item,
    ModelAnswer,
    ProposedCall,
    Returned,
    Said,
    Text,
    join_texts,
    read_arguments,
    read_result,
)
from taskloom.evals.agents.loop import ModelAgent, Options
from taskloom.evals.agents.protocol import Ask, UnreadableAnswer, put
from taskloom.evals.agents.reading import as_count, as_list, as_object, as_text


class ResponsesProtocol:
    name = "openai-responses"
    default_url = "https://api.openai.com/v1"
    url_variables: tuple[str, ...] = ("OPENAI_BASE_URL",)
    key_variables: tuple[str, ...] = ("OPENAI_API_KEY",)

    def path(self, model: str) -> str:
        return "/responses"

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        stored = ask.extra.get("store", True) is not False
        items = [entry for item in ask.history for entry in _write_item(item, stored=stored)]
        body: dict[str, Any] = {"model": ask.model, "input": items}
        put(body, temperature=ask.temperature, max_output_tokens=ask.max_tokens, instructions=ask.system or None)
        if ask.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.schema,
                    "strict": False,
                }
                for tool in ask.tools
            ]
        return body | dict(ask.extra)

    def read(self, answer: dict[str, Any]) -> ModelAnswer:
        if answer.get("status") == "failed":
            raise UnreadableAnswer(as_text(as_object(answer.get("error")).get("message")) or "the response failed")
        output = [as_object(one) for one in as_list(answer.get("output"))]
        why = as_text(as_object(answer.get("incomplete_details")).get("reason"))
        if not output and not why:
            raise UnreadableAnswer("the answer has no output")
        parts = [as_object(part) for item in output for part in as_list(item.get("content"))]
        calls = [item for item in output if item.get("type") == "function_call"]
        refusal = "".join(as_text(part.get("refusal")) for part in parts if part.get("type") == "refusal")
        return ModelAnswer(
            content="".join(as_text(part.get("text")) for part in parts if part.get("type") == "output_text"),
            reasoning="\n".join(_reasoning(item) for item in output if item.get("type") == "reasoning"),
            calls=tuple(_read_call(item) for item in calls),
            usage=_read_usage(as_object(answer.get("usage"))),
            finish_reason=why or as_text(answer.get("status")),
            cut=why == "max_output_tokens",
            refusal=refusal or ("content_filter" if why == "content_filter" else ""),
            model=as_text(answer.get("model")),
            kept=output,
        )


class OpenAIResponsesAgent(ModelAgent):
    """A model behind OpenAI's responses. As `ModelAgent`; key: `OPENAI_API_KEY`, address: `OPENAI_BASE_URL`.

    With `extra={"store": False}` reasoning goes back only where `include` asked for its encrypted content.
    """

    type = "openai-responses"

    def __init__(self, model: str, **options: Unpack[Options]) -> None:
        super().__init__(model, ResponsesProtocol(), **options)


def _write_item(item: Item, *, stored: bool) -> list[dict[str, Any]]:
    match item:
        case Said(role="assistant"):
            return [{"role": "assistant", "content": [{"type": "output_text", "text": item.text}]}]
        case Said(blocks=blocks):
            return [{"role": "user", "content": _write_blocks(blocks)}]
        case Answered(answer=answer):
            return [entry for one in as_list(answer.kept) for entry in _write_kept(as_object(one), stored=stored)]
        case Returned(results=results):
            return [
                {"type": "function_call_output", "call_id": call.id, "output": _write_output(read_result(result))}
                for call, result in results
            ]


def _write_kept(item: dict[str, Any], *, stored: bool) -> list[dict[str, Any]]:
    """What the server does not store it cannot find by an id."""
    if stored:
        return [item]
    if item.get("type") == "reasoning" and not item.get("encrypted_content"):
        return []
    return [{name: value for name, value in item.items() if name != "id"}]


def _write_output(blocks: list[Block]) -> str | list[dict[str, Any]]:
    if any(isinstance(block, Image) for block in blocks):
        return _write_blocks(tuple(blocks))
    return join_texts(blocks)


def _write_blocks(blocks: tuple[Block, ...]) -> list[dict[str, Any]]:
    return [
        {"type": "input_text", "text": block.text}
        if isinstance(block, Text)
        else {"type": "input_image", "image_url": block.address}
        for block in blocks
    ]


def _read_call(item: dict[str, Any]) -> ProposedCall:
    arguments, problem, written = read_arguments(item.get("arguments"))
    name = as_text(item.get("name"))
    problem = problem or ("" if name else NAMELESS)
    return ProposedCall(as_text(item.get("call_id")), name, arguments, problem, written)


def _reasoning(item: dict[str, Any]) -> str:
    parts = as_list(item.get("summary")) + as_list(item.get("content"))
    return "\n".join(as_text(as_object(part).get("text")) for part in parts)


def _read_usage(usage: dict[str, Any]) -> Usage:
    return Usage(
        prompt_tokens=as_count(usage.get("input_tokens")),
        completion_tokens=as_count(usage.get("output_tokens")),
        cached_tokens=as_count(as_object(usage.get("input_tokens_details")).get("cached_tokens")),
    )
