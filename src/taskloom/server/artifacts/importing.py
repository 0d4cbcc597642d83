"""Models brought over from another server, kept as they were: id, times, user, published or not."""

from __future__ import annotations

import math
from collections.abc import Callable

from sqlalchemy import Connection

from taskloom.domain.artifact import Model
from taskloom.domain.errors import BadInput
from taskloom.server.artifacts import store

Check = Callable[[Connection, Model], Model]


def put_model(tx: Connection, model_id: str, wanted: Model, check: Check) -> Model:
    """Write it, unless it was changed here since; the model as it is now. Links of tasks to it are the tasks'."""
    if wanted.id != model_id:
        raise BadInput(f"the model's id {wanted.id[:80]!r} is not that of the address, {model_id}")
    for name in ("created", "last_update"):
        if not 0 <= getattr(wanted, name) < math.inf:
            raise BadInput(f"model {name}: expected seconds since the epoch")
    found = store.find_model(tx, model_id)
    if found is not None and found.last_update > wanted.last_update:
        return found
    model = check(tx, wanted)
    store.put_model(tx, model)
    if found is not None and found.digest != model.digest:
        store.unname(tx, [found.digest])
    return model
