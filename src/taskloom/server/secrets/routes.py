"""Calls about secrets, handed to the service."""

from __future__ import annotations

from taskloom.server.call import Call, Handlers
from taskloom.server.secrets.service import SecretService
from taskloom.wire.messages import SecretInfo, SecretList, SecretsRotated


def handlers(secrets: SecretService) -> Handlers:
    async def list_secrets(call: Call) -> SecretList:
        return SecretList(secrets=await secrets.list_secrets(call.caller))

    async def put_secret(call: Call) -> SecretInfo:
        return await secrets.put_secret(call.caller, call.path["name"], call.body)

    async def delete_secret(call: Call) -> SecretInfo:
        return await secrets.delete_secret(call.caller, call.path["name"], call.query)

    async def rotate_secrets(call: Call) -> SecretsRotated:
        return SecretsRotated(secrets=await secrets.rotate_secrets(call.caller))

    return {
        "list_secrets": list_secrets,
        "put_secret": put_secret,
        "delete_secret": delete_secret,
        "rotate_secrets": rotate_secrets,
    }
