"""The server itself and the keys of those who call it."""

from __future__ import annotations

from taskloom.wire.messages.base import Answer, Request, Role


class Health(Answer, frozen=True, kw_only=True):
    status: str
    version: str


class ServerInfo(Answer, frozen=True, kw_only=True):
    version: str
    time: float
    database: str  # sqlite or postgresql
    role: Role
    user: str
    limits: dict[str, int]


class KeyCreate(Request, frozen=True, kw_only=True):
    label: str
    role: Role = "member"
    user: str = ""  # empty: the caller's own user
    expires: float = 0.0  # epoch seconds; 0 never


class KeyInfo(Answer, frozen=True, kw_only=True):
    """`id` is the access part, shown always; the secret is told once, at creation, in `KeyCreated.key`."""

    id: str
    label: str
    user: str
    role: Role
    created: float
    last_used: float = 0.0
    expires: float = 0.0
    revoked: bool = False


class KeyCreated(Answer, frozen=True, kw_only=True):
    key: str  # `tl_<id>_<secret>`: what TASKLOOM_API_KEY holds
    info: KeyInfo


class KeyList(Answer, frozen=True, kw_only=True):
    keys: list[KeyInfo]


class UnservedCall(Answer, frozen=True, kw_only=True):
    """A call that clients of another system made and this server does not know. `last`: when, epoch seconds."""

    call: str
    count: int
    client: str = ""
    last: float = 0.0


class UnservedList(Answer, frozen=True, kw_only=True):
    calls: list[UnservedCall]
