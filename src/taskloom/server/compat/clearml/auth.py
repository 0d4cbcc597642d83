"""Login and who one is: our API keys are ClearML's credentials.

A key `tl_<id>_<secret>` is the access key `<id>` with the secret key `<secret>`. Users are the names behind keys.
"""

from __future__ import annotations

from typing import Any

from taskloom.domain.errors import TaskloomError
from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoint,
    Endpoints,
    Rooms,
    needed,
    number,
    reads,
    text,
    texts,
)
from taskloom.server.compat.clearml.errors import INVALID_USER, Refusal
from taskloom.server.compat.clearml.tokens import (
    API_VERSION,
    COMPANY,
    COMPANY_NAME,
    LONGEST,
    SERVER_VERSION,
    SHORTEST,
    Tokens,
)
from taskloom.wire.messages import KeyCreate

PREFIX = "tl_"


def whole_key(access: str, secret: str) -> str:
    """Our API key of the two words that a client has; whichever form a person copied into them."""
    if secret.startswith(PREFIX):
        return secret
    access = access.removeprefix(PREFIX).partition("_")[0]
    return f"{PREFIX}{access}_{secret}"


def two_words(key: str) -> tuple[str, str]:
    """(access key, secret key) of one of our API keys."""
    access, _, secret = key.removeprefix(PREFIX).partition("_")
    return access, secret


def endpoints(rooms: Rooms, tokens: Tokens) -> Endpoints:
    async def login(call: ClearMLCall) -> Data:
        seconds = number(call.body, "expiration_sec", LONGEST, SHORTEST, LONGEST)
        return {"token": tokens.make(call.caller, seconds)}

    async def validate_token(call: ClearMLCall) -> Data:
        try:
            key = tokens.key_of(needed(call.body, "token"))
            await rooms.accounts.caller_of(key)
        except TaskloomError as error:
            return {"valid": False, "msg": error.message}
        return {"valid": True, "msg": ""}

    async def create_credentials(call: ClearMLCall) -> Data:
        label = text(call.body, "label") or "made by a ClearML client"
        key, _ = await rooms.accounts.create_key(call.caller, KeyCreate(label=label, role=call.caller.role))
        access, secret = two_words(key)
        return {"credentials": {"access_key": access, "secret_key": secret, "label": label}}

    async def get_credentials(call: ClearMLCall) -> Data:
        keys = await rooms.accounts.list_keys(call.caller)
        mine = [key for key in keys if key.user == call.caller.user and not key.revoked]
        return {"credentials": [{"access_key": key.id, "label": key.label} for key in mine]}

    async def revoke_credentials(call: ClearMLCall) -> Data:
        await rooms.accounts.revoke_key(call.caller, needed(call.body, "access_key"))
        return {"revoked": 1}

    async def current_user(call: ClearMLCall) -> Data:
        user = {**_user(call.caller.user_id, call.caller.user), "role": call.caller.role}
        user["company"] = {"id": COMPANY, "name": COMPANY_NAME}
        return {"user": user, "getting_started": None}

    async def get_users(call: ClearMLCall) -> Data:
        wanted = set(texts(call.body, "id"))
        found = await rooms.accounts.list_users()
        return {"users": [_user(i, name) for i, name in found if not wanted or i in wanted]}

    async def get_user(call: ClearMLCall) -> Data:
        wanted = needed(call.body, "user")
        found = [_user(i, name) for i, name in await rooms.accounts.list_users() if i == wanted]
        if not found:
            raise Refusal(f"no user {wanted[:80]!r}", 400, INVALID_USER)
        return {"user": found[0]}

    async def info(call: ClearMLCall) -> Data:
        return {"version": SERVER_VERSION, "build": "", "commit": "", "endpoints_version": API_VERSION}

    async def ping(call: ClearMLCall) -> Data:
        return {"msg": "pong"}

    return {
        "auth.login": reads(login),
        "auth.validate_token": reads(validate_token),
        "auth.create_credentials": Endpoint(create_credentials, "member"),
        "auth.get_credentials": reads(get_credentials),
        "auth.revoke_credentials": Endpoint(revoke_credentials, "member"),
        "users.get_current_user": reads(current_user),
        "users.get_all": reads(get_users),
        "users.get_all_ex": reads(get_users),
        "users.get_by_id": reads(get_user),
        "server.info": reads(info),
        "debug.ping": reads(ping),
    }


def _user(user_id: str, name: str) -> dict[str, Any]:
    given, _, family = name.partition(" ")
    return {"id": user_id, "name": name, "given_name": given, "family_name": family, "company": COMPANY}
