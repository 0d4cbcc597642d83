"""Console bytes as they are kept and as they are told: pieces, whole characters, packing.

What a run prints is bytes, cut by pipes and buffers wherever it happens. It is kept as it came, in pieces that
end with a line where possible; only when shown it becomes text, with U+FFFD for what is no UTF-8. A character
that a cut went through belongs to the piece in which it ends: the end of the older piece is not shown and its
bytes stand again at the beginning of the next one. Terminal escapes are data and pass.
"""

from __future__ import annotations

from collections.abc import Iterator

PIECE = 64 * 1024
WORTH_PACKING = 1024
PLAIN, ZSTD = b"\0", b"\1"


def pieces(data: bytes) -> Iterator[bytes]:
    """At most `PIECE` bytes each; a cut goes behind a line's end when the piece has one."""
    at = 0
    while len(data) - at > PIECE:
        line = data.rfind(b"\n", at, at + PIECE) + 1
        stop = line if line > at else at + PIECE - len(broken_end(data[at : at + PIECE]))
        yield data[at:stop]
        at = stop
    if at < len(data):
        yield data[at:]


def broken_end(data: bytes) -> bytes:
    """The first bytes of a UTF-8 character at the end whose other bytes are still to come; mostly none."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        needs = 4 if 0xF0 <= byte <= 0xF4 else 3 if byte & 0xF0 == 0xE0 else 2 if 0xC2 <= byte <= 0xDF else 1
        return data[-back:] if needs > back else b""
    return b""


def goes_on(data: bytes) -> bool:
    """Whether it begins inside a character."""
    return bool(data) and data[0] & 0xC0 == 0x80


def text(data: bytes) -> str:
    """What of a piece is shown."""
    end = broken_end(data)
    return (data[: -len(end)] if end else data).decode("utf-8", "replace")


def pack(data: bytes) -> bytes:
    if len(data) < WORTH_PACKING:
        return PLAIN + data
    from taskloom.server.compression import compress

    packed = compress(data)
    return ZSTD + packed if len(packed) < len(data) else PLAIN + data


def unpack(data: bytes) -> bytes:
    if data[:1] == PLAIN:
        return data[1:]
    from taskloom.server.compression import decompress

    return decompress(data[1:])
