"""The four protocols as a server speaks them, in the shapes that the providers document."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from taskloom.evals.agents import AnthropicAgent, GeminiAgent, OpenAIAgent, OpenAIResponsesAgent

Call = tuple[str, str, Any]  # id, name, arguments (a text is sent as it is)


def _written(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


class Chat:
    agent = OpenAIAgent
    base, path, key = "/v1", "/v1/chat/completions", ("authorization", "Bearer ")
    variables = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
    empty: ClassVar[Any] = {"id": "chatcmpl-1", "object": "chat.completion", "choices": []}

    def says(self, text: str | None, *, cut: bool = False, calls: Any = None, **message: Any) -> dict[str, Any]:
        finish = "length" if cut else "tool_calls" if calls else "stop"
        told = {"role": "assistant", "content": text, "refusal": None, **message}
        if calls:
            told["tool_calls"] = calls
        return {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion",
            "created": 1741569952,
            "model": "gpt-4.1-2025-04-14",
            "choices": [{"index": 0, "message": told, "logprobs": None, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": 1000,
                "completion_tokens": 100,
                "total_tokens": 1100,
                "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            "service_tier": "default",
        }

    def calls(self, *calls: Call, text: str | None = None) -> dict[str, Any]:
        return self.says(
            text,
            calls=[
                {"id": id, "type": "function", "function": {"name": name, "arguments": _written(arguments)}}
                for id, name, arguments in calls
            ],
        )

    def refuses(self, text: str) -> dict[str, Any]:
        return self.says(None, refusal=text)

    cost = (600 * 2.0 + 400 * 0.5 + 100 * 8.0) / 1e6
    model = "gpt-4.1"

    def system(self, body: dict[str, Any]) -> str:
        return body["messages"][0]["content"] if body["messages"][0]["role"] == "system" else ""

    def images(self, body: dict[str, Any]) -> list[str]:
        contents = [m["content"] for m in body["messages"] if isinstance(m["content"], list)]
        return [part["image_url"]["url"] for parts in contents for part in parts if part["type"] == "image_url"]

    def results(self, body: dict[str, Any]) -> list[tuple[str, str]]:
        return [(m["tool_call_id"], m["content"]) for m in body["messages"] if m["role"] == "tool"]

    def tools(self, body: dict[str, Any]) -> list[str]:
        return [tool["function"]["name"] for tool in body.get("tools", [])]

    def most(self, body: dict[str, Any]) -> Any:
        return body["max_tokens"]

    def error(self, message: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


class Responses:
    agent = OpenAIResponsesAgent
    base, path, key = "/v1", "/v1/responses", ("authorization", "Bearer ")
    variables = Chat.variables
    empty: ClassVar[Any] = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
    cost, model = Chat.cost, Chat.model
    error = Chat.error

    def answers(self, output: list[dict[str, Any]], *, cut: bool = False) -> dict[str, Any]:
        thought = {
            "type": "reasoning",
            "id": "rs_67ccd3a9",
            "summary": [{"type": "summary_text", "text": "I add them."}],
        }
        return {
            "id": "resp_67ccd3a9da748190baa7f1570fe91ac604becb25c45c1d41",
            "object": "response",
            "created_at": 1741476777,
            "status": "incomplete" if cut else "completed",
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "model": "gpt-4.1-2025-04-14",
            "output": [thought, *output],
            "parallel_tool_calls": True,
            "usage": {
                "input_tokens": 1000,
                "input_tokens_details": {"cached_tokens": 400},
                "output_tokens": 100,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 1100,
            },
        }

    def message(self, *content: dict[str, Any]) -> dict[str, Any]:
        return {"type": "message", "id": "msg_67c", "status": "completed", "role": "assistant", "content": content}

    def says(self, text: str, *, cut: bool = False) -> dict[str, Any]:
        return self.answers([self.message({"type": "output_text", "text": text, "annotations": []})], cut=cut)

    def calls(self, *calls: Call, text: str | None = None) -> dict[str, Any]:
        said = [self.message({"type": "output_text", "text": text, "annotations": []})] if text else []
        return self.answers(
            said
            + [
                {
                    "type": "function_call",
                    "id": f"fc_{id}",
                    "call_id": id,
                    "name": name,
                    "arguments": _written(arguments),
                    "status": "completed",
                }
                for id, name, arguments in calls
            ]
        )

    def refuses(self, text: str) -> dict[str, Any]:
        return self.answers([self.message({"type": "refusal", "refusal": text})])

    def system(self, body: dict[str, Any]) -> str:
        return body["instructions"]

    def images(self, body: dict[str, Any]) -> list[str]:
        found = [part for item in body["input"] for part in item.get("content", [])]
        found += [
            part for item in body["input"] if isinstance(item.get("output"), list) for part in item["output"]
        ]
        return [part["image_url"] for part in found if part["type"] == "input_image"]

    def results(self, body: dict[str, Any]) -> list[tuple[str, str]]:
        outputs = [item for item in body["input"] if item.get("type") == "function_call_output"]
        return [
            (
                one["call_id"],
                one["output"]
                if isinstance(one["output"], str)
                else "".join(part.get("text", "") for part in one["output"]),
            )
            for one in outputs
        ]

    def tools(self, body: dict[str, Any]) -> list[str]:
        return [tool["name"] for tool in body.get("tools", [])]

    def most(self, body: dict[str, Any]) -> Any:
        return body["max_output_tokens"]


class Messages:
    agent = AnthropicAgent
    base, path, key = "", "/v1/messages", ("x-api-key", "")
    variables = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")
    empty: ClassVar[Any] = {"id": "msg_1", "type": "message"}
    cost = (500 * 3.0 + 400 * 0.3 + 100 * 3.75 + 100 * 15.0) / 1e6
    model = "claude-sonnet-4-5"

    def answers(self, content: list[dict[str, Any]], stop: str) -> dict[str, Any]:
        return {
            "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [
                {"type": "thinking", "thinking": "I add them.", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA"},
                *content,
            ],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 500,
                "cache_creation_input_tokens": 100,
                "cache_read_input_tokens": 400,
                "output_tokens": 100,
            },
        }

    def says(self, text: str, *, cut: bool = False) -> dict[str, Any]:
        return self.answers([{"type": "text", "text": text}], "max_tokens" if cut else "end_turn")

    def calls(self, *calls: Call, text: str | None = None) -> dict[str, Any]:
        said: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        used = [{"type": "tool_use", "id": id, "name": name, "input": arguments} for id, name, arguments in calls]
        return self.answers(said + used, "tool_use")

    def refuses(self, text: str) -> dict[str, Any]:
        return self.answers([{"type": "text", "text": text}], "refusal")

    def system(self, body: dict[str, Any]) -> str:
        return body["system"]

    def _parts(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return [part for message in body["messages"] for part in message["content"]]

    def images(self, body: dict[str, Any]) -> list[str]:
        parts = self._parts(body)
        parts = parts + [inner for part in parts if part["type"] == "tool_result" for inner in part["content"]]
        sources = [part["source"] for part in parts if part["type"] == "image"]
        return [one.get("url") or f"data:{one['media_type']};base64,{one['data']}" for one in sources]

    def results(self, body: dict[str, Any]) -> list[tuple[str, str]]:
        found = [part for part in self._parts(body) if part["type"] == "tool_result"]
        return [(one["tool_use_id"], "".join(part.get("text", "") for part in one["content"])) for one in found]

    def tools(self, body: dict[str, Any]) -> list[str]:
        return [tool["name"] for tool in body.get("tools", [])]

    def most(self, body: dict[str, Any]) -> Any:
        return body["max_tokens"]

    def error(self, message: str) -> dict[str, Any]:
        return {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": message},
            "request_id": "req_0",
        }


class Generate:
    agent = GeminiAgent
    base, path, key = "", "/v1beta/models/gemini-2.5-pro:generateContent", ("x-goog-api-key", "")
    variables = ("GEMINI_API_KEY", "GEMINI_BASE_URL")
    empty: ClassVar[Any] = {"usageMetadata": {"promptTokenCount": 3}, "modelVersion": "gemini-2.5-pro"}
    cost = (600 * 1.25 + 400 * 0.125 + 100 * 10.0) / 1e6
    model = "gemini-2.5-pro"

    def answers(self, parts: list[dict[str, Any]], finish: str = "STOP", **more: Any) -> dict[str, Any]:
        return {
            "candidates": [
                {
                    "content": {"role": "model", "parts": [{"text": "I add them.", "thought": True}, *parts]},
                    "finishReason": finish,
                    "index": 0,
                    **more,
                }
            ],
            "usageMetadata": {
                "promptTokenCount": 1000,
                "candidatesTokenCount": 60,
                "thoughtsTokenCount": 40,
                "cachedContentTokenCount": 400,
                "totalTokenCount": 1100,
            },
            "modelVersion": "gemini-2.5-pro",
            "responseId": "mAitaLmkHPPlz7IPvtfUqQ4",
        }

    def says(self, text: str, *, cut: bool = False) -> dict[str, Any]:
        return self.answers([{"text": text}], "MAX_TOKENS" if cut else "STOP")

    def calls(self, *calls: Call, text: str | None = None) -> dict[str, Any]:
        said: list[dict[str, Any]] = [{"text": text}] if text else []
        used = [
            {"functionCall": {"id": id, "name": name, "args": arguments}, "thoughtSignature": "CiQB0e2Kb"}
            for id, name, arguments in calls
        ]
        return self.answers(said + used)

    def refuses(self, text: str) -> dict[str, Any]:
        return self.answers([], "SAFETY", finishMessage=text)

    def system(self, body: dict[str, Any]) -> str:
        return body["systemInstruction"]["parts"][0]["text"]

    def _parts(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return [part for content in body["contents"] for part in content["parts"]]

    def images(self, body: dict[str, Any]) -> list[str]:
        found = [part for part in self._parts(body) if "inlineData" in part or "fileData" in part]
        return [
            one["fileData"]["fileUri"]
            if "fileData" in one
            else f"data:{one['inlineData']['mimeType']};base64,{one['inlineData']['data']}"
            for one in found
        ]

    def results(self, body: dict[str, Any]) -> list[tuple[str, str]]:
        found = [part["functionResponse"] for part in self._parts(body) if "functionResponse" in part]
        return [(one["id"], "".join(one["response"].values())) for one in found]

    def tools(self, body: dict[str, Any]) -> list[str]:
        return [tool["name"] for group in body.get("tools", []) for tool in group["functionDeclarations"]]

    def most(self, body: dict[str, Any]) -> Any:
        return body["generationConfig"]["maxOutputTokens"]

    def error(self, message: str) -> dict[str, Any]:
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}


Dialect = Chat | Responses | Messages | Generate
DIALECTS: list[Dialect] = [Chat(), Responses(), Messages(), Generate()]
