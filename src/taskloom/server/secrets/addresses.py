"""Which password is for which address: borders of hosts and of path segments, nothing cleverer.

`https://git.example.org` is for all of that host, `https://git.example.org/team` for what lies below that folder
and not for `/team-b`. Another port is another server, and `http` is not `https`.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from taskloom.domain.errors import BadInput
from taskloom.domain.execution import Execution
from taskloom.domain.project import check_text

MAX_ADDRESS = 2048
_PORTS = {"https": 443, "http": 80}
_INSTALLED = re.compile(r"git\+(https?://[^\s'\"<>;#]+)")


def check_address(url: str) -> str:
    """The address without a slash at its end; BadInput for what could be no beginning of git's addresses."""
    text = check_text(url.strip(), "url").rstrip("/")
    if not text:
        return ""
    parts = _split(text)
    if len(text) > MAX_ADDRESS or parts is None or parts.username is not None or parts.query or parts.fragment:
        raise BadInput(
            f"url {text[:80]!r}: expected the beginning of addresses such as https://git.example.org/team, without a "
            "user, a password or a query"
        )
    return text


def addresses(execution: Execution) -> tuple[str, ...]:
    """Where the execution's code comes from by http: its repository, and packages that are installed from git."""
    texts = (execution.packages, execution.setup, execution.run)
    found = [_without_version(match[1]) for text in texts for match in _INSTALLED.finditer(text)]
    return tuple(dict.fromkeys(url for url in (execution.repository.strip(), *found) if _split(url) is not None))


def is_for(url: str, address: str) -> bool:
    """Whether a password for `url` may be told to the server at `address`."""
    wanted, given = _split(url), _split(address)
    if wanted is None or given is None or _server(wanted) != _server(given):
        return False
    return _segments(given)[: len(_segments(wanted))] == _segments(wanted)


def _split(url: str) -> SplitResult | None:
    """None for what is no address of a web server."""
    try:
        parts = urlsplit(url)
        ok = parts.scheme in _PORTS and bool(parts.hostname) and _server(parts)[2] > 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        return None
    return parts if ok and not any(c.isspace() or c == "\\" for c in url) else None


def _without_version(url: str) -> str:
    """`.../name.git@v1` asks for `.../name.git`."""
    folder, slash, name = url.rpartition("/")
    return f"{folder}{slash}{name.partition('@')[0]}"


def _server(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]


def _segments(parts: SplitResult) -> list[str]:
    found = [segment for segment in parts.path.split("/") if segment]
    return [*found[:-1], found[-1].removesuffix(".git")] if found else found
