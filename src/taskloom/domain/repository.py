"""Addresses, references and folders of git repositories, as data that may be handed to git and to nobody else.

Whoever starts git with what a task or a person named asks here first: an address has to fit a written list, a
reference has to be a name, and nothing may begin with a dash, because git would read it as an option. Nothing here
starts anything.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from taskloom.domain.errors import BadInput

PROTOCOLS = ("https", "http", "ssh", "git", "file")
_REF = re.compile(r"(?!-)[^\x00-\x20\x7f~^:?*\[\\]+")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_SCP = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?![:/-])\S.*"
    r"|[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:/\S.*"
)
_PATTERN_SIGNS = frozenset('\\*?[]"!')
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/@\s]*@")


def check_repository(url: str) -> str:
    """The address, when it is one that git may be given; BadInput names it without its password otherwise."""
    shown = _USERINFO.sub(r"\g<scheme>***@", url)[:300]
    if url.startswith("-") or any(ord(character) < 32 or ord(character) == 127 for character in url):
        raise BadInput(f"repository {shown!r}: not an address")
    scheme, found, rest = url.partition("://")
    if found:
        if scheme.lower() not in PROTOCOLS or not rest or rest.startswith("-"):
            raise BadInput(f"repository {shown!r}: expected one of {', '.join(PROTOCOLS)}")
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            raise BadInput(f"repository {shown!r}: not an address") from None
        if host.startswith("-"):
            raise BadInput(f"repository {shown!r}: not an address")
        return url
    if url.startswith("/") or _SCP.fullmatch(url):
        return url
    raise BadInput(f"repository {shown!r}: expected a URL, user@host:path or an absolute path")


def check_reference(name: str) -> str:
    """The name of a branch or tag, or the digits of a commit; BadInput when git could read it as anything else."""
    if not _REF.fullmatch(name) or ".." in name or len(name) > 1024:
        raise BadInput(f"{name[:80]!r} is not the name of a tag or branch, nor a commit")
    return name


def is_commit(name: str) -> bool:
    """Whether it is the digits of a commit, 7 to 64 of them."""
    return _COMMIT.fullmatch(name) is not None


def check_folder(path: str) -> str:
    """A folder of a repository, relative to its root, without `.` and doubled slashes; '' for the root itself."""
    parts = [part for part in path.strip().split("/") if part not in {"", "."}]
    odd = any(ord(character) < 32 or character in _PATTERN_SIGNS for character in path)
    if path.strip().startswith(("/", "~", "-")) or ".." in parts or odd:
        raise BadInput(f"folder {path[:200]!r}: expected a path inside the repository, such as examples/train")
    return "/".join(parts)


def without_credentials(url: str) -> str:
    """The address without user and password, when it is one of the web; elsewhere the user is no secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _USERINFO.sub(r"\g<scheme>", url)
    if parts.scheme.lower() in {"http", "https"} and "@" in parts.netloc:
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return url


def repository_name(url: str) -> str:
    """`https://host/owner/name.git` -> `name`: what its folder is called."""
    last = re.split(r"[/:]", url.rstrip("/").removesuffix(".git").rstrip("/"))[-1]
    return last.removesuffix(".git")
