"""`clearml.conf`: the section that points ClearML's clients at a server, written and read back.

The file is HOCON. What we write is a part of it that every HOCON reader takes; what we read is only the `api`
section as people and `clearml-init` write it: no includes, no substitutions besides environment variables.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taskloom.domain.errors import BadInput

CONFIG_FILE = "clearml.conf"
FILES = "/files"
KEY_PREFIX = "tl_"
LARGEST = 1 << 20  # bytes of a configuration file that is read

_VARIABLES = {
    "api_server": "API_HOST",
    "web_server": "WEB_HOST",
    "files_server": "FILES_HOST",
    "access_key": "API_ACCESS_KEY",
    "secret_key": "API_SECRET_KEY",
}
_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|(?:^|(?<=\s))(?:#|//)[^\n]*', re.MULTILINE)
_FIELD = re.compile(
    r'"?\b(?P<name>api_server|web_server|files_server|access_key|secret_key)"?\s*[:=]\s*'
    r'(?P<value>"[^"\n]*"|\$\{[^}\n]*\}|[^\n,}]+)'
)
_REFERENCE = re.compile(r"\$\{\??(\w+)\}")


@dataclass(frozen=True)
class Conf:
    """Where ClearML's clients on this machine go; empty what nobody told. `told_by` names the place of each."""

    api_server: str = ""
    web_server: str = ""
    files_server: str = ""
    access_key: str = ""
    secret_key: str = ""
    told_by: tuple[tuple[str, str], ...] = ()

    def source(self, field: str) -> str:
        return dict(self.told_by).get(field, "")


def section(url: str, key: str) -> str:
    """The section for one of our API keys, `tl_ACCESS_SECRET`."""
    access, _, secret = key.removeprefix(KEY_PREFIX).partition("_")
    quoted = json.dumps
    return (
        "api {\n"
        f"    web_server: {quoted(url)}\n"
        f"    api_server: {quoted(url)}\n"
        f"    files_server: {quoted(url + FILES)}\n"
        "    credentials {\n"
        f"        access_key: {quoted(access)}\n"
        f"        secret_key: {quoted(secret)}\n"
        "    }\n"
        "}\n"
    )


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The file that ClearML's clients read here."""
    named = environ.get("CLEARML_CONFIG_FILE") or environ.get("TRAINS_CONFIG_FILE")
    return Path(named).expanduser() if named else Path.home() / CONFIG_FILE


def write_file(path: Path, text: str, *, force: bool) -> Path | None:
    """Write the file, readable by its owner only; the name under which an older one is kept, if there was one."""
    check_target(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        aside = _aside(path) if path.exists() or path.is_symlink() else None
        if aside is not None:
            path.rename(aside)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return aside


def check_target(path: Path, *, force: bool) -> None:
    """Before anything is made for it."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder; --output names the file")
    if not force and (path.exists() or path.is_symlink()):
        raise BadInput(f"{path} is already there; --force replaces it and keeps the old one beside it")


def _aside(path: Path) -> Path:
    """A name that is free: no older file is lost, however often this is repeated."""
    first = path.with_name(f"{path.name}.before-taskloom")
    found, number = first, 1
    while found.exists() or found.is_symlink():
        number += 1
        found = first.with_name(f"{first.name}.{number}")
    return found


def read_conf(environ: Mapping[str, str] = os.environ, path: Path | None = None) -> Conf:
    """What the variables and the file say; the variables win, as in ClearML's clients."""
    file = path or default_path(environ)
    found: dict[str, str] = {}
    told: dict[str, str] = {}
    for name, value in _read_file(file, environ).items():
        found[name], told[name] = value, str(file)
    for name, word in _VARIABLES.items():
        for variable in (f"TRAINS_{word}", f"CLEARML_{word}"):
            if environ.get(variable):
                found[name], told[name] = environ[variable], variable
    return Conf(**found, told_by=tuple(told.items()))


def _read_file(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST).decode("utf-8", "replace")
    except OSError:
        return {}
    text = _COMMENT.sub(lambda match: match.group(1) or "", text)
    found: dict[str, str] = {}
    for field in _FIELD.finditer(text):
        value = field["value"].strip()
        value = _REFERENCE.sub(lambda match: environ.get(match.group(1), ""), value).strip().strip('"')
        if value:  # an optional reference that is not set leaves what stood before
            found[field["name"]] = value
    return found
