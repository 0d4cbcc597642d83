"""Google's generateContent. Parts go back as they came, because thoughts are signed; calls may have no ids."""

from __future__ import annotations

from typing import Any, Unpack
from urllib.parse import quote

from taskloom.domain.evaluation import Usage
from taskloom.evals.agents.conversation import (
    MADE,
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

MALFORMED = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"}
REFUSED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"}


class GenerateProtocol:
    name = "gemini"
    default_url = "https://generativelanguage.googleapis.com"
    url_variables: tuple[str, ...] = ("GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL")
    key_variables: tuple[str, ...] = ("GEMINI_API_KEY", "GOOGLE_API_KEY")

    def path(self, model: str) -> str:
        return f"/v1beta/models/{quote(model.removeprefix('models/'), safe='')}:generateContent"

    def headers(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {"contents": [_write_item(item) for item in ask.history]}
        if ask.system:
            body["systemInstruction"] = {"parts": [{"text": ask.system}]}
        if ask.tools:
            declared = [
                {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.schema}
                for tool in ask.tools
            ]
            body["tools"] = [{"functionDeclarations": declared}]
        settings = put({}, temperature=ask.temperature, maxOutputTokens=ask.max_tokens)
        extra = dict(ask.extra)
        settings |= as_object(extra.pop("generationConfig", None))
        return put(body, generationConfig=settings or None) | extra

    def read(self, answer: dict[str, Any]) -> ModelAnswer:
        usage, model = _read_usage(as_object(answer.get("usageMetadata"))), as_text(answer.get("modelVersion"))
        candidates = as_list(answer.get("candidates"))
        if not candidates:
            blocked = as_text(as_object(answer.get("promptFeedback")).get("blockReason"))
            if not blocked:
                raise UnreadableAnswer("the answer has no candidates")
            return ModelAnswer(refusal=f"the prompt was blocked: {blocked}", usage=usage, model=model)
        first = as_object(candidates[0])
        finish = as_text(first.get("finishReason"))
        told = as_text(first.get("finishMessage"))
        parts = [as_object(part) for part in as_list(as_object(first.get("content")).get("parts"))]
        texts = [(as_text(part.get("text")), part.get("thought") is True) for part in parts]
        calls = [as_object(part["functionCall"]) for part in parts if "functionCall" in part]
        return ModelAnswer(
            content="".join(text for text, thought in texts if not thought),
            reasoning="\n".join(text for text, thought in texts if thought),
            calls=tuple(_read_call(call) for call in calls),
            usage=usage,
            finish_reason=finish,
            cut=finish == "MAX_TOKENS",
            refusal=(told or finish) if finish in REFUSED else "",
            problem=(told or "the call was malformed") if finish in MALFORMED and not calls else "",
            model=model,
            kept=parts,
        )


class GeminiAgent(ModelAgent):
    """A model behind Google's generateContent. As `ModelAgent`; key: `GEMINI_API_KEY` or `GOOGLE_API_KEY`.

    Further settings of a call: `extra={"generationConfig": {"thinkingConfig": {...}}}`.
    """

    type = "gemini"

    def __init__(self, model: str, **options: Unpack[Options]) -> None:
        super().__init__(model, GenerateProtocol(), **options)


def _write_item(item: Item) -> dict[str, Any]:
    match item:
        case Said(role=role, blocks=blocks):
            return {
                "role": "model" if role == "assistant" else "user",
                "parts": [_write_block(block) for block in blocks],
            }
        case Answered(answer=answer):
            return {"role": "model", "parts": as_list(answer.kept) or [{"text": answer.content or " "}]}
        case Returned(results=results):
            parts: list[dict[str, Any]] = []
            pictures: list[dict[str, Any]] = []
            for call, result in results:
                blocks = read_result(result)
                told = {"error" if result.is_error else "output": join_texts(blocks)}
                response: dict[str, Any] = {"name": call.name, "response": told}
                if not call.id.startswith(MADE):
                    response["id"] = call.id
                parts.append({"functionResponse": response})
                pictures += [_write_block(block) for block in blocks if isinstance(block, Image)]
            return {"role": "user", "parts": parts + pictures}


def _write_block(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"text": block.text}
    if block.url:
        return {"fileData": put({"fileUri": block.url}, mimeType=block.mime or None)}
    return {"inlineData": {"mimeType": block.mime, "data": block.data}}


def _read_call(call: dict[str, Any]) -> ProposedCall:
    arguments, problem, written = read_arguments(call.get("args"))
    name = as_text(call.get("name"))
    problem = problem or ("" if name else NAMELESS)
    return ProposedCall(as_text(call.get("id")), name, arguments, problem, written)


def _read_usage(usage: dict[str, Any]) -> Usage:
    prompt = as_count(usage.get("promptTokenCount")) + as_count(usage.get("toolUsePromptTokenCount"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=as_count(usage.get("candidatesTokenCount")) + as_count(usage.get("thoughtsTokenCount")),
        cached_tokens=as_count(usage.get("cachedContentTokenCount")),
    )
