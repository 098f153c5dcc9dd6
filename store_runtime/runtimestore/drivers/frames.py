"""Records on disk: length, checksum, payload. A frame is there as a whole or it is not there.

    ┌──────────────┬──────────────────────────────┬──────────────────┐
    │ length, u32  │ CRC-32 of length and payload │ payload, msgpack │   little endian
    └──────────────┴──────────────────────────────┴──────────────────┘

The checksum covers the length, so that a run of zeros (a file grown by a crash) is not a row of empty frames.
"""

import struct
import zlib
from collections.abc import Iterator

HEADER = struct.Struct("<II")

FRAME_BYTES_MAX = 64 * 1024 * 1024
"""Payload of one frame; a length above it is damage, not a wish for memory."""

_SCANNED_BYTES_MAX = 1024 * 1024
"""How far behind damage a whole frame is looked for: a torn end is one batch of writes, rarely more than kilobytes."""


def framed(payload: bytes) -> bytes:
    """The frame of a payload."""
    return HEADER.pack(len(payload), _checksum(len(payload), payload)) + payload


def frames(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """(offset after the frame, payload) of each whole frame from the start of `data` to the first that is not."""
    at = 0
    while (payload := frame_at(data, at)) is not None:
        at += HEADER.size + len(payload)
        yield at, payload


def frame_at(data: bytes | memoryview, at: int) -> bytes | None:
    """The payload of the frame that begins at `at`, None if there is no whole one."""
    if at + HEADER.size > len(data):
        return None
    length, checksum = HEADER.unpack_from(data, at)
    end = at + HEADER.size + length
    if not 0 < length <= FRAME_BYTES_MAX or end > len(data):
        return None
    payload = bytes(data[at + HEADER.size : end])
    return payload if _checksum(length, payload) == checksum else None


def frame_after(data: bytes | memoryview, at: int) -> int | None:
    """Where a whole frame begins at or after `at`: behind damage, it tells a torn end from a hole."""
    for offset in range(at, min(at + _SCANNED_BYTES_MAX, len(data) - HEADER.size)):
        if frame_at(data, offset) is not None:
            return offset
    return None


def _checksum(length: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(length.to_bytes(4, "little")))
