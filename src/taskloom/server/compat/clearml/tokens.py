"""The tokens of ClearML's clients: a signed word that names an API key, so that the key itself is sent once.

A token is no second right: every request looks up the key that it names, and a revoked key ends its tokens at
once. The clients read the claims without checking them; what they need to see stands in `_claims`. The secret
that signs is made at the first start and kept in a file of its own, so that a copy of the database forges nothing.
"""

from __future__ import annotations

import os
import secrets
from collections import OrderedDict
from pathlib import Path
from typing import Any

from taskloom.server.call import Caller
from taskloom.server.compat.clearml.errors import BAD_TOKEN, Refusal
from taskloom.server.settings import Clock

API_VERSION = "2.34"
SERVER_VERSION = "2.3.0"
COMPANY = "d1bd92a3b039400cbafc60a7a5b1e52b"  # there is one; the clients want an id
COMPANY_NAME = "Taskloom"
DAY = 86_400
LONGEST = 30 * DAY
SHORTEST = 60
_ALGORITHM = "HS256"
_REMEMBERED = 10_000
_ROLES = {"admin": "admin", "member": "user", "viewer": "guest"}


class Tokens:
    def __init__(self, file: Path, clock: Clock) -> None:
        self._secret, self._clock = _secret(file), clock
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def make(self, caller: Caller, seconds: int) -> str:
        now = self._clock()
        claims = _claims(caller, now, now + min(max(seconds, SHORTEST), LONGEST))
        return str(_jwt().encode(claims, self._secret, _ALGORITHM))

    def key_of(self, token: str) -> str:
        """The access part of the key that the token stands for; Refusal 401/30 when it is not valid."""
        now = self._clock()
        key, ends = self._known.get(token) or self._read(token)
        if now >= ends:
            raise Refusal("the token has expired; log in again", 401, BAD_TOKEN)
        return key

    def _read(self, token: str) -> tuple[str, float]:
        jwt = _jwt()
        try:
            options = {"require": ["exp", "key"], "verify_exp": False, "verify_iat": False}
            claims: dict[str, Any] = jwt.decode(token, self._secret, [_ALGORITHM], options)
            found = str(claims["key"]), float(claims["exp"])
        except (jwt.PyJWTError, TypeError, ValueError):
            raise Refusal("the token is not valid; log in again", 401, BAD_TOKEN) from None
        self._known[token] = found
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found


def _jwt() -> Any:
    """Loaded by the first login: a start does not wait for it."""
    import jwt

    return jwt


def _claims(caller: Caller, now: float, ends: float) -> dict[str, Any]:
    identity = {
        "user": caller.user_id,
        "user_name": caller.user,
        "company": COMPANY,
        "company_name": COMPANY_NAME,
        "role": _ROLES[caller.role],
    }
    return {
        "iat": int(now),
        "exp": int(ends),
        "auth_type": "Bearer",
        "key": caller.key,
        "identity": identity,
        "env": "taskloom",
        "api_version": API_VERSION,
        "server_version": SERVER_VERSION,
        "server_build": "",
        "feature_set": "basic",
    }


def _secret(file: Path) -> bytes:
    """Made once; readable by its owner only."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        found = file.read_bytes()
        if len(found) >= 32:
            return found
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)  # a crash while it was made
    fresh = secrets.token_bytes(32)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(fresh)
        opened.flush()
        os.fsync(opened.fileno())
    return fresh
