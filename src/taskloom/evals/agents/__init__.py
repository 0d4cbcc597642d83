"""Agents: what acts in an environment and is graded.

Any `async def agent(run)` is one (see contract). Shipped are those of four providers' protocols, which share one loop,
one that answers from a script, and one that replays a job. The names below load their modules when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskloom.evals.agents.anthropic import AnthropicAgent
    from taskloom.evals.agents.cache import ModelCache
    from taskloom.evals.agents.contract import Agent
    from taskloom.evals.agents.gemini import GeminiAgent
    from taskloom.evals.agents.making import make_agent, parse_agent, spec_of
    from taskloom.evals.agents.openai_chat import OpenAIAgent
    from taskloom.evals.agents.openai_responses import OpenAIResponsesAgent
    from taskloom.evals.agents.prices import Price, Prices
    from taskloom.evals.agents.replay import ReplayAgent
    from taskloom.evals.agents.scripted import ScriptedAgent

_PLACES = {
    "Agent": "contract",
    "AnthropicAgent": "anthropic",
    "GeminiAgent": "gemini",
    "ModelCache": "cache",
    "OpenAIAgent": "openai_chat",
    "OpenAIResponsesAgent": "openai_responses",
    "Price": "prices",
    "Prices": "prices",
    "ReplayAgent": "replay",
    "ScriptedAgent": "scripted",
    "make_agent": "making",
    "parse_agent": "making",
    "spec_of": "making",
}

__all__ = [
    "Agent",
    "AnthropicAgent",
    "GeminiAgent",
    "ModelCache",
    "OpenAIAgent",
    "OpenAIResponsesAgent",
    "Price",
    "Prices",
    "ReplayAgent",
    "ScriptedAgent",
    "make_agent",
    "parse_agent",
    "spec_of",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'taskloom.evals.agents' has no attribute {name!r}")
    value = getattr(import_module(f"taskloom.evals.agents.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
