"""Every ClearML call that is served, from the modules that answer them; two answers for one are our mistake."""

from __future__ import annotations

from taskloom.domain.errors import ServerFault
from taskloom.server.compat.clearml import (
    auth,
    events,
    finding,
    lives,
    models,
    project_contents,
    projects,
    queues,
    task_parts,
    tasks,
    workers,
)
from taskloom.server.compat.clearml.call import Endpoint, Endpoints, Rooms
from taskloom.server.compat.clearml.tokens import Tokens


def every_endpoint(rooms: Rooms, tokens: Tokens) -> Endpoints:
    whole: dict[str, Endpoint] = {}
    for part in (
        auth.endpoints(rooms, tokens),
        tasks.endpoints(rooms),
        finding.endpoints(rooms),
        task_parts.endpoints(rooms),
        lives.endpoints(rooms),
        events.endpoints(rooms),
        models.endpoints(rooms),
        projects.endpoints(rooms),
        project_contents.endpoints(rooms),
        queues.endpoints(rooms),
        workers.endpoints(rooms),
    ):
        twice = whole.keys() & part.keys()
        if twice:
            raise ServerFault(f"ClearML calls with two answers: {', '.join(sorted(twice))}")
        whole.update(part)
    return whole
