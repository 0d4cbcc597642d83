"""Where packages come from: the machine's own pip settings, told to uv.

uv has settings of its own (`UV_*`, uv.toml) and they win. It does not read pip's; a machine whose owner wrote
an index into pip's variables or files expects it to be used, so those are translated, with pip's meaning: the
best version over all indexes.
"""

from __future__ import annotations

import configparser
import sys
from collections.abc import Mapping
from pathlib import Path

_UV_INDEXES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_NO_INDEX",
    "UV_FIND_LINKS",
)
_PIP = {
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "find-links": "PIP_FIND_LINKS",
    "no-index": "PIP_NO_INDEX",
    "trusted-host": "PIP_TRUSTED_HOST",
    "cert": "PIP_CERT",
}
_SECTIONS = ("global", "install")


def index_settings(environ: Mapping[str, str], home: Path | None = None) -> dict[str, str]:
    """UV_* variables to add to `environ`; none when it has uv's own."""
    if any(environ.get(name) for name in _UV_INDEXES):
        return {}
    files = pip_files(environ, home or Path.home())
    index = environ.get("PIP_INDEX_URL") or files.get("index-url", "")
    extra = (environ.get("PIP_EXTRA_INDEX_URL") or files.get("extra-index-url", "")).split()
    links = (environ.get("PIP_FIND_LINKS") or files.get("find-links", "")).split()
    alone = environ.get("PIP_NO_INDEX") or files.get("no-index", "")
    found: dict[str, str] = {}
    if index:
        found["UV_DEFAULT_INDEX"] = index
    if extra:
        found["UV_INDEX"] = " ".join(extra)
        found["UV_INDEX_STRATEGY"] = environ.get("UV_INDEX_STRATEGY", "unsafe-best-match")
    if links:
        found["UV_FIND_LINKS"] = ",".join(links)
    if alone.strip().lower() in {"1", "true", "yes", "on"}:
        found["UV_NO_INDEX"] = "1"
    if "SSL_CERT_FILE" not in environ and (cert := environ.get("PIP_CERT") or files.get("cert", "")):
        found["SSL_CERT_FILE"] = cert
    return found


def child_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What a task's own shell lines need to install packages as the machine does, whatever their home folder is."""
    home = Path(environ.get("HOME") or Path.home())
    files = pip_files(environ, home)
    told = {name: value for key, name in _PIP.items() if (value := environ.get(name) or files.get(key, ""))}
    cache = environ.get("UV_CACHE_DIR") or str(Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "uv")
    return {
        **{name: environ[name] for name in (*_UV_INDEXES, "UV_INDEX_STRATEGY", "UV_OFFLINE") if environ.get(name)},
        **index_settings(environ, home),
        **told,
        "UV_CACHE_DIR": cache,
        "UV_NO_PROGRESS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def pip_files(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """What pip's configuration files say; later files win, as they do for pip."""
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    places = [
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        config_home / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    if chosen := environ.get("PIP_CONFIG_FILE"):
        places = [] if chosen == "/dev/null" else [*places, Path(chosen)]
    found: dict[str, str] = {}
    for place in places:
        parser = configparser.RawConfigParser()
        try:
            parser.read(place, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip itself would complain; here the index is only left out
        for section in _SECTIONS:
            if parser.has_section(section):
                found.update(parser.items(section))
    return found
