"""An agent that answers as another did: by the recorded runs of a job, the same try at the same eval task.

It serves to grade old answers again, after the environment's grader changed, and to look at what tools would say now.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from taskloom.domain.evaluation import EvalRun, Step, Usage
from taskloom.evals.agents.recorded import FromFile, FromJob, FromServer, Receipt, Runs
from taskloom.evals.failures import AgentFailure
from taskloom.wire.client import Address

if TYPE_CHECKING:
    from taskloom.evals.run import Run

_ID = re.compile(r"[0-9a-f]{32}")
_SHOWN = {"agent", "tool", "subagent", "system"}  # sources of the steps that are an agent's doing


class ReplayAgent:
    """source: id of a job on the server, a `Job`, or a `.jsonl` file of runs. ValueError for anything else.

    tools     call the recorded tools again, in the environment that is there now; a result that differs is recorded
              with `"differs": true`. Otherwise the recorded results are shown again, and nothing is called
    address   the server; None: the one that programs on this machine find

    The steps cost nothing, and are marked as `cached`. A run whose agent failed fails again, with its answer.
    """

    type = "replay"

    def __init__(
        self,
        source: str | Path | Receipt,
        *,
        tools: bool = False,
        address: Address | None = None,
        name: str = "replay",
        trained_by: str = "",
    ) -> None:
        self.tools, self.name, self.trained_by = tools, name, trained_by
        self.model = ""
        self.source, self._runs = _open(source, address)

    def spec(self) -> dict[str, Any]:
        told = {
            "tools": self.tools,
            "name": self.name if self.name != "replay" else "",
            "trained_by": self.trained_by,
        }
        config = {"source": self.source, **{key: value for key, value in told.items() if value}}
        return {"type": self.type, "config": config}

    async def __call__(self, run: Run) -> None:
        tries = await self._runs.find(run.slug)
        if not tries:
            raise AgentFailure(f"{self._runs.origin} has no run of {run.slug!r} to replay")
        recorded = _choose(tries, run)
        if recorded is None:
            raise AgentFailure(
                f"{self._runs.origin} has no try {run.try_number + 1} at {run.slug!r} to replay: it has {len(tries)}"
            )
        run.model = recorded.model or run.model
        run.trace.extra["replayed"] = recorded.id
        run.trace.content = recorded.answer
        steps = [step for step in await self._runs.steps(recorded) if step.source in _SHOWN]
        if self.tools and any(step.tool_calls for step in steps):
            await self._act(run, steps)
        else:
            for step in steps:
                run.record(_again(step))
        run.trace.content = recorded.answer
        if recorded.boundary == "agent":
            raise AgentFailure(recorded.error or "the recorded agent failed")
        run.trace.stop_reason = recorded.stop_reason or "done"

    async def _act(self, run: Run, steps: list[Step]) -> None:
        from taskloom.evals.agents.tools import call_tools, open_tools

        results = {step.call.id: step.result for step in steps if step.call is not None}
        async with open_tools(run) as tools:
            for step in steps:
                if step.source == "tool":
                    continue
                run.record(_again(step))
                if step.tool_calls:
                    await call_tools(run, tools, step.tool_calls, expected=results)


def _choose(tries: list[EvalRun], run: Run) -> EvalRun | None:
    """The try of the same number; where only positions are known, the one at the same position."""
    same = next((one for one in tries if one.position == run.position), None)
    if run.try_number == run.position and same is not None:
        return same
    return tries[run.try_number] if run.try_number < len(tries) else None


def _again(step: Step) -> Step:
    usage = step.usage
    if usage is not None:
        usage = Usage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    return msgspec.structs.replace(step, usage=usage, cached=step.source == "agent")


def _open(source: str | Path | Receipt, address: Address | None) -> tuple[str, Runs]:
    if isinstance(source, Path):
        return str(source), FromFile(source)
    if not isinstance(source, str):
        return source.id, FromJob(source)
    words = source.replace("-", "") if len(source) == 36 else source
    if _ID.fullmatch(words):
        return words, FromServer(words, address)
    if source.endswith(".jsonl"):
        return source, FromFile(Path(source))
    raise ValueError(f"replay {source!r}: expected the id of a job, or a .jsonl file")
