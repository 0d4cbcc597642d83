"""Tunnels: an environment that a worker serves, reached through the server.

Besides the one operation there are three web sockets below it, whose keys, hosts and origins are checked like those of
a call: `/listen`, which the serving process holds and on which it is told `{"dial": N}`; `/accept/N`, which it opens for
each such word; `/connect`, which whoever wants a connection opens. What either end sends in binary messages arrives at
the other, in order; when one end closes, so does the other.
"""

from __future__ import annotations

from taskloom.wire.messages.base import Answer, Request

TUNNEL_MESSAGE = 2**20  # bytes of one message of a tunnel


class TunnelQuery(Request, frozen=True, kw_only=True):
    """Query string. `wait`: seconds (at most 30) for which the answer may be put off until somebody listens."""

    wait: float = 0.0


class TunnelState(Answer, frozen=True, kw_only=True):
    """Whether the task's process listens, and how many connections it has."""

    listening: bool = False
    connections: int = 0


class Dial(Answer, frozen=True, kw_only=True):
    """What a listener is told: somebody waits to be accepted under this number."""

    dial: int
