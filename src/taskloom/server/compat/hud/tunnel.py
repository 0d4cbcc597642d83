"""The web socket of a leased environment, as HUD's client opens one: on to the tunnel of the task that serves it.

A client knocks as soon as it has its session, before a worker has even taken the task: it is let wait a moment and then
told to come again, which it does.
"""

from __future__ import annotations

from starlette.types import Receive, Send

from taskloom.domain.errors import Unavailable
from taskloom.server.call import Caller
from taskloom.server.compat.hud.call import read_id
from taskloom.server.tunnels.door import TunnelDoor
from taskloom.server.tunnels.service import TunnelService

PREFIX = "/hud/runtime/tunnels/"
WAIT = 5.0  # seconds that a connection waits for the environment, less than clients have patience


class HudTunnels:
    """A door for web sockets: HUD's, and all others as before."""

    def __init__(self, door: TunnelDoor, tunnels: TunnelService) -> None:
        self._door, self._tunnels = door, tunnels

    async def __call__(self, caller: Caller, raw_path: str, receive: Receive, send: Send) -> None:
        if raw_path.startswith(PREFIX):
            task = read_id(raw_path.removeprefix(PREFIX).rstrip("/"), "session")
            state = await self._tunnels.state(caller, task, WAIT)
            if not state.listening:
                raise Unavailable("the environment is not served yet; come again", retry_after=1)
            raw_path = f"/api/tunnels/{task}/connect"
        await self._door(caller, raw_path, receive, send)
