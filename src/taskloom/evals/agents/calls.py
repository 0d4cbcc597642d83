"""One model call: from the cache or from the provider, read, priced, and told as a step of a trace."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from taskloom.domain.evaluation import Step, ToolCall, Usage
from taskloom.evals.agents.cache import CachedAnswer, ModelCache
from taskloom.evals.agents.conversation import MADE, ModelAnswer, ProposedCall
from taskloom.evals.agents.prices import Prices
from taskloom.evals.agents.protocol import Ask, ModelProtocol, UnreadableAnswer
from taskloom.evals.agents.sending import Received, Sender, read_error
from taskloom.evals.failures import AgentFailure

MAX_WRITTEN = 2000  # characters of malformed arguments that a step keeps


@dataclass(frozen=True)
class ModelCaller:
    """Safe to share between runs."""

    protocol: ModelProtocol
    sender: Sender
    prices: Prices
    cache: ModelCache | None = None

    async def call(self, ask: Ask, *, turn: int = 0, epoch: int = 0) -> tuple[ModelAnswer, Step]:
        """AgentFailure when there is no answer. turn: which call of the run this is, from 0."""
        started = time.time()
        body = msgspec.json.encode(self.protocol.body(ask))
        path = self.protocol.path(ask.model)
        found, key = None, ""
        if self.cache is not None:
            key = self.cache.key(self.protocol.name, ask.model, self.sender.url + path, body, epoch)
            found = self.cache.find(key)
        if found is not None:
            answer = self._number(self._read(found.answer), turn)
            return answer, self._tell(ask, answer, started, Received(found.answer, 1), cached=True)
        received = await self.sender.post(path, body)
        answer = self._number(self._read(received.content), turn)
        step = self._tell(ask, answer, started, received, cached=False)
        if self.cache is not None:
            self._store(key, ask, path, received, step, epoch)
        return answer, step

    def _read(self, content: dict[str, Any]) -> ModelAnswer:
        try:
            return self.protocol.read(content)
        except UnreadableAnswer as unreadable:
            told = read_error(msgspec.json.encode(content))[0] if "error" in content else str(unreadable)
            raise AgentFailure(self.sender.scrub(f"{self.protocol.name}: {told}")) from None

    def _number(self, answer: ModelAnswer, turn: int) -> ModelAnswer:
        """Calls without an id get one that is the same in every run, or a cache would never be met again."""
        if all(call.id for call in answer.calls):
            return answer
        calls = [call if call.id else replace(call, id=f"{MADE}{turn}-{n}") for n, call in enumerate(answer.calls)]
        return replace(answer, calls=tuple(calls))

    def _tell(self, ask: Ask, answer: ModelAnswer, started: float, received: Received, *, cached: bool) -> Step:
        model = answer.model or ask.model
        extra: dict[str, Any] = {"provider": self.protocol.name}
        usage = answer.usage
        price = self.prices.find(model) or self.prices.find(ask.model)
        if cached:
            usage = msgspec.structs.replace(usage, cost_usd=0.0)
        elif not usage.cost_usd and price is not None:
            usage = msgspec.structs.replace(usage, cost_usd=price.cost(usage, answer.cache_written))
        elif not usage.cost_usd and usage != Usage():
            extra["price"] = "unknown"
        if answer.cache_written:
            extra["cache_written"] = answer.cache_written
        if received.tries > 1:
            extra["tries"] = received.tries
        problems = {call.id: call.written[:MAX_WRITTEN] for call in answer.calls if call.problem}
        if problems or answer.problem:
            extra["malformed"] = problems or answer.problem
        return Step(
            source="agent",
            content=answer.content,
            reasoning=answer.reasoning,
            tool_calls=tuple(as_call(call) for call in answer.calls),
            model=model,
            usage=usage,
            sample=answer.sample,
            cached=cached,
            finish_reason=answer.finish_reason,
            refusal=answer.refusal,
            started=started,
            ended=time.time(),
            extra=extra,
        )

    def _store(self, key: str, ask: Ask, path: str, received: Received, step: Step, epoch: int) -> None:
        assert self.cache is not None
        entry = CachedAnswer(
            time=self.cache.now(),
            provider=self.protocol.name,
            model=ask.model,
            url=self.sender.url + path,
            answer=received.content,
            seconds=step.ended - step.started,
            epoch=epoch,
        )
        try:
            self.cache.store(key, entry)
        except OSError as error:
            raise AgentFailure(f"the cache of model calls cannot be written: {error}") from None


def as_call(call: ProposedCall) -> ToolCall:
    return ToolCall(call.id, call.name, call.arguments)
