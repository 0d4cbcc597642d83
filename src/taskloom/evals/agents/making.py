"""Agents from data and data from agents: what a job keeps of its agent, a hosted run begins with, a command line says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, cast

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.evals.agents.python import load_callable, spec_of_callable

MODELS = {"openai", "openai-responses", "anthropic", "gemini"}
SYNONYMS = {
    "claude": "anthropic",
    "google": "gemini",
    "openai_compatible": "openai",
    "openai-chat": "openai",
    "openai_responses": "openai-responses",
    "responses": "openai-responses",
}
TYPES = (*sorted(MODELS), "scripted", "replay", "python")
_SHAPES = "openai, openai-responses, anthropic, gemini, scripted:ANSWER, replay:JOB, FILE.py:NAME or MODULE:NAME"


def make_agent(spec: dict[str, Any]) -> Any:
    """The agent of a spec, `{"type": ..., "config": {...}}`. BadInput for what is none."""
    kind = SYNONYMS.get(str(spec.get("type", "")), str(spec.get("type", "")))
    config: Any = spec.get("config") or {}
    if kind not in TYPES or not isinstance(config, dict):
        raise BadInput(f"agent {spec!r:.200}: expected a type ({', '.join(TYPES)}) and a config")
    options = dict(cast("dict[str, Any]", config))
    if kind == "python":
        return load_callable(options)
    try:
        return _make(kind, options)
    except (TypeError, ValueError) as error:
        raise BadInput(f"agent {kind}: {_plain(error)}") from None


def spec_of(agent: Any) -> dict[str, Any]:
    """What makes this agent again, as JSON. An agent's own `spec()`, else where its code stands and a digest of it."""
    own = None if inspect.isclass(agent) else getattr(agent, "spec", None)
    if not callable(own):
        return spec_of_callable(agent)
    spec: Any = own()
    if not isinstance(spec, dict) or "type" not in spec:
        raise TypeError(
            f"{type(agent).__name__}.spec() gave {spec!r:.80}: expected an object with type and config"
        )
    try:
        return cast("dict[str, Any]", msgspec.to_builtins(spec))
    except TypeError as error:
        raise TypeError(f"{type(agent).__name__}.spec() is not JSON: {error}") from None


def parse_agent(text: str, model: str | None = None, **options: Any) -> Any:
    """The agent that a command line names; BadInput says what it may name. options: as its class takes them.

    `openai` and the other providers want `model`, or `openai:MODEL`. `scripted:42` answers 42, `replay:JOB` as that
    job's runs, `agent.py:solve` and `package.module:solve` are Python.
    """
    head, colon, rest = text.partition(":")
    kind = SYNONYMS.get(head, head)
    told = {key: value for key, value in options.items() if value is not None}
    if kind in MODELS:
        if colon and model and rest != model:
            raise BadInput(
                f"agent {text!r}: the model is {rest!r} there and {model!r} beside it: expected one of them"
            )
        if not (rest or model):
            raise BadInput(f"agent {text!r}: expected a model, as {head}:MODEL or with --model MODEL")
        return make_agent({"type": kind, "config": {**told, "model": rest or model}})
    if kind == "scripted":
        return make_agent({"type": kind, "config": {**told, "answer": rest, "model": model or ""}})
    if kind == "replay" and rest:
        return make_agent({"type": kind, "config": {**told, "source": rest}})
    path, colon, attribute = text.rpartition(":")
    if not colon or not path or not attribute.replace(".", "_").isidentifier():
        raise BadInput(f"agent {text!r}: expected {_SHAPES}")
    if told:
        raise BadInput(f"agent {text!r}: {', '.join(sorted(told))}: an agent in Python takes no options here")
    agent = load_callable({"path": path, "attribute": attribute})
    if model:
        _name_model(agent, model)
    return agent


def _name_model(agent: Any, model: str) -> None:
    """For jobs and leaderboards; an agent that says its own model keeps it."""
    if not getattr(agent, "model", ""):
        try:
            agent.model = model
        except AttributeError:
            raise BadInput("--model: this agent cannot be told of a model") from None


def _make(kind: str, options: dict[str, Any]) -> Any:
    match kind:
        case "openai":
            from taskloom.evals.agents.openai_chat import OpenAIAgent as maker
        case "openai-responses":
            from taskloom.evals.agents.openai_responses import OpenAIResponsesAgent as maker
        case "anthropic":
            from taskloom.evals.agents.anthropic import AnthropicAgent as maker
        case "gemini":
            from taskloom.evals.agents.gemini import GeminiAgent as maker
        case "replay":
            from taskloom.evals.agents.replay import ReplayAgent as maker
        case _:
            from taskloom.evals.agents.scripted import ScriptedAgent as maker

            if isinstance(options.get("function"), dict):
                options["function"] = load_callable(options["function"])
    if isinstance(options.get("cache"), dict):
        from taskloom.evals.agents.cache import ModelCache

        options["cache"] = ModelCache(**options["cache"])
    return cast("Callable[..., Any]", maker)(**options)


def _plain(error: Exception) -> str:
    """Without the name of a constructor, which no user wrote."""
    return re.sub(r"\w+\.__init__\(\) ", "", str(error))
