"""An agent without a model: answers that are known beforehand, for tests, benchmarks and environments that are tried out.

With `answer` or `answers` it does next to nothing and records no step. With `steps` it uses the run's tools as a model
would, and records each step.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from taskloom.domain.evaluation import Step, ToolCall
from taskloom.evals.agents.reading import as_list, as_object
from taskloom.evals.failures import AgentFailure

if TYPE_CHECKING:
    from taskloom.evals.run import Run

NOTHING: Final = object()


class ScriptedAgent:
    """Give one of these; ValueError otherwise.

    answer    the answer to every eval task, a text or any JSON
    answers   the answer by slug, or by the template's id; AgentFailure for a row that has none
    steps     in order: a text that is said, `{"tool": NAME, "arguments": {...}}`, a list of such calls that are done
              side by side, `{"answer": ...}`. Without an answer the last text is it
    function  `function(run)` gives the answer; it may be async

    tools     as model agents have it: the capabilities whose tools `steps` may use
    """

    type = "scripted"

    def __init__(
        self,
        answer: Any = NOTHING,
        *,
        answers: Mapping[str, Any] | None = None,
        steps: Sequence[Any] | None = None,
        function: Callable[[Run], Any] | None = None,
        tools: Sequence[str] | None = None,
        name: str = "scripted",
        model: str = "",
        trained_by: str = "",
    ) -> None:
        given = [answer is not NOTHING, answers is not None, steps is not None, function is not None]
        if sum(given) != 1:
            raise ValueError("a scripted agent needs one of answer, answers, steps and function")
        self.answer, self.answers = answer, None if answers is None else dict(answers)
        self.steps = None if steps is None else [_read_step(step) for step in steps]
        self.function, self.tools = function, tools
        self.name, self.model, self.trained_by = name, model, trained_by

    def spec(self) -> dict[str, Any]:
        """A function is told by its source, as one that is an agent itself."""
        config: dict[str, Any] = {}
        if self.answer is not NOTHING:
            config["answer"] = self.answer
        if self.answers is not None:
            config["answers"] = self.answers
        if self.steps is not None:
            config["steps"] = self.steps
        if self.function is not None:
            from taskloom.evals.agents.python import spec_of_callable

            config["function"] = spec_of_callable(self.function)["config"]
        if self.tools is not None:
            config["tools"] = list(self.tools)
        told = {
            "name": self.name if self.name != "scripted" else "",
            "model": self.model,
            "trained_by": self.trained_by,
        }
        return {"type": self.type, "config": config | {key: value for key, value in told.items() if value}}

    async def __call__(self, run: Run) -> None:
        trace = run.trace
        if self.answer is not NOTHING:
            trace.content = self.answer
        elif self.answers is not None:
            trace.content = self._known(run)
        elif self.function is not None:
            value = self.function(run)
            trace.content = await value if inspect.isawaitable(value) else value
        else:
            await self._act(run)
        trace.stop_reason = "done"

    def _known(self, run: Run) -> Any:
        assert self.answers is not None
        for name in (run.slug, run.task_id):
            if name in self.answers:
                return self.answers[name]
        raise AgentFailure(f"no answer is scripted for {run.slug!r}")

    async def _act(self, run: Run) -> None:
        from taskloom.evals.agents.tools import call_tools, open_tools

        steps = self.steps or []
        needs_tools = any(isinstance(step, list) for step in steps)
        async with open_tools(run, self.tools if needs_tools else ()) as tools:
            for number, step in enumerate(steps):
                now = time.time()
                if isinstance(step, str):
                    run.trace.content = step
                    run.record(Step(source="agent", content=step, model=self.model, started=now, ended=now))
                elif isinstance(step, dict):
                    run.trace.content = step["answer"]
                else:
                    calls = tuple(
                        ToolCall(f"call-{number}-{n}", call["tool"], call.get("arguments") or {})
                        for n, call in enumerate(step)
                    )
                    run.record(Step(source="agent", tool_calls=calls, model=self.model, started=now, ended=now))
                    await call_tools(run, tools, calls)


def _read_step(step: Any) -> Any:
    """A text, an answer, or a list of calls; ValueError for anything else."""
    if isinstance(step, str) or "answer" in as_object(step):
        return step
    calls = as_list(step) or [step]
    if all(isinstance(as_object(call).get("tool"), str) for call in calls):
        return calls
    raise ValueError(f"step {step!r:.200}: expected a text, an answer, a tool call or a list of tool calls")
