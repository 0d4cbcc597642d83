"""Values as JSON, the way the control channel sends them: also Pydantic's models, which authors yield and agents answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def plain(value: Any) -> Any:
    """For what JSON does not have: Pydantic's models as their data. TypeError for others."""
    dump = getattr(value, "model_dump", None)
    if dump is None or isinstance(value, type):
        raise TypeError(
            f"{type(value).__name__} is no JSON: expected texts, numbers, lists, dicts or Pydantic models"
        )
    return dump(mode="json")


_ENCODER = msgspec.json.Encoder(enc_hook=plain)


def encode(value: Any) -> bytes:
    """JSON. TypeError for what has none; NaN and infinities become null."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:  # half of a surrogate pair: only escapes can carry it
        return json.dumps(value, default=plain, separators=(",", ":")).encode()
    except RecursionError:
        raise TypeError("the value is nested too deeply for JSON") from None
