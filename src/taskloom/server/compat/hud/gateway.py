"""The model gateway: calls of models go on to one service that speaks OpenAI's protocol, with its own key.

Which one says the setting `evals.gateway_url`; without it nothing is served. A body goes on as it came and an answer comes
back as it is, piece by piece when it streams. Which models there are is what that service says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import Response, StreamingResponse

from taskloom.domain.errors import NotFound, Unavailable
from taskloom.server.compat.hud.call import Endpoint, HudCall, Rooms, tell_id

if TYPE_CHECKING:
    import httpx

CONNECT = 10.0  # seconds until the service must have answered the call
ANSWER = 600.0  # seconds without a byte of its answer
_PASSED = ("content-type", "retry-after", "x-request-id")


def endpoints(rooms: Rooms) -> list[Endpoint]:
    service = _Service(rooms.settings.gateway_url, rooms.settings.gateway_key)

    async def completions(call: HudCall) -> Response:
        return await service.forward(call, "chat/completions")

    async def responses(call: HudCall) -> Response:
        return await service.forward(call, "responses")

    async def models(call: HudCall) -> Any:
        limit, offset = call.page()
        found = await service.models()
        return {"items": [_model(one) for one in found[offset : offset + limit]], "total": len(found)}

    return [
        Endpoint("POST", "/gateway/chat/completions", "member", completions),
        Endpoint("POST", "/gateway/responses", "member", responses),
        Endpoint("GET", "/v2/models", "viewer", models),
    ]


class _Service:
    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url.rstrip("/"), key

    def _client(self) -> httpx.AsyncClient:
        """One for each call: it ends with the answer, whoever reads that."""
        import httpx

        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = httpx.Timeout(ANSWER, connect=CONNECT)
        return httpx.AsyncClient(headers={**headers, "accept-encoding": "identity"}, timeout=timeout)

    async def forward(self, call: HudCall, path: str) -> Response:
        import httpx

        if not self._url:
            raise NotFound("this server has no model gateway: its setting evals.gateway_url is not set")
        client = self._client()
        request = client.build_request(
            "POST", f"{self._url}/{path}", content=call.raw, headers={"content-type": "application/json"}
        )
        try:
            answer = await client.send(request, stream=True)
        except httpx.HTTPError as error:
            await client.aclose()
            raise _away(error) from None
        headers = {name: answer.headers[name] for name in _PASSED if name in answer.headers}
        return StreamingResponse(_pieces(client, answer), answer.status_code, headers)

    async def models(self) -> list[str]:
        """The ids that the service lists; none without one."""
        import httpx

        if not self._url:
            return []
        async with self._client() as client:
            try:
                told: Any = (await client.get(f"{self._url}/models")).raise_for_status().json()
                entries = cast("list[Any]", told["data"])
                return [str(entry["id"]) for entry in entries]
            except httpx.HTTPError as error:
                raise _away(error) from None
            except (ValueError, KeyError, TypeError):
                raise Unavailable("the model gateway's list of models cannot be read") from None


async def _pieces(client: httpx.AsyncClient, answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    finally:
        await answer.aclose()
        await client.aclose()


def _away(error: Exception) -> Unavailable:
    return Unavailable(f"the model gateway does not answer: {type(error).__name__}", retry_after=5)


def _model(name: str) -> dict[str, Any]:
    return {
        "id": tell_id(name),
        "name": name,
        "model_name": name,
        "sdk_agent_type": "openai_compatible",
        "is_trainable": False,
        "provider": {"name": "openai"},
    }
