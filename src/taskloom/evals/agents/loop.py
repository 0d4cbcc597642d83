"""The loop that all model agents share: ask the model, do what it calls for, tell it what came of that, until it answers.

It is written for no provider (see protocol) and no kind of tool (see tools). Each model call is an agent's step of the
trace, each tool call a tool's, in the order in which they end; the calls of one answer run side by side.

It ends with `stop_reason`  done (an answer without calls), length (cut off by a limit of tokens), max_steps (the next
step is not allowed), malformed_tool_call (too many answers in a row whose calls cannot be read). The run's own limits
end it by `LimitReached`. `trace.content` is the newest text that the model said, so that whatever ends a run, what was
said by then is graded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict
from urllib.parse import urlsplit

from taskloom.domain.evaluation import StopReason
from taskloom.evals.agents.cache import ModelCache
from taskloom.evals.agents.calls import ModelCaller, as_call
from taskloom.evals.agents.conversation import (
    Answered,
    Item,
    ModelAnswer,
    ProposedCall,
    Returned,
    Said,
    Text,
    read_prompt,
)
from taskloom.evals.agents.prices import Prices, read_prices
from taskloom.evals.agents.protocol import Ask, ModelProtocol
from taskloom.evals.agents.sending import PAUSE, Sender
from taskloom.evals.agents.tools import TOOL_TIMEOUT, Toolbox, call_tools, open_tools
from taskloom.evals.failures import AgentFailure

if TYPE_CHECKING:
    from taskloom.evals.run import Run

MAX_STEPS = 100  # model calls of a run, where neither the run nor the agent says another number
MAX_MALFORMED = 3  # answers in a row whose tool calls cannot be read
TIMEOUT = 600.0  # seconds of one try of a model call
RETRIES = 5
MAX_WRITTEN = 500  # characters of malformed arguments that are told to the model


class Options(TypedDict, total=False):
    """What every model agent takes.

    base_url     the server, with what stands before the protocol's own path; None: a variable, else the provider's
    api_key      None: a variable; read when a call is made. It goes to that server only, in a header, nowhere else
    system       text before the conversation; what the prompt has as system's follows it
    temperature, max_tokens  of one answer; None: the provider's
    max_steps    model calls of one run; 100 where nothing is said. The run's own limit counts beside it
    tools        capabilities by name, protocol or family whose tools it gets; None: all that are offered, (): none
    tool_timeout seconds of one tool call
    timeout      seconds of one try of a model call; retries: further tries after faults that may pass
    cache        a `ModelCache` or a folder for one; None: every call is made
    prices       a table or a JSON file, see `prices`; before the table that is built in
    headers      more of them; like the key in no spec and no trace
    extra        more fields of the body, as the provider has them
    name         as jobs and leaderboards have it; the type where nothing is said
    trained_by   id of the task or output model that the evaluated model comes from
    """

    base_url: str | None
    api_key: str | None
    system: str | None
    temperature: float | None
    max_tokens: int | None
    max_steps: int | None
    tools: Sequence[str] | None
    tool_timeout: float
    timeout: float
    retries: int
    retry_pause: float
    cache: ModelCache | str | Path | None
    prices: Prices | Mapping[str, Any] | str | Path | None
    headers: Mapping[str, str] | None
    extra: Mapping[str, Any] | None
    name: str
    trained_by: str


@dataclass(frozen=True)
class Settings:
    """What a row's `agent_config` may change."""

    system: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    max_steps: int = MAX_STEPS
    tools: tuple[str, ...] | None = None


