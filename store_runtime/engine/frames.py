"""The bytes of the write-ahead log: headers, frames and what a scan makes of damaged ones (docs/formats/wal.md).

Pure functions of bytes; wal writes what they pack, recovery and builders read by `scan`.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple
from zlib import crc32

import msgspec

FORMAT = 1
_FILE_MAGIC = b"SKWAL\x00\x00" + bytes((FORMAT,))
_FILE = struct.Struct("<8sQqI")
FILE_HEADER_BYTES = _FILE.size + 4

_FRAME_MAGIC = b"\xf5SKF"
_FRAME = struct.Struct("<4sHHIIQqqQIII")
HEADER_BYTES = _FRAME.size + 4

PAYLOAD_BYTES_MAX = 512 * 1024 * 1024
"""No batch is near it: a length above it is damage, also where a checksum happens to agree."""


class Kind(IntEnum):
    """What a frame holds."""

    BATCH = 1  # times, then NDJSON
    COLUMNS = 2  # a JSON array: the names that batches of this stream use from here on


class Header(NamedTuple):
    """One frame. `times_bytes` 0: every entry has the time `min_ns`. `version` is a dirty mark's, 0 without capture."""

    kind: int
    stream: int
    entries: int
    first_sequence: int
    min_ns: int
    max_ns: int
    version: int
    times_bytes: int
    body_bytes: int
    payload_crc: int

    @property
    def payload_bytes(self) -> int:
        return self.times_bytes + self.body_bytes

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + self.entries - 1


class Frame(NamedTuple):
    """A header and where it stands in its file."""

    header: Header
    offset: int

    @property
    def end(self) -> int:
        return self.offset + HEADER_BYTES + self.header.payload_bytes

    def times(self, data: bytes | memoryview) -> bytes:
        """The times (int64 little endian, nanoseconds) out of a whole file's bytes."""
        start = self.offset + HEADER_BYTES
        return bytes(data[start : start + self.header.times_bytes])

    def body(self, data: bytes | memoryview) -> bytes:
        start = self.offset + HEADER_BYTES + self.header.times_bytes
        return bytes(data[start : start + self.header.body_bytes])


@dataclass(frozen=True, slots=True)
class Scan:
    """A log file as it was found: `good_end` is where its last whole frame ends, `torn_bytes` what follows it.

    `damaged` are (start, end) of bytes between whole frames that are none: no crash leaves that.
    """

    number: int
    created_ns: int
    frames: Sequence[Frame]
    good_end: int
    torn_bytes: int
    damaged: Sequence[tuple[int, int]]


class NotALog(Exception):
    """The file header is not one: nothing in the file was ever acknowledged, or its first bytes were damaged."""


class NewerLog(Exception):
    """The file was written by a newer version."""


def pack_file_header(number: int, created_ns: int) -> bytes:
    head = _FILE.pack(_FILE_MAGIC, number, created_ns, 0)
    return head + struct.pack("<I", crc32(head))


def pack_header(header: Header) -> bytes:
    fixed = _FRAME.pack(
        _FRAME_MAGIC,
        header.kind,
        0,
        header.stream,
        header.entries,
        header.first_sequence,
        header.min_ns,
        header.max_ns,
        header.version,
        header.times_bytes,
        header.body_bytes,
        header.payload_crc,
    )
    return fixed + struct.pack("<I", crc32(fixed))


def columns_frame(stream: int, columns: Sequence[str]) -> bytes:
    """A whole frame that names the columns of a stream."""
    body = msgspec.json.encode(list(columns))
    header = Header(Kind.COLUMNS, stream, len(columns), 0, 0, 0, 0, 0, len(body), crc32(body))
    return pack_header(header) + body


def columns_of(body: bytes) -> tuple[str, ...]:
    return msgspec.json.decode(body, type=tuple[str, ...])


def scan(data: bytes | memoryview) -> Scan:
    """Every whole frame of a log file; raises NotALog, NewerLog.

    A damaged file header costs only itself: `number` and `created_ns` are 0 then.
    """
    damaged: list[tuple[int, int]] = []
    frames = list(_whole_frames(data))
    try:
        number, created_ns = _file_header(data)
    except NotALog:
        if not frames:
            raise
        number = created_ns = 0
        damaged.append((0, FILE_HEADER_BYTES))
    end = FILE_HEADER_BYTES
    for frame in frames:
        if frame.offset > end:
            damaged.append((end, frame.offset))
        end = frame.end
    return Scan(number, created_ns, frames, end, len(data) - end, damaged)


def _file_header(data: bytes | memoryview) -> tuple[int, int]:
    if len(data) < FILE_HEADER_BYTES:
        raise NotALog("shorter than a file header")
    head = bytes(data[:FILE_HEADER_BYTES])
    magic, number, created_ns, _ = _FILE.unpack_from(head)
    if magic[:5] != _FILE_MAGIC[:5]:
        raise NotALog("not the magic of a log file")
    if crc32(head[:-4]) != struct.unpack("<I", head[-4:])[0]:
        raise NotALog("its header does not match its checksum")
    if magic != _FILE_MAGIC:
        raise NewerLog(f"it has format {magic[7]}; this version knows {FORMAT}")
    return number, created_ns


def _whole_frames(data: bytes | memoryview) -> Iterator[Frame]:
    """Frames one after another; after damage the search goes on at the next thing that begins like a frame."""
    whole = bytes(data) if isinstance(data, memoryview) else data
    position = FILE_HEADER_BYTES
    while position >= 0:
        frame = _frame_at(whole, position)
        if frame is None:
            position = whole.find(_FRAME_MAGIC, position + 1)
        else:
            yield frame
            position = frame.end


def _frame_at(data: bytes, offset: int) -> Frame | None:
    if offset + HEADER_BYTES > len(data) or data[offset : offset + 4] != _FRAME_MAGIC:
        return None
    fixed_end = offset + _FRAME.size
    if crc32(memoryview(data)[offset:fixed_end]) != struct.unpack_from("<I", data, fixed_end)[0]:
        return None
    _, kind, _, *rest = _FRAME.unpack_from(data, offset)
    frame = Frame(Header(kind, *rest), offset)
    if frame.header.payload_bytes > PAYLOAD_BYTES_MAX or frame.end > len(data):
        return None
    payload = memoryview(data)[offset + HEADER_BYTES : frame.end]
    return frame if crc32(payload) == frame.header.payload_crc else None
