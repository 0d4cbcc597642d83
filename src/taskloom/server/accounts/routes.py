"""Calls about keys, handed to the service."""

from __future__ import annotations

from taskloom.server.accounts.service import AccountService
from taskloom.server.call import Call, Handlers
from taskloom.wire.messages import KeyCreated, KeyInfo, KeyList


def handlers(accounts: AccountService) -> Handlers:
    async def list_keys(call: Call) -> KeyList:
        return KeyList(keys=await accounts.list_keys(call.caller))

    async def create_key(call: Call) -> KeyCreated:
        key, info = await accounts.create_key(call.caller, call.body)
        return KeyCreated(key=key, info=info)

    async def revoke_key(call: Call) -> KeyInfo:
        return await accounts.revoke_key(call.caller, call.path["key"])

    return {"list_keys": list_keys, "create_key": create_key, "revoke_key": revoke_key}
