"""HUD's spans as steps of ours: what a span tells, and where in the trace it stands.

Spans come late, twice and in any order. A step keeps its span's id and its number in HUD's trace, by which it finds its
place. What is no step (spans of `instrument`, other schemas) is left out. Nothing here refuses: a field that is not as
expected is as if it had not been told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

from taskloom.domain.evaluation import Step, StepSource, TaskCall, TokenSample, ToolCall, ToolResult, Usage
from taskloom.server.compat.hud.call import read_time

SCHEMA = "hud.step.v1"
UNNUMBERED = 2**53  # HUD's number of a step that has none: behind the others
_SOURCES = ("user", "agent", "tool", "task", "subagent", "system")
_LARGEST = 2**62

Place = tuple[int, float]
"""By which steps are ordered: HUD's number, then the time."""


def read_spans(spans: Sequence[Any]) -> dict[str, Step]:
    """The steps among spans, by their spans' ids."""
    found: dict[str, Step] = {}
    for span in spans:
        parts = _object(span)
        attributes = _object(parts.get("attributes"))
        payload = _object(attributes.get("hud.payload"))
        number = _text(parts.get("span_id")).lower()
        if attributes.get("hud.schema") == SCHEMA and payload.get("source") in _SOURCES and 0 < len(number) <= 64:
            found[number] = _step(number, payload, parts)
    return found


def place_of(step: Step) -> Place:
    return int(step.extra.get("step_id") or UNNUMBERED), step.started


def span_of(step: Step) -> str:
    return _text(step.extra.get("span"))


def _step(span: str, payload: dict[str, Any], parts: dict[str, Any]) -> Step:
    number = _whole(payload.get("step_id"))
    extra = {"span": span, **({"step_id": number} if number else {}), **_object(payload.get("extra"))}
    for name in ("citations", "subagent", "stop_reason"):
        if payload.get(name):
            extra[name] = payload[name]
    return Step(
        source=cast(StepSource, payload["source"]),
        messages=tuple(_object(one) for one in _list(payload.get("messages"))),
        content=_text(payload.get("content")),
        reasoning=_text(payload.get("reasoning")),
        tool_calls=tuple(_call(one) for one in _list(payload.get("tool_calls"))),
        model=_text(payload.get("model")),
        usage=_usage(payload.get("usage")),
        sample=_sample(payload.get("sample")),
        finish_reason=_text(payload.get("finish_reason")),
        refusal=_text(payload.get("refusal")),
        call=_call(payload["call"]) if payload.get("call") else None,
        result=_result(payload["result"]) if payload.get("result") else None,
        task_call=_task_call(payload.get("task_call")),
        error=_text(payload.get("error")),
        started=read_time(payload.get("started_at") or parts.get("start_time")),
        ended=read_time(payload.get("ended_at") or parts.get("end_time")),
        extra=extra,
    )


def tell_events(steps: Sequence[Step]) -> Iterator[dict[str, Any]]:
    """What `hud trace` shows: the agent's messages and the calls of tools."""
    for step in steps:
        if step.source == "agent":
            calls = [{"id": one.id, "name": one.name, "arguments": one.arguments} for one in step.tool_calls]
            yield {
                "kind": "agent_message",
                "text": step.content or None,
                "reasoning": step.reasoning or None,
                "tool_calls": calls,
                "error": step.error or None,
            }
        elif step.source == "tool":
            blocks = step.result.content if step.result is not None else ()
            text = "\n".join(_text(block.get("text")) for block in blocks if block.get("type") == "text")
            failed = step.result is not None and step.result.is_error
            yield {
                "kind": "tool_call",
                "tool_name": None if step.call is None else step.call.name,
                "arguments": {} if step.call is None else step.call.arguments,
                "result_text": text,
                "error": step.error or (text if failed else None),
            }


# --- parts ------------------------------------------------------------------------------------------------


def _call(value: Any) -> ToolCall:
    told = _object(value)
    arguments = told.get("arguments")
    if not isinstance(arguments, dict):  # what a model wrote that is no JSON
        arguments = {} if arguments is None else {"raw": arguments}
    return ToolCall(_text(told.get("id")), _text(told.get("name")), cast("dict[str, Any]", arguments))


def _result(value: Any) -> ToolResult:
    told = _object(value)
    return ToolResult(tuple(_object(one) for one in _list(told.get("content"))), told.get("isError") is True)


def _task_call(value: Any) -> TaskCall | None:
    told = _object(value)
    phase = told.get("phase")
    if phase not in ("setup", "evaluate"):
        return None
    return TaskCall(phase, _text(told.get("name")), _object(told.get("arguments")), told.get("result"))


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    told = _object(cast(Any, value))
    counts = (_whole(told.get(name)) for name in ("prompt_tokens", "completion_tokens", "cached_tokens"))
    return Usage(*counts, cost_usd=min(max(_number(told.get("cost_usd")), 0.0), 1e12))


def _sample(value: Any) -> TokenSample | None:
    told = _object(value)
    names = ("prompt_token_ids", "output_token_ids")
    prompt, output = (tuple(_whole(one) for one in _list(told.get(name))) for name in names)
    chances = tuple(_number(one) for one in _list(told.get("output_logprobs")))
    return TokenSample(prompt, output, chances) if prompt or output else None


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: Any) -> int:
    return min(max(value, 0), _LARGEST) if isinstance(value, int) and not isinstance(value, bool) else 0


def _number(value: Any) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and math.isfinite(value) else 0.0
