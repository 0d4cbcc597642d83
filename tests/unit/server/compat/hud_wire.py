"""HUD's client reduced to its requests, for tests that say what comes over the wire."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import httpx


class Wire:
    """Calls of one key. Every answer must be JSON; an error has a detail and is none of the server's own."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/hud", headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def close(self) -> None:
        self._client.close()

    def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        answer = self._client.request(method, path, **options)
        told = answer.json()
        assert answer.status_code == status, (method, path, answer.status_code, told)
        if status >= 400:
            assert set(told) == {"detail"} and isinstance(told["detail"], str) and told["detail"]
            return told["detail"]
        return told

    def get(self, path: str, status: int = 200, **params: Any) -> Any:
        return self.ask("GET", path, status, params=params)

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        return self.ask("POST", path, status, json=body)

    # --- what its engine reports ------------------------------------------------------------------------

    def enter_job(self, **fields: Any) -> str:
        job = uuid.uuid4().hex
        self.post(f"/v2/trace/job/{job}/enter", {"name": "trial", "group": 1, **fields})
        return job

    def enter(self, job: str, slug: str = "add-1", **fields: Any) -> str:
        trace = uuid.uuid4().hex
        self.post(f"/v2/trace/{trace}/enter", {"job_id": job, "group_id": "g", "task_slug": slug, **fields})
        return trace

    def exit(self, trace: str, **fields: Any) -> None:
        self.post(f"/v2/trace/{trace}/exit", {"status": "completed", **fields})

    def upload(self, trace: str, *spans: Any) -> Any:
        return self.post(f"/telemetry/trace/{trace}/telemetry-upload", {"telemetry": list(spans)})


def span(number: int, source: str = "agent", **payload: Any) -> dict[str, Any]:
    """The span of a trace's step `number`."""
    at = datetime.fromtimestamp(1_800_000_000 + number, UTC).isoformat().replace("+00:00", "Z")
    return {
        "name": f"step.{source}",
        "trace_id": "0" * 32,
        "span_id": f"{number:016x}",
        "start_time": at,
        "end_time": at,
        "status_code": "OK",
        "attributes": {
            "hud.schema": "hud.step.v1",
            "hud.payload": {"source": source, "step_id": number, "started_at": at, "ended_at": at, **payload},
        },
        "events": [],
    }
