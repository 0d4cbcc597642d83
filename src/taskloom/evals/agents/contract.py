"""The agent's contract: one async callable that takes a live run.

It reads `run.prompt_text` or `run.prompt_messages`, uses what `run.bindings` and `run.client` offer, records its steps
with `run.record` and leaves its answer in `run.trace.content`. It keeps nothing between runs: one agent drives many runs
side by side. It raises what it likes: the run is graded with the answer that is there, and its failure told.
`asyncio.CancelledError` passes through. Limits are watched by `run.record`, which raises `LimitReached` when a step
passes one; an agent that loops lets it through.

An agent may have `name`, `model` and `spec()`. spec: a JSON object that makes it again, `{"type": ..., "config": ...}`;
its digest tells whether a resumed job has the same agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from taskloom.evals.run import Run


class Agent(Protocol):
    """Any `async def agent(run)`."""

    async def __call__(self, run: Run, /) -> None: ...