class ModelAgent:
    """A model that acts with tools. ValueError for options that cannot be; the key is looked for later."""

    type: ClassVar[str] = ""

    def __init__(
        self,
        model: str,
        protocol: ModelProtocol,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        max_steps: int | None = None,
        tools: Sequence[str] | None = None,
        tool_timeout: float = TOOL_TIMEOUT,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        retry_pause: float = PAUSE,
        cache: ModelCache | str | Path | None = None,
        prices: Prices | Mapping[str, Any] | str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        name: str = "",
        trained_by: str = "",
    ) -> None:
        if not model:
            raise ValueError(f"{self.type}: expected the name of a model")
        for word, number in (("timeout", timeout), ("tool_timeout", tool_timeout), ("max_steps", max_steps)):
            if number is not None and not number > 0:
                raise ValueError(f"{word} {number}: expected a number above 0")
        if retries < 0:
            raise ValueError(f"retries {retries}: expected a number from 0 on")
        if isinstance(tools, str):
            raise ValueError(f"tools {tools!r}: expected a list of names")
        odd = [
            name for name, value in (headers or {}).items() if not (name + value).isascii() or "\n" in name + value
        ]
        if odd:
            raise ValueError(f"headers: {', '.join(odd)}: expected plain text")
        self.model, self.name, self.trained_by = model, name or self.type, trained_by
        chosen = None if tools is None else tuple(tools)
        self.settings = Settings(system or "", temperature, max_tokens, max_steps or MAX_STEPS, chosen)
        self.tool_timeout = tool_timeout
        self.extra = dict(extra or {})
        store = cache if cache is None or isinstance(cache, ModelCache) else ModelCache(cache)
        url = _read_url(base_url or _from_environment(protocol.url_variables) or protocol.default_url)
        sender = Sender(
            protocol, url, api_key, timeout=timeout, retries=retries, pause=retry_pause, headers=headers or {}
        )
        self._caller = ModelCaller(protocol, sender, read_prices(prices), store)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self._caller.sender.url!r})"

    @property
    def base_url(self) -> str:
        return self._caller.sender.url

    def spec(self) -> dict[str, Any]:
        """What makes this agent again; without key and headers, which its place has to know."""
        sender, settings = self._caller.sender, self.settings
        cache = self._caller.cache
        told: dict[str, Any] = {
            "base_url": None if sender.official else sender.url,
            "system": settings.system or None,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "max_steps": None if settings.max_steps == MAX_STEPS else settings.max_steps,
            "tools": None if settings.tools is None else list(settings.tools),
            "tool_timeout": None if self.tool_timeout == TOOL_TIMEOUT else self.tool_timeout,
            "timeout": None if sender.timeout == TIMEOUT else sender.timeout,
            "retries": None if sender.retries == RETRIES else sender.retries,
            "cache": None if cache is None else cache.config(),
            "prices": self._caller.prices.config() or None,
            "extra": self.extra or None,
            "name": None if self.name == self.type else self.name,
            "trained_by": self.trained_by or None,
        }
        config = {key: value for key, value in told.items() if value is not None}
        return {"type": self.type, "config": {"model": self.model, **config, **self._own_config()}}

    def _own_config(self) -> dict[str, Any]:
        """Options of this type alone."""
        return {}

    def check(self) -> None:
        """AgentFailure when a key is needed and is not here: worth asking before many runs begin."""
        self._caller.sender.check()

    async def close(self) -> None:
        """Close its connections of this event loop; they close by themselves when the loop ends."""
        await self._caller.sender.close()

    async def __call__(self, run: Run) -> None:
        settings = _adapt(self.settings, run.task.agent_config or {})
        told, history = read_prompt(run.prompt_messages)
        if not history:
            raise AgentFailure("the environment gave no prompt, and a model needs one")
        system = "\n\n".join(text for text in (settings.system, told) if text)
        async with open_tools(run, settings.tools, timeout=self.tool_timeout) as tools:
            ask = Ask(
                self.model,
                history,
                system,
                tools.forms,
                settings.temperature,
                settings.max_tokens,
                self.extra,
                self._caller.sender.official,
            )
            run.trace.stop_reason = await self._converse(run, ask, history, tools, settings.max_steps)

    async def _converse(
        self, run: Run, ask: Ask, history: list[Item], tools: Toolbox, max_steps: int
    ) -> StopReason:
        """Until something ends it; the stop reason."""
        malformed = 0
        for turn in range(max_steps):
            answer = await self._ask(run, ask, turn)
            if answer.cut:
                return "length"
            if not answer.calls and not answer.problem:
                run.trace.content = answer.content or answer.refusal
                return "done"
            unreadable = answer.problem or any(call.problem for call in answer.calls)
            malformed = malformed + 1 if unreadable else 0
            if malformed >= MAX_MALFORMED:
                return "malformed_tool_call"
            if turn + 1 == max_steps:
                return "max_steps"
            history.append(Answered(answer))
            if answer.calls:
                history.append(await _do_calls(run, answer.calls, tools))
            else:
                history.append(Said("user", (Text(f"Your tool call could not be read: {answer.problem}"),)))
        return "max_steps"

    async def _ask(self, run: Run, ask: Ask, turn: int) -> ModelAnswer:
        answer, step = await self._caller.call(ask, turn=turn, epoch=run.try_number)
        # Before the step is recorded, which may end the run by a limit.
        if answer.content or run.trace.content is None:
            run.trace.content = answer.content
        run.record(step)
        return answer


async def _do_calls(run: Run, calls: Sequence[ProposedCall], tools: Toolbox) -> Returned:
    problems = {number: _describe(call) for number, call in enumerate(calls) if call.problem}
    results = await call_tools(run, tools, [as_call(call) for call in calls], problems=problems)
    return Returned(tuple(zip(calls, results, strict=True)))


def _describe(call: ProposedCall) -> str:
    written = f"\nYou wrote: {call.written[:MAX_WRITTEN]}" if call.written else ""
    return f"{call.problem}{written}"


def _adapt(settings: Settings, config: Mapping[str, Any]) -> Settings:
    """With what the row wants otherwise; other keys of it are not for this agent."""
    for key, value in config.items():
        known = _ADAPTED.get(key)
        if known is None or value is None:
            continue
        name, kinds, expected = known
        if isinstance(value, bool) or not isinstance(value, kinds) or (name == "max_steps" and value < 1):
            raise AgentFailure(f"agent_config: {key} {value!r:.80}: expected {expected}")
        chosen: Any = tuple(value) if name == "tools" else value
        settings = replace(settings, **{name: chosen})
    return settings


_ADAPTED: dict[str, tuple[str, Any, str]] = {
    "system": ("system", str, "a text"),
    "system_prompt": ("system", str, "a text"),
    "temperature": ("temperature", (int, float), "a number"),
    "max_steps": ("max_steps", int, "a whole number above 0"),
    "tools": ("tools", (list, tuple), "a list of names"),
}


def _read_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"base_url {url!r}: expected http://HOST:PORT/PATH or https://...")
    if parts.username or parts.password or parts.query or parts.fragment:
        # They would stand in traces, specs and the cache.
        raise ValueError(
            f"base_url for {parts.hostname}: a user, a password, a query or a fragment cannot be in it"
        )
    return url.rstrip("/")


def _from_environment(names: Sequence[str]) -> str:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")
