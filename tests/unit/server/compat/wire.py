"""A ClearML client reduced to its requests: JSON bodies sent as GET, the envelope opened, refusals told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx
from tests.conftest import House


class Refused(AssertionError):
    """An answer other than 200, with the code and subcode of its envelope."""

    def __init__(self, name: str, meta: dict[str, Any]) -> None:
        self.code, self.subcode, self.message = meta["result_code"], meta["result_subcode"], meta["result_msg"]
        super().__init__(f"{name}: {self.code}/{self.subcode} {self.message}")


class ClearMLWire:
    """Speaks to one house with one of its keys (the administrator's by default)."""

    def __init__(self, house: House, key: str = "") -> None:
        self.url = house.url
        self.http = httpx.Client(headers={"authorization": f"Bearer {key or house.key}"}, timeout=60)

    def call(self, name: str, /, **fields: Any) -> dict[str, Any]:
        """`data` of the answer. A field called `class_` and the like is sent without the underscore."""
        body = {field.removesuffix("_") if field[0] != "_" else field: value for field, value in fields.items()}
        return self.send(name, json.dumps(body).encode(), "application/json")

    def batch(self, events: Iterable[dict[str, Any]]) -> dict[str, Any]:
        lines = "\n".join(json.dumps(event) for event in events)
        return self.send("events.add_batch", lines.encode(), "application/json-lines")

    def send(self, name: str, content: bytes, kind: str) -> dict[str, Any]:
        url = f"{self.url}/v2.23/{name}"
        answer = self.http.request("GET", url, content=content, headers={"content-type": kind})
        envelope = answer.json()
        meta = envelope["meta"]
        assert answer.status_code == meta["result_code"], envelope
        if meta["result_code"] != 200:
            raise Refused(name, meta)
        return envelope["data"]
