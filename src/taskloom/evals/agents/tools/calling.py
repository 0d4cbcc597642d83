"""The tool calls of one answer: done side by side, each a step of the trace as soon as it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskloom.domain.evaluation import Step, ToolCall, ToolResult
from taskloom.evals.agents.tools.tool import tell
from taskloom.evals.agents.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from taskloom.evals.run import Run

MAX_CALLS = 128  # tool calls of one answer that are done
CALLS_AT_ONCE = 16  # tool calls of one run that run side by side


async def call_tools(
    run: Run,
    tools: Toolbox,
    calls: Sequence[ToolCall],
    *,
    problems: Mapping[int, str] | None = None,
    expected: Mapping[str, ToolResult | None] | None = None,
) -> list[ToolResult]:
    """Results in the calls' order. What is no tool's failure is raised when all have ended.

    problems: by number, why a call cannot be done. expected: recorded results by the call's id; one that differs is
    marked.
    """
    gate = asyncio.Semaphore(CALLS_AT_ONCE)

    async def do(number: int, call: ToolCall) -> ToolResult:
        async with gate:
            started = time.time()
            if number >= MAX_CALLS:
                result = tell(f"not done: at most {MAX_CALLS} calls in one answer", is_error=True)
            elif problems and number in problems:
                result = tell(problems[number], is_error=True)
            else:
                result = await tools.call(call.name, call.arguments)
        extra: dict[str, Any] = {}
        if expected is not None and expected.get(call.id) != result:
            extra["differs"] = True
        step = Step(source="tool", call=call, result=result, started=started, ended=time.time(), extra=extra)
        run.record(step)
        return result

    results = await asyncio.gather(*(do(n, call) for n, call in enumerate(calls)), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, ToolResult)]
