"""Keys: made at random, kept as SHA-256, checked in constant time, revoked at once.

A key is `tl_<id>_<secret>`; the id is shown in lists, the secret is told once. A valid key is remembered for a
moment, so that a busy client costs no read per request; a revocation in this process forgets it at once, one
from elsewhere is seen after `settings.revoke_within`. Wrong keys are counted by address: who tries many is sent
away for a while, but a right key is never refused for its neighbour's guesses (all programs of one machine
share an address). Here no request is known: see binding.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import uuid
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Forbidden, NotFound, TooMany, Unauthorized
from taskloom.domain.project import check_text
from taskloom.server.accounts import store
from taskloom.server.accounts.store import KeyRow
from taskloom.server.call import RANK, Caller
from taskloom.server.db import Database
from taskloom.server.settings import Clock, Settings
from taskloom.wire import connection as connection_file
from taskloom.wire.messages import KeyCreate, KeyInfo, Role

PREFIX = "tl"
ADMIN = "admin"
FIRST_LABEL = "first start"
MAX_LABEL = 256
FLUSH_SECONDS = 20.0
REMEMBERED = 10_000  # keys, and addresses with wrong keys


@dataclass(frozen=True)
class _Known:
    row: KeyRow
    until: float


class AccountService:
    def __init__(self, db: Database, clock: Clock, settings: Settings) -> None:
        self._db, self._clock, self._settings = db, clock, settings
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._used: dict[str, float] = {}
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._flusher: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------------------

    def admin_key(self, data: Path) -> str:
        """The administrator's key of this data folder: the one in its connection file while it is valid."""
        written = connection_file.read_connection(data)
        if written is not None:
            row = self._db.read_now(lambda tx: _find(tx, written.api_key))
            if row is not None and row.role == "admin" and _alive(row, self._clock()):
                return written.api_key
        return self._db.write_now(lambda tx: self._make(tx, ADMIN, FIRST_LABEL, "admin", 0.0)[0])

    async def start(self) -> None:
        self._flusher = asyncio.create_task(self._flush_for_ever())

    async def stop(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
        await self._flush()

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        """Write the times of last use: one short transaction for all, not one a request."""
        used, self._used = self._used, {}
        if used:
            await self._db.write(lambda tx: store.touch_keys(tx, used))

    # --- who asks ---------------------------------------------------------------------------------------

    async def authenticate(self, key: str, address: str) -> Caller:
        """The caller of this key; Unauthorized when it is not valid, TooMany after many that were not."""
        now = self._clock()
        access, secret = _split(key)
        row = await self._lookup(access, now)
        expected = row.secret_hash if row is not None else _hash("")
        if not hmac.compare_digest(expected, _hash(secret)) or row is None or not _alive(row, now):
            self._count_wrong(address, now)
            raise Unauthorized("this API key is not valid: unknown, revoked or expired")
        self._used[row.id] = now
        return Caller(row.user, row.user_id, row.role, row.id, row.lease)

    async def caller_of(self, access: str) -> Caller:
        """The caller of a key whose secret was checked before (a signed token names it)."""
        now = self._clock()
        row = await self._lookup(access, now)
        if row is None or not _alive(row, now):
            raise Unauthorized("this API key is not valid: unknown, revoked or expired")
        self._used[row.id] = now
        return Caller(row.user, row.user_id, row.role, row.id, row.lease)

    async def list_users(self) -> list[tuple[str, str]]:
        """(id, name) of everybody who ever had a key, in the order of their names."""
        return await self._db.read(store.list_users)

    async def still_valid(self, caller: Caller) -> bool:
        """Whether the key of a long stream may go on reading."""
        row = await self._db.read(lambda tx: store.get_key(tx, caller.key))
        return row is not None and _alive(row, self._clock())

    async def _lookup(self, access: str, now: float) -> KeyRow | None:
        known = self._known.get(access)
        if known is not None and now < known.until <= now + self._settings.revoke_within:
            return known.row
        row = await self._db.read(lambda tx: store.get_key(tx, access)) if access else None
        if row is not None:
            self._remember(row, now)
        return row

    def _remember(self, row: KeyRow, now: float) -> None:
        self._known[row.id] = _Known(row, now + self._settings.revoke_within)
        self._known.move_to_end(row.id)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _count_wrong(self, address: str, now: float) -> None:
        window = self._settings.wrong_keys_window
        tries = [t for t in self._wrong.get(address, []) if now - window < t <= now]
        if len(tries) >= self._settings.wrong_keys:
            wait = max(1, int(tries[0] + window - now) + 1)
            raise TooMany(f"too many wrong API keys from this address; try again in {wait} s", retry_after=wait)
        self._wrong[address] = [*tries, now]
        self._wrong.move_to_end(address)
        if len(self._wrong) > REMEMBERED:
            self._wrong.popitem(last=False)

    # --- keys that people make --------------------------------------------------------------------------

    async def list_keys(self, caller: Caller) -> list[KeyInfo]:
        """An administrator sees all; everybody else their own up to their role."""
        _own_person(caller)
        everybody = caller.role == "admin"
        rows = await self._db.read(lambda tx: store.list_keys(tx, None if everybody else caller.user_id))
        used = self._used
        return [
            _info(replace(row, last_used=max(row.last_used, used.get(row.id, 0.0))))
            for row in rows
            if _sees(caller, row)
        ]

    async def create_key(self, caller: Caller, wanted: KeyCreate) -> tuple[str, KeyInfo]:
        _own_person(caller)
        label = check_text(wanted.label.strip(), "label")
        if not 1 <= len(label) <= MAX_LABEL:
            raise BadInput(f"label has {len(label)} characters; expected 1 to {MAX_LABEL}")
        user = check_text(wanted.user.strip(), "user") or caller.user
        if len(user) > MAX_LABEL:
            raise BadInput(f"user has {len(user)} characters; expected at most {MAX_LABEL}")
        if not caller.may(wanted.role):
            raise Forbidden(f"a key of role {caller.role} cannot make one of role {wanted.role}")
        if user != caller.user and caller.role != "admin":
            raise Forbidden("only an administrator makes keys for others")
        if wanted.expires and not self._clock() < wanted.expires < float("inf"):
            raise BadInput("expires: expected a time in the future, in seconds since the epoch, or 0 for never")
        key, row = await self._db.write(lambda tx: self._make(tx, user, label, wanted.role, wanted.expires))
        return key, _info(row)

    async def revoke_key(self, caller: Caller, key: str) -> KeyInfo:
        """At once and for ever. What the caller may not see is as absent as what is not there."""
        _own_person(caller)

        def work(tx: Connection) -> KeyRow:
            row = store.get_key(tx, key)
            if row is None or row.lease or not _sees(caller, row):
                raise NotFound(f"no API key {key!r}")
            store.revoke_key(tx, key)
            return replace(row, revoked=True)

        row = await self._db.write(work)
        self._known.pop(key, None)
        return _info(row)

    # --- keys of leases ---------------------------------------------------------------------------------

    def create_lease_key(self, tx: Connection, user: str, lease: str, expires: float) -> str:
        """A member's key for the child of an attempt: the worker's own never reaches user code."""
        return self._make(tx, user or ADMIN, "lease", "member", expires, lease)[0]

    def extend_lease_keys(self, tx: Connection, lease: str, expires: float) -> None:
        store.extend_lease_keys(tx, lease, expires)

    def revoke_lease_keys(self, tx: Connection, lease: str) -> None:
        """They are deleted: nobody looks them up later."""
        store.delete_lease_keys(tx, lease)

    def _make(
        self, tx: Connection, user: str, label: str, role: Role, expires: float, lease: str = ""
    ) -> tuple[str, KeyRow]:
        now = self._clock()
        user_id = store.ensure_user(tx, uuid.uuid4().hex, user, now)
        access, secret = secrets.token_hex(8), secrets.token_hex(24)
        row = KeyRow(
            id=access,
            user_id=user_id,
            user=user,
            label=label,
            role=role,
            secret_hash=_hash(secret),
            created=now,
            last_used=0.0,
            expires=expires,
            revoked=False,
            lease=lease,
        )
        store.add_key(tx, row)
        return f"{PREFIX}_{access}_{secret}", row


def _find(tx: Connection, key: str) -> KeyRow | None:
    access, secret = _split(key)
    row = store.get_key(tx, access)
    return row if row is not None and hmac.compare_digest(row.secret_hash, _hash(secret)) else None


def _split(key: str) -> tuple[str, str]:
    """Access part and secret; two empty words for what cannot be a key."""
    parts = key.split("_")
    if len(parts) != 3 or parts[0] != PREFIX or not key.isascii() or not key.isprintable() or len(key) > 200:
        return "", ""
    return parts[1], parts[2]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _alive(row: KeyRow, now: float) -> bool:
    return not row.revoked and (not row.expires or now < row.expires)


def _sees(caller: Caller, row: KeyRow) -> bool:
    return caller.role == "admin" or (row.user_id == caller.user_id and RANK[row.role] <= RANK[caller.role])


def _own_person(caller: Caller) -> None:
    """The key of a running attempt must not make itself a longer life."""
    if caller.lease:
        raise Forbidden("the key of a running task cannot see, make or revoke keys")


def _info(row: KeyRow) -> KeyInfo:
    return KeyInfo(
        id=row.id,
        label=row.label,
        user=row.user,
        role=row.role,
        created=row.created,
        last_used=row.last_used,
        expires=row.expires,
        revoked=row.revoked,
    )
