"""Calls about tunnels, handed to the service. The web sockets stand in door."""

from __future__ import annotations

from taskloom.server.call import Call, Handlers
from taskloom.server.tunnels.service import TunnelService
from taskloom.wire.messages import TunnelState


def handlers(tunnels: TunnelService) -> Handlers:
    async def get_tunnel(call: Call) -> TunnelState:
        return await tunnels.state(call.caller, call.path["task"], call.query.wait)

    return {"get_tunnel": get_tunnel}
