"""Weights that were replaced before they were sent: only the newest of a model are worth sending.

A script that saves a model after every epoch writes faster than a slow line takes. Whoever records new weights may
remove the copy of the ones before (see `sdk.weight_files`), since the server would have dropped them anyway. What
else the older record tells stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskloom.wire.records import ModelStored, Record

BYTES = ("digest", "size", "filename", "uri", "fingerprint", "contents")
"""The fields of a model that name its weights."""


def newest_weights(records: Sequence[Record]) -> list[Record]:
    """The same records, but of each model only the last one that names weights does."""
    seen: set[str] = set()
    found: list[Record] = []
    for record in reversed(records):
        if isinstance(record, ModelStored) and names_weights(record):
            if record.model.id in seen:
                found.append(without_weights(record))
                continue
            seen.add(record.model.id)
        found.append(record)
    return found[::-1]


def names_weights(record: ModelStored) -> bool:
    """Whether it tells where the bytes are, or that there are none, and so replaces what was told before."""
    return not record.changed or not {"digest", "uri"}.isdisjoint(record.changed)


def without_weights(record: ModelStored) -> ModelStored:
    blank = {"digest": "", "size": 0, "filename": "", "uri": "", "fingerprint": "", "contents": ""}
    fields = record.changed or type(record.model).__struct_fields__
    kept = tuple(name for name in fields if name not in BYTES) or ("id",)  # none at all would mean all of them
    return msgspec.structs.replace(record, model=msgspec.structs.replace(record.model, **blank), changed=kept)
