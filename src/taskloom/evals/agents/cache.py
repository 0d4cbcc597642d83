"""A cache of model calls in a folder: the same question to the same model is answered from a file.

The name of a file is a digest of provider, model, URL and body, and of the call's epoch: the number of the try in its
group, so that the tries at one eval task differ as they would without a cache, and are the same again in the next job.
Many processes may share a folder: a file appears whole or not at all, and what cannot be read counts as missing.
No key of a provider is ever in it; prompts and answers are, readable by their owner only.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec


class CachedAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a file holds. `time`: seconds since the epoch of the call, `seconds`: how long it took."""

    time: float
    provider: str
    model: str
    url: str
    answer: dict[str, Any]
    seconds: float = 0.0
    epoch: int = 0


class ModelCache:
    """folder: made when it is first written. expires: seconds that an answer counts; None: for ever.

    one_epoch: the tries of a group share their answers, too.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        expires: float | None = None,
        one_epoch: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if expires is not None and not expires > 0:
            raise ValueError(f"expires {expires}: expected seconds above 0, or None")
        self.folder = Path(folder).expanduser()
        self.expires, self.one_epoch = expires, one_epoch
        self._clock = clock

    def __repr__(self) -> str:
        return f"ModelCache({str(self.folder)!r}, expires={self.expires}, one_epoch={self.one_epoch})"

    def config(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "expires": self.expires, "one_epoch": self.one_epoch}

    def key(self, provider: str, model: str, url: str, body: bytes, epoch: int = 0) -> str:
        """64 hexadecimal digits."""
        number = 0 if self.one_epoch else epoch
        head = msgspec.json.encode([provider, model, url, number])
        return hashlib.sha256(head + b"\n" + body).hexdigest()

    def find(self, key: str) -> CachedAnswer | None:
        """None for what is not there, has expired or cannot be read."""
        try:
            found = msgspec.json.decode(self._path(key).read_bytes(), type=CachedAnswer)
        except (OSError, msgspec.DecodeError):
            return None
        expired = self.expires is not None and self._clock() - found.time > self.expires
        return None if expired else found

    def store(self, key: str, answer: CachedAnswer) -> None:
        """Raises OSError when the folder cannot be written."""
        path = self._path(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{key}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(answer))
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise

    def now(self) -> float:
        return self._clock()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
