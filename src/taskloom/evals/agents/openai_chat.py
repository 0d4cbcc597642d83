"""OpenAI's chat completions, and every server that speaks them: vLLM, ollama, llama.cpp, gateways."""

from __future__ import annotations

import json
from typing import Any, Unpack

from taskloom.domain.evaluation import TokenSample, Usage
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

ID_PREFIX = "token_id:"  # how some servers write a token's id into its text


class ChatProtocol:
    """samples: ask for log probabilities and, on compatible servers, for token ids."""

    name = "openai"
    default_url = "https://api.openai.com/v1"
    url_variables: tuple[str, ...] = ("OPENAI_BASE_URL",)
    key_variables: tuple[str, ...] = ("OPENAI_API_KEY",)

    def __init__(self, *, samples: bool = False) -> None:
        self.samples = samples

    def path(self, model: str) -> str:
        return "/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        messages: list[dict[str, Any]] = [{"role": "system", "content": ask.system}] if ask.system else []
        for item in ask.history:
            messages += _write_item(item)
        body = put({"model": ask.model, "messages": messages}, temperature=ask.temperature)
        # OpenAI's own newer models refuse the old name; compatible servers may know that one only.
        put(body, **{"max_completion_tokens" if ask.official else "max_tokens": ask.max_tokens})
        if ask.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
                }
                for tool in ask.tools
            ]
        if self.samples:
            body["logprobs"] = True
            if not ask.official:
                body["return_token_ids"] = True
        return body | dict(ask.extra)

    def read(self, answer: dict[str, Any]) -> ModelAnswer:
        choices = as_list(answer.get("choices"))
        if not choices:
            raise UnreadableAnswer("the answer has no choices")
        choice = as_object(choices[0])
        message = as_object(choice.get("message"))
        calls = tuple(_read_call(as_object(one)) for one in as_list(message.get("tool_calls")))
        content = message.get("content")
        finish = as_text(choice.get("finish_reason"))
        return ModelAnswer(
            content=as_text(content) or "".join(as_text(as_object(part).get("text")) for part in as_list(content)),
            reasoning=as_text(message.get("reasoning_content")) or as_text(message.get("reasoning")),
            calls=calls,
            usage=_read_usage(as_object(answer.get("usage"))),
            finish_reason=finish,
            cut=finish == "length",
            refusal=as_text(message.get("refusal")) or ("content_filter" if finish == "content_filter" else ""),
            sample=_read_sample(answer, choice),
            model=as_text(answer.get("model")),
        )


class OpenAIAgent(ModelAgent):
    """A model behind chat completions. samples: keep token ids and log probabilities, for training.

    Otherwise as `ModelAgent`. Key: `OPENAI_API_KEY`; another `base_url` (`OPENAI_BASE_URL`) needs none.
    """

    type = "openai"

    def __init__(self, model: str, *, samples: bool = False, **options: Unpack[Options]) -> None:
        super().__init__(model, ChatProtocol(samples=samples), **options)
        self.samples = samples

    def _own_config(self) -> dict[str, Any]:
        return {"samples": True} if self.samples else {}


def _write_item(item: Item) -> list[dict[str, Any]]:
    match item:
        case Said(role="assistant"):
            return [{"role": "assistant", "content": item.text}]
        case Said(blocks=blocks):
            return [{"role": "user", "content": _write_blocks(blocks)}]
        case Answered(answer=answer):
            message: dict[str, Any] = {"role": "assistant", "content": answer.content or None}
            if answer.calls:
                message["tool_calls"] = [_write_call(call) for call in answer.calls]
            else:
                message["content"] = answer.content
            return [message]
        case Returned(results=results):
            written: list[dict[str, Any]] = []
            images: list[Block] = []
            for call, result in results:
                blocks = read_result(result)
                text = join_texts(blocks)
                pictures = [block for block in blocks if isinstance(block, Image)]
                if pictures:  # a tool's message holds text alone: its images follow as the user's
                    text = f"{text}\n[{len(pictures)} image(s) follow]".strip()
                    images += [Text(f"Images from the call {call.id} of {call.name}:"), *pictures]
                written.append({"role": "tool", "tool_call_id": call.id, "content": text})
            return written + ([{"role": "user", "content": _write_blocks(tuple(images))}] if images else [])


def _write_blocks(blocks: tuple[Block, ...]) -> str | list[dict[str, Any]]:
    if all(isinstance(block, Text) for block in blocks):
        return join_texts(blocks)
    return [
        {"type": "text", "text": block.text}
        if isinstance(block, Text)
        else {"type": "image_url", "image_url": {"url": block.address}}
        for block in blocks
    ]


def _write_call(call: ProposedCall) -> dict[str, Any]:
    """Arguments that were no JSON go back as an empty object: servers whose templates parse them would refuse."""
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
    }


def _read_call(entry: dict[str, Any]) -> ProposedCall:
    function = as_object(entry.get("function"))
    arguments, problem, written = read_arguments(function.get("arguments"))
    name = as_text(function.get("name"))
    return ProposedCall(as_text(entry.get("id")), name, arguments, problem or ("" if name else NAMELESS), written)


def _read_usage(usage: dict[str, Any]) -> Usage:
    cost = usage.get("cost")
    return Usage(
        prompt_tokens=as_count(usage.get("prompt_tokens")),
        completion_tokens=as_count(usage.get("completion_tokens")),
        cached_tokens=as_count(as_object(usage.get("prompt_tokens_details")).get("cached_tokens")),
        cost_usd=float(cost) if isinstance(cost, int | float) and cost > 0 else 0.0,
    )


def _read_sample(answer: dict[str, Any], choice: dict[str, Any]) -> TokenSample | None:
    """Ids and log probabilities; None unless both are there, one for each token."""
    entries = [as_object(one) for one in as_list(as_object(choice.get("logprobs")).get("content"))]
    probabilities = [one.get("logprob") for one in entries]
    ids: list[Any] = as_list(choice.get("token_ids")) or [_id_in(one.get("token")) for one in entries]
    prompt = as_list(answer.get("prompt_token_ids")) or as_list(choice.get("prompt_token_ids"))
    whole = ids and len(ids) == len(probabilities) and all(isinstance(one, int) for one in [*ids, *prompt])
    if not whole or not all(isinstance(one, int | float) for one in probabilities):
        return None
    return TokenSample(tuple(prompt), tuple(ids), tuple(float(one or 0.0) for one in probabilities))


def _id_in(token: Any) -> int | None:
    digits = as_text(token).removeprefix(ID_PREFIX)
    return int(digits) if as_text(token).startswith(ID_PREFIX) and digits.isdigit() else None
