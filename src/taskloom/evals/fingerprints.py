"""What makes an experiment the same one: digests of environment and agent, as a resumed job compares them.

Of a source it is the digest of the file, or of the folder's Python files; of an address or an image the words themselves,
since what stands behind them is not seen from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from taskloom.evals.task import Task

MAX_FILES = 10_000  # of a source folder, in the order of their names
NOT_LOOKED_AT = frozenset({"__pycache__", "node_modules"})

_encode = msgspec.json.Encoder(enc_hook=str, order="sorted").encode


def of_agent(agent: Any) -> tuple[dict[str, Any], str]:
    """The agent's spec, and its digest."""
    from taskloom.evals.agents import spec_of

    spec = spec_of(agent)
    return spec, hashlib.sha256(_encode(spec)).hexdigest()


def of_environment(tasks: Iterable[Task], provider: Any) -> str:
    """What the provider says of itself, else the sources that the rows come from; '' when neither says anything."""
    told = of_provider(provider)
    if told:
        return told
    return _of_sources({task.source for task in tasks if task.source})


def of_provider(provider: Any) -> str:
    """A provider's `fingerprint`, a source's digest by its `path`, or an `image` or `url` in words."""
    own = getattr(provider, "fingerprint", None)
    if callable(own):
        return str(own())
    for name in ("url", "image"):
        word = getattr(provider, name, None)
        if isinstance(word, str) and word:
            return f"{name} {word}"
    path = getattr(provider, "path", None)
    return _of_sources({str(path)}) if isinstance(path, str | Path) and Path(path).exists() else ""


def _of_sources(sources: set[str]) -> str:
    if not sources:
        return ""
    whole = hashlib.sha256()
    for source in sorted(sources):
        root = Path(source)
        for path in sorted(_files(root))[:MAX_FILES]:
            name = path.relative_to(root).as_posix() if path != root else path.name
            whole.update(f"{name}\0{hashlib.sha256(_content(path)).hexdigest()}\n".encode())
    return f"source {whole.hexdigest()}"


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    return [
        path
        for path in root.rglob("*.py")
        if not any(part in NOT_LOOKED_AT or part.startswith(".") for part in path.relative_to(root).parts)
    ]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
