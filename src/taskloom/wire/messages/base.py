"""What every message is: a request that refuses unknown fields, or an answer whose unknown fields are ignored."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Role = Literal["viewer", "member", "admin"]
"""viewer reads; member also writes, runs and deletes; admin also manages users and keys."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """Base of request bodies: an unknown field is a 400 that names it."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of answers: clients ignore fields they do not know."""


class Done(Answer, frozen=True, kw_only=True):
    """Nothing more to say."""


class Deleted(Answer, frozen=True, kw_only=True):
    """external: by task, addresses of bytes in its own folders at storage destinations, which nobody names any more.

    This server has no credentials for them: whoever deletes removes them, see `journal.removal`.
    """

    external: dict[str, list[str]] = {}


class Fault(Answer, frozen=True, kw_only=True):
    """Body of every error: `{"error": {"code", "message", "details"}}`."""

    error: FaultBody


class FaultBody(Answer, frozen=True, kw_only=True):
    code: str
    message: str
    details: dict[str, Any] = {}
