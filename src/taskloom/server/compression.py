"""zstd, as it comes with Python from 3.14 on and as a package with the same code before. Imported when needed."""

from __future__ import annotations

from typing import Any, cast

LEVEL = 3


def compress(data: bytes) -> bytes:
    return cast(bytes, _zstd().compress(data, LEVEL))


def decompress(data: bytes | memoryview) -> bytes:
    return cast(bytes, _zstd().decompress(data))


def _zstd() -> Any:
    try:
        from compression import zstd  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
    except ImportError:
        from backports import zstd
    return cast(Any, zstd)
