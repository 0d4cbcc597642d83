"""The seam to a model's provider: how a call is written and how its answer is read.

A protocol has no state, sends nothing and knows no retries (see sending), tools or runs (see loop): it translates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from taskloom.evals.agents.conversation import Item, ModelAnswer


class UnreadableAnswer(Exception):
    """The answer is JSON, and not what the protocol says. Written for people."""


@dataclass(frozen=True, slots=True)
class ToolForm:
    """A tool as a model is told of it. schema: JSON Schema of its arguments, an object."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """What one model call is asked. extra: fields that are put into the body as they are, over what stands there."""

    model: str
    history: Sequence[Item]
    system: str = ""
    tools: Sequence[ToolForm] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    official: bool = True  # the provider's own address, no compatible server


class ModelProtocol(Protocol):
    """name: of the provider, as traces and caches have it. The variables are looked at in order."""

    name: str
    default_url: str
    url_variables: tuple[str, ...]
    key_variables: tuple[str, ...]

    def path(self, model: str) -> str:
        """Behind the base URL, with its slash."""
        ...

    def headers(self, key: str) -> dict[str, str]: ...

    def body(self, ask: Ask) -> dict[str, Any]:
        """ORDER the history's; every call of an answer has its result in the item behind it."""
        ...

    def read(self, answer: dict[str, Any]) -> ModelAnswer:
        """UnreadableAnswer when it holds no answer at all."""
        ...


def put(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The body with those fields that have a value."""
    body.update({name: value for name, value in fields.items() if value is not None})
    return body
