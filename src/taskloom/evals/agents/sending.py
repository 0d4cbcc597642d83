"""Calls to a provider over HTTP: retries, and errors for people.

What is sent and what the answer means is the protocol's; connections are kept by `pools`. A key goes into headers alone: it is read when a call is
made, and taken out of whatever a provider says.

ORDER  connection errors, time-outs and the statuses 408, 409, 429 and 5xx are tried again, after pauses that double
and are jittered, or what the provider asks for; so is an answer that breaks off. Other statuses are errors at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from taskloom.evals.agents.pools import Pools
from taskloom.evals.agents.protocol import ModelProtocol
from taskloom.evals.agents.reading import as_list, as_object, as_text
from taskloom.evals.failures import AgentFailure

if TYPE_CHECKING:
    import httpx

PAUSE = 0.5  # seconds before the first retry
PAUSE_MOST = 30.0  # seconds, what doubling ends at
RETRY_AFTER_MOST = 120.0  # seconds that a provider may ask us to wait
MAX_ANSWER = 64 * 2**20  # bytes
MAX_MESSAGE = 1000  # characters of a provider's message that are told
SHORTEST_KEY = 6  # characters; what is shorter is a placeholder for a server that wants none
RETRIED = {408, 409, 429}
HOPELESS = {"insufficient_quota", "billing_hard_limit_reached"}  # 429, and no waiting helps


@dataclass(frozen=True, slots=True)
class Received:
    """A provider's answer. `tries`: 1 when the first one came through."""

    content: dict[str, Any]
    tries: int


class _Again(Exception):
    """This try failed; another one may not. `wait`: seconds that the provider asked for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


@dataclass
class Sender:
    """url: without a slash at its end. timeout: seconds of one try. sleep and chance: handed in by tests."""

    protocol: ModelProtocol
    url: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 600.0
    retries: int = 5
    pause: float = PAUSE
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep
    chance: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        self.pools = Pools(self.url, self.timeout)

    def find_key(self) -> str:
        """The key that was given, else the environment's; '' where there is none."""
        if self.key is not None:
            return self.key.strip()
        return next((key for name in self.protocol.key_variables if (key := os.environ.get(name, "").strip())), "")

    @property
    def official(self) -> bool:
        return self.url == self.protocol.default_url

    def check(self) -> None:
        """AgentFailure when the provider's own address is meant and no key is there, or one that is no header."""
        key = self.find_key()
        names = " or ".join(self.protocol.key_variables)
        if self.official and not key:
            raise AgentFailure(f"no key for {self.protocol.name}: set {names}, or give api_key=")
        if not (key.isascii() and (key.isprintable() or not key)) or " " in key:
            raise AgentFailure(
                f"the key for {self.protocol.name} ({names}, or api_key=) is none: it has odd characters"
            )

    async def post(self, path: str, body: bytes) -> Received:
        """AgentFailure when no try brought an answer."""
        self.check()
        tries = 0
        while True:
            tries += 1
            try:
                return Received(await self._post_once(path, body), tries)
            except _Again as again:
                if tries > self.retries:
                    times = f" ({tries} tries)" if tries > 1 else ""
                    raise AgentFailure(self.scrub(f"{self.protocol.name}: {again.reason}{times}")) from None
                await self.sleep(self._pause(tries, again.wait))

    def _pause(self, tries: int, asked: float | None) -> float:
        if asked is not None:
            return min(asked, RETRY_AFTER_MOST)
        return min(PAUSE_MOST, self.pause * 2 ** (tries - 1)) * (0.5 + self.chance() / 2)

    async def _post_once(self, path: str, body: bytes) -> dict[str, Any]:
        import httpx

        key = self.find_key()
        headers = {"Content-Type": "application/json", **self.protocol.headers(key), **self.headers}
        pools = await self.pools.here()
        try:
            with pools.borrow() as client:
                async with (
                    asyncio.timeout(self.timeout),
                    client.stream("POST", self.url + path, content=body, headers=headers) as response,
                ):
                    content = await _read(response)
        except TimeoutError:
            raise _Again(f"no answer within {self.timeout:g} s") from None
        except httpx.TransportError as error:
            raise _Again(f"no answer from {self.url}: {str(error) or type(error).__name__}") from None
        except (httpx.InvalidURL, httpx.DecodingError, ValueError) as error:
            raise AgentFailure(self.scrub(f"{self.protocol.name}: {self.url}: {error}")) from None
        if not 200 <= response.status_code < 300:
            raise self._refused(response.status_code, response.headers, content)
        return _decode(content)

    def _refused(self, status: int, headers: Mapping[str, str], content: bytes) -> Exception:
        message, code = read_error(content)
        reason = f"{status} {message}".strip()
        told = headers.get("x-should-retry", "").lower()
        again = (status in RETRIED or status >= 500) and code not in HOPELESS and told != "false"
        if again or told == "true":
            wait = read_retry_after(headers, time.time())
            return _Again(reason, read_retry_delay(content) if wait is None else wait)
        return AgentFailure(self.scrub(f"{self.protocol.name} answered {reason}"))

    def scrub(self, text: str) -> str:
        """A message without the key: some providers repeat it."""
        key = self.find_key()
        return text.replace(key, "***") if len(key) >= SHORTEST_KEY else text

    async def close(self) -> None:
        """Close this event loop's connections now."""
        await self.pools.close()


async def _read(response: httpx.Response) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > MAX_ANSWER:
            raise ValueError(f"the answer is longer than {MAX_ANSWER} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _decode(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise _Again(f"the answer is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise _Again(f"the answer is {type(value).__name__}: expected a JSON object")
    return as_object(value)


def read_error(content: bytes) -> tuple[str, str]:
    """The message and the code of an error's body, in the shapes that providers and compatible servers have."""
    try:
        value = json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace").strip()[:MAX_MESSAGE], ""
    body = as_object(as_list(value)[0] if as_list(value) else value)
    error = as_object(body.get("error"))
    told = (error.get("message"), body.get("error"), body.get("message"), body.get("detail"))
    message = next((text for one in told if (text := as_text(one))), "") or json.dumps(value)
    code = as_text(error.get("code")) or as_text(error.get("type"))
    return message[:MAX_MESSAGE], code


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait from `retry-after-ms` or `Retry-After` (seconds or a date); None where neither says one."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * scale)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - now)
    except (KeyError, ValueError, TypeError):
        return None


def read_retry_delay(content: bytes) -> float | None:
    """The same from an error's details, as Google tells it: `"retryDelay": "32s"`."""
    try:
        value = json.loads(content)
    except ValueError:
        return None
    error = as_object(as_object(as_list(value)[0] if as_list(value) else value).get("error"))
    for detail in as_list(error.get("details")):
        told = as_text(as_object(detail).get("retryDelay"))
        try:
            return max(0.0, float(told.removesuffix("s")))
        except ValueError:
            continue
    return None
