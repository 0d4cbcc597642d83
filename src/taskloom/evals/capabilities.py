"""What an environment lets an agent use: a name, a protocol, an address, parameters. Source: HUD's manifest entries.

An address is where the service listens as the environment sees it; a client reaches it through the control port,
so it need not be published. Anything that is known by a name and a host:port may be a capability.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast
from urllib.parse import urlsplit

SSH = "ssh/2"
MCP = "mcp/2025-11-25"
CDP = "cdp/1.3"
RFB = "rfb/3.8"

Transport = Literal["sse", "streamable-http", "websocket"]


@dataclass(frozen=True)
class Capability:
    """ValueError for an empty name or protocol, or an address without a host."""

    name: str
    protocol: str
    url: str
    params: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not self.name or not self.protocol:
            raise ValueError(f"a capability needs a name and a protocol, got {self.name!r} and {self.protocol!r}")
        if not urlsplit(self.url).hostname:
            raise ValueError(f"capability {self.name!r}: address {self.url!r}: expected SCHEME://HOST:PORT")

    @property
    def family(self) -> str:
        """The protocol without its version."""
        return self.protocol.partition("/")[0]

    def to_manifest(self) -> dict[str, Any]:
        return {"name": self.name, "protocol": self.protocol, "url": self.url, "params": dict(self.params)}

    @classmethod
    def from_manifest(cls, entry: dict[str, Any]) -> Capability:
        """ValueError for what is no entry of a manifest."""
        words = [entry.get(key) for key in ("name", "protocol", "url")]
        if not all(isinstance(word, str) for word in words):
            raise ValueError(f"a capability needs texts for name, protocol and url, got {entry!r:.200}")
        params = cast("dict[str, Any]", entry.get("params") or {})
        if not isinstance(params, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"capability {words[0]!r}: params {params!r:.80}: expected an object")
        return cls(str(words[0]), str(words[1]), str(words[2]), dict(params))

    @classmethod
    def ssh(
        cls,
        *,
        name: str = "shell",
        url: str,
        user: str = "agent",
        host_pubkey: str,
        client_key: str | None = None,
        client_key_path: str | None = None,
    ) -> Capability:
        """A shell and files over SSH. `client_key`: the private key's text, which anybody who says hello gets."""
        known = {
            "user": user,
            "host_pubkey": host_pubkey,
            "client_key": client_key,
            "client_key_path": client_key_path,
        }
        params = {key: value for key, value in known.items() if value is not None}
        return cls(name, SSH, _address(url, "ssh", 22), params)

    @classmethod
    def mcp(
        cls, *, name: str = "tools", url: str, auth_token: str | None = None, transport: Transport | None = None
    ) -> Capability:
        """Tools of an MCP server. Without `transport` a web socket address means websocket, others streamable-http."""
        address = _address(url, "ws", None)
        scheme = urlsplit(address).scheme
        if scheme not in {"ws", "wss", "http", "https"}:
            raise ValueError(f"capability {name!r}: scheme {scheme!r}: expected ws, wss, http or https")
        chosen = transport or ("websocket" if scheme in {"ws", "wss"} else "streamable-http")
        params = {"transport": chosen} | ({"auth_token": auth_token} if auth_token else {})
        return cls(name, MCP, address, params)

    @classmethod
    def cdp(cls, *, name: str = "browser", url: str, target_id: str | None = None) -> Capability:
        """A browser's debugging port."""
        return cls(name, CDP, _address(url, "ws", 9222), {"target_id": target_id} if target_id else {})

    @classmethod
    def rfb(cls, *, name: str = "screen", url: str, password: str | None = None, display: int = 0) -> Capability:
        """A screen over VNC; without a port in `url` it is 5900 and the display's number."""
        params = {"display": display} | ({"password": password} if password else {})
        return cls(name, RFB, _address(url, "rfb", 5900 + display), params)


def _address(url: str, scheme: str, port: int | None) -> str:
    """With its scheme and its port written out."""
    whole = url if "://" in url else f"{scheme}://{url}"
    parts = urlsplit(whole)
    if not parts.hostname:
        raise ValueError(f"address {url!r}: expected {scheme}://HOST:PORT")
    known = {"http": 80, "ws": 80, "https": 443, "wss": 443}
    if parts.port is None:
        chosen = port if port is not None else known.get(parts.scheme)
        if chosen is None:
            raise ValueError(f"address {url!r}: a port is needed")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        user = parts.netloc.rpartition("@")[0]
        parts = parts._replace(netloc=f"{user}@{host}:{chosen}" if user else f"{host}:{chosen}")
    return parts.geturl()
