"""Points of a series as bytes: columns, differences, byte planes, zstd.

A chunk holds three columns (iteration, value, time). Neighbours differ little, so a column is turned into
differences of its 64-bit patterns and laid out byte by byte (all lowest bytes, then the next ones ...): the
high planes become runs of zeros, which zstd shrinks to nothing. Iterations that go on in equal steps, the
usual case, are not stored at all. Values are kept as they are or as differences, whichever came out smaller.
Every bit comes back: NaN payloads, infinities, minus zero and the ends of int64 included.

Imported only when first needed: numpy and zstd cost a starting server time and memory. No SQL here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskloom.server.compression import compress, decompress

Int64s = NDArray[np.int64]
Doubles = NDArray[np.float64]

RAW, PACKED = 0, 1
PLAIN, DIFFERENCES, STEPS = 0, 1, 2
_HEAD = struct.Struct("<BBBxIIII")  # format, iterations as, values as, count, sizes of the three columns
_STEP = struct.Struct("<qq")


@dataclass(frozen=True, eq=False)
class Columns:
    """Points in the order of arrival; three arrays of one length."""

    iteration: Int64s
    value: Doubles
    time: Doubles

    def __len__(self) -> int:
        return len(self.value)

    def part(self, start: int, stop: int) -> Columns:
        return Columns(self.iteration[start:stop], self.value[start:stop], self.time[start:stop])

    def take(self, positions: NDArray[np.intp]) -> Columns:
        return Columns(self.iteration[positions], self.value[positions], self.time[positions])


def empty() -> Columns:
    return Columns(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.float64))


def join(parts: Sequence[Columns]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    return Columns(
        np.concatenate([p.iteration for p in parts]),
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.time for p in parts]),
    )


def encode(points: Columns, *, raw: bool = False) -> bytes:
    """`raw` skips the packing: for the short end of a series, which is written again with the next batch."""
    iteration = np.ascontiguousarray(points.iteration, "<i8")
    value = np.ascontiguousarray(points.value, "<f8").view("<i8")
    time = np.ascontiguousarray(points.time, "<f8").view("<i8")
    count = len(value)
    if raw or not count:
        head = _HEAD.pack(RAW, PLAIN, PLAIN, count, 8 * count, 8 * count, 8 * count)
        return b"".join((head, iteration.tobytes(), value.tobytes(), time.tobytes()))
    steps = np.diff(iteration)  # wraps around at the ends of int64, and so does the way back
    if count == 1 or bool((steps == steps[0]).all()):
        how, first = STEPS, _STEP.pack(int(iteration[0]), int(steps[0]) if count > 1 else 0)
    else:
        how, first = DIFFERENCES, compress(_planes(_differences(iteration)))
    plain = compress(_planes(value))
    different = compress(_planes(_differences(value)))
    kept, second = (PLAIN, plain) if len(plain) <= len(different) else (DIFFERENCES, different)
    third = compress(_planes(_differences(time)))
    head = _HEAD.pack(PACKED, how, kept, count, len(first), len(second), len(third))
    return b"".join((head, first, second, third))


def decode(chunks: Sequence[bytes]) -> Columns:
    """The points of consecutive chunks, one after another."""
    heads = [_HEAD.unpack_from(chunk) for chunk in chunks]
    total = sum(head[3] for head in heads)
    columns = [np.empty(total, np.int64) for _ in range(3)]
    at = 0
    for chunk, (packing, how, kept, count, *sizes) in zip(chunks, heads, strict=True):
        place = memoryview(chunk)[_HEAD.size :]
        for column, form, size in zip(columns, (how, kept, DIFFERENCES), sizes, strict=True):
            out = column[at : at + count]
            if packing == RAW:
                out[:] = np.frombuffer(place[:size], "<i8")
            else:
                _unpack(place[:size], form, out)
            place = place[size:]
        at += count
    return Columns(columns[0], columns[1].view(np.float64), columns[2].view(np.float64))


def decode_iterations(chunks: Sequence[bytes]) -> Int64s:
    """Only the iterations of consecutive chunks; mostly nothing has to be unpacked for them."""
    heads = [_HEAD.unpack_from(chunk) for chunk in chunks]
    out = np.empty(sum(head[3] for head in heads), np.int64)
    at = 0
    for chunk, (packing, how, _, count, size, *_) in zip(chunks, heads, strict=True):
        place = memoryview(chunk)[_HEAD.size : _HEAD.size + size]
        if packing == RAW:
            out[at : at + count] = np.frombuffer(place, "<i8")
        else:
            _unpack(place, how, out[at : at + count])
        at += count
    return out


def _unpack(data: memoryview, form: int, out: Int64s) -> None:
    count = len(out)
    if form == STEPS:
        start, step = _STEP.unpack(data)
        out[:] = step
        out[0] = start
        np.cumsum(out, out=out)
        return
    planes = np.frombuffer(decompress(data), np.uint8).reshape(8, count)
    out.view(np.uint8).reshape(count, 8)[:] = planes.T
    if form == DIFFERENCES:
        np.cumsum(out, out=out)


def _differences(column: Int64s) -> Int64s:
    out = np.empty_like(column)
    out[0] = column[0]
    np.subtract(column[1:], column[:-1], out=out[1:])
    return out


def _planes(column: Int64s) -> bytes:
    return np.ascontiguousarray(column.view(np.uint8).reshape(-1, 8).T).tobytes()
