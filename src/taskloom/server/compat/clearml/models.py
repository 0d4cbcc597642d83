"""Models. To come."""

from __future__ import annotations

from taskloom.server.compat.clearml.call import Endpoints, Rooms


def endpoints(rooms: Rooms) -> Endpoints:
    return {}
