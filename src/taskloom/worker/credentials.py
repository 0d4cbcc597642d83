"""Passwords for git: answered by a helper that lives in environment variables, for git's own steps only.

Nothing is written: not into a configuration, not into a remote's address, not into an argument, where others on the
machine and the task itself could read it. Git asks the helper for the address that a credential is for and for no
other, also in submodules and when uv fetches a package. For these addresses the machine's own helpers are not asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from taskloom.wire.messages import Credential

_USER, _PASSWORD = "LOOM_GIT_USER_", "LOOM_GIT_PASSWORD_"
_PORTS = {"https": 443, "http": 80}


def helper_environment(base: Mapping[str, str], credentials: Sequence[Credential]) -> dict[str, str]:
    """`base` with a helper for each credential; the longest address last, since git lets the last one win."""
    found = dict(base)
    count = int(base.get("GIT_CONFIG_COUNT", "0"))

    def configure(key: str, value: str) -> None:
        nonlocal count
        found[f"GIT_CONFIG_KEY_{count}"], found[f"GIT_CONFIG_VALUE_{count}"] = key, value
        count += 1

    for number, credential in enumerate(sorted(credentials, key=lambda c: len(c.url))):
        user, password = f"{_USER}{number}", f"{_PASSWORD}{number}"
        found[user], found[password] = _one_line(credential.username), _one_line(credential.password)
        key = f"credential.{credential.url}.helper"
        answer = f'printf "username=%s\\npassword=%s\\n" "${user}" "${password}"'
        configure(key, "")  # forgets the helpers before it
        configure(key, f'!f() {{ test "$1" = get && {answer}; }}; f')
    found["GIT_CONFIG_COUNT"] = str(count)
    return found


def fingerprint(url: str, credentials: Sequence[Credential]) -> str:
    """What tells those apart that may read an address from others; empty when no credential is for its server."""
    server = _server(url)
    told = sorted((c.url, c.username, c.password) for c in credentials if server and _server(c.url) == server)
    return hashlib.sha256(repr(told).encode()).hexdigest() if told else ""


def _server(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            return None
        return parts.scheme, parts.hostname.lower(), parts.port or _PORTS[parts.scheme]
    except ValueError:
        return None


def _one_line(text: str) -> str:
    """Git's helpers answer in lines; a file's last line end is no part of a password."""
    return next(iter(text.splitlines()), "")
