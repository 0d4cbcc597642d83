"""Every call of HUD's client that this server answers."""

from __future__ import annotations

from taskloom.server.compat.hud import gateway, jobs, places, rollouts, tasksets, traces
from taskloom.server.compat.hud.call import Endpoint, Rooms
from taskloom.server.compat.hud.reporting import Reporter


def every_endpoint(rooms: Rooms, reporter: Reporter) -> list[Endpoint]:
    """The first that matches answers."""
    return [
        *places.endpoints(rooms),
        *tasksets.endpoints(rooms),
        *jobs.endpoints(rooms, reporter),
        *traces.endpoints(rooms, reporter),
        *rollouts.endpoints(rooms, reporter),
        *gateway.endpoints(rooms),
    ]
