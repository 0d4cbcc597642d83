"""Processes that an earlier process of this worker may have left: found by the lease in their environment.

The supervisor of a child ends it when the worker dies; this is for the day on which somebody killed that one,
too. Only processes of this user are seen, and only those that carry the very token.
"""

from __future__ import annotations

import contextlib
import os

import psutil

from taskloom.wire.worker_protocol import ENV_LEASE


def kill_leftovers(tokens: set[str]) -> int:
    """Kill every process that runs under one of these leases; how many there were."""
    count = 0
    for process in psutil.process_iter():
        if process.pid == os.getpid() or not tokens:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(ENV_LEASE) in tokens:
                process.kill()
                count += 1
    return count
