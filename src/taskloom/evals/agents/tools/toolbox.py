"""A run's tools under the names that its model knows them by, open while a block lasts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskloom.domain.evaluation import ToolResult
from taskloom.evals.agents.protocol import ToolForm
from taskloom.evals.agents.tools.tool import Tool, tell
from taskloom.evals.failures import AgentFailure, InfrastructureFailure

if TYPE_CHECKING:
    from taskloom.evals.capabilities import Capability
    from taskloom.evals.run import Run

TOOL_TIMEOUT = 300.0  # seconds of one tool call
OPEN_TIMEOUT = 60.0  # seconds until a capability's tools are there
FAMILIES = ("mcp", "ssh")
MAX_NAME = 64  # characters that all providers allow
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")


class Toolbox:
    """Tools by name. timeout: seconds of one call."""

    def __init__(self, tools: Sequence[Tool], timeout: float = TOOL_TIMEOUT) -> None:
        self._tools = name_apart(tools)
        self._timeout = timeout

    @property
    def forms(self) -> list[ToolForm]:
        """As a model is told of them; each schema an object with properties, which some providers insist on."""
        whole: dict[str, Any] = {"type": "object", "properties": {}}
        return [ToolForm(name, tool.description, whole | tool.schema) for name, tool in self._tools.items()]

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """What came of it; a tool that is not there, fails or takes too long has a result, too.

        InfrastructureFailure when the connection is lost.
        """
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return tell(f"there is no tool {name!r}; there are: {known}", is_error=True)
        try:
            async with asyncio.timeout(self._timeout):
                return await tool.call(arguments)
        except TimeoutError:
            return tell(f"{name} took longer than {self._timeout:g} s and was stopped", is_error=True)
        except ValueError as error:
            return tell(f"{name}: {error}", is_error=True)


@asynccontextmanager
async def open_tools(
    run: Run, chosen: Sequence[str] | None = None, *, timeout: float = TOOL_TIMEOUT
) -> AsyncGenerator[Toolbox]:
    """The tools of the run's capabilities. chosen: which of those, by name, protocol or family; None: all.

    AgentFailure for a chosen one that is not offered or is no source of tools; InfrastructureFailure for one that
    does not answer.
    """
    capabilities = choose(run.bindings if chosen is None or chosen else (), chosen)
    if not capabilities:
        yield Toolbox((), timeout)
        return
    async with AsyncExitStack() as stack:
        tools: list[Tool] = []
        for capability in capabilities:
            tools += await _open(stack, run, capability)
        yield Toolbox(tools, timeout)


async def _open(stack: AsyncExitStack, run: Run, capability: Capability) -> list[Tool]:
    if capability.family == "mcp":
        from taskloom.evals.agents.tools.mcp import open_mcp as opener
    else:
        from taskloom.evals.agents.tools.shell import open_shell as opener
    try:
        async with asyncio.timeout(OPEN_TIMEOUT):
            reachable = await run.client.binding(capability.name)
            return await stack.enter_async_context(opener(reachable, run.trace_id))
    except TimeoutError:
        text = f"capability {capability.name!r}: no answer within {OPEN_TIMEOUT:g} s"
        raise InfrastructureFailure(text) from None


def choose(offered: Sequence[Capability], chosen: Sequence[str] | None) -> list[Capability]:
    """Those that give tools, in the manifest's order."""
    sources = [one for one in offered if one.family in FAMILIES]
    if chosen is None:
        return sources
    for word in chosen:
        if any(word in _words(one) for one in sources):
            continue
        if any(word in _words(one) for one in offered):
            raise AgentFailure(f"tools: {word!r} gives no tools: expected {' or '.join(FAMILIES)}")
        known = ", ".join(one.name for one in sources) or "none"
        raise AgentFailure(f"tools: {word!r} is not offered here; there are: {known}")
    return [one for one in sources if _words(one) & set(chosen)]


def _words(capability: Capability) -> set[str]:
    return {capability.name, capability.protocol, capability.family}


def name_apart(tools: Sequence[Tool]) -> dict[str, Tool]:
    """Each under a name of its own that every provider takes: two of one name get their capability's before it, and
    a number when that does not help."""
    plain = [clean_name(tool.name) for tool in tools]
    named: dict[str, Tool] = {}
    for tool, name in zip(tools, plain, strict=True):
        whole = name if plain.count(name) == 1 else clean_name(f"{tool.capability}_{tool.name}")
        unique, number = whole, 1
        while unique in named:
            number += 1
            unique = f"{whole[: MAX_NAME - len(str(number)) - 1]}_{number}"
        named[unique] = replace(tool, name=unique)
    return named


def clean_name(name: str) -> str:
    return _FOREIGN.sub("_", name)[:MAX_NAME] or "tool"
