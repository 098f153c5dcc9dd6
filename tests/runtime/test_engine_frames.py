"""The log's bytes: what a scan finds in files that are whole, cut, or damaged anywhere."""

from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store_runtime.engine.frames import (
    FILE_HEADER_BYTES,
    HEADER_BYTES,
    Header,
    Kind,
    NewerLog,
    NotALog,
    columns_frame,
    columns_of,
    pack_file_header,
    pack_header,
    scan,
)


def batch(stream: int, first: int, body: bytes) -> bytes:
    header = Header(Kind.BATCH, stream, body.count(b"\n") + 1, first, 5, 9, 0, 0, len(body), crc32(body))
    return pack_header(header) + body


BODIES = [b'{"a":"1"}', b'{"a":"22"}\n{"a":"3"}', b'{"b":"\xc3\xbc"}']
FILE = pack_file_header(7, 99) + b"".join(batch(1, n * 10, body) for n, body in enumerate(BODIES))


def test_the_stored_format():
    """A change of these bytes is a new format (docs/formats/wal.md)."""
    assert (FILE_HEADER_BYTES, HEADER_BYTES) == (32, 64)
    assert pack_file_header(7, 99).hex() == "534b57414c000001070000000000000063000000000000000000000029395333"
    assert columns_frame(1, ["a", "b"]).hex() == (
        "f5534b460200000001000000020000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000009000000d59cc93d2147c2675b2261222c2262225d"
    )


def test_a_whole_file():
    found = scan(FILE)
    assert (found.number, found.created_ns, found.torn_bytes, found.damaged) == (7, 99, 0, [])
    assert [frame.body(FILE) for frame in found.frames] == BODIES
    assert [frame.header.last_sequence for frame in found.frames] == [0, 11, 20]
    assert found.good_end == len(FILE)


def test_columns_come_back():
    data = pack_file_header(1, 0) + columns_frame(3, ["a", "ü\n"])
    (frame,) = scan(data).frames
    assert frame.header.kind == Kind.COLUMNS and frame.header.stream == 3
    assert columns_of(frame.body(data)) == ("a", "ü\n")


@pytest.mark.parametrize("end", range(FILE_HEADER_BYTES, len(FILE)))
def test_cut_anywhere_the_whole_frames_are_found(end):
    found = scan(FILE[:end])
    assert [frame.body(FILE) for frame in found.frames] == BODIES[: len(found.frames)]
    assert found.good_end + found.torn_bytes == end
    assert not found.damaged


@settings(max_examples=300)
@given(st.integers(0, len(FILE) - 1), st.integers(0, 7))
def test_a_flipped_bit_costs_at_most_its_frame(position, bit):
    data = bytearray(FILE)
    data[position] ^= 1 << bit
    found = scan(bytes(data))
    bodies = [frame.body(bytes(data)) for frame in found.frames]
    assert len(bodies) >= len(BODIES) - 1
    assert all(body in BODIES for body in bodies)
    assert found.damaged or found.torn_bytes


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_rubbish_holds_no_frames(data):
    with pytest.raises(NotALog):
        scan(data)
    assert scan(pack_file_header(1, 0) + data).frames == []


def test_a_newer_file_is_not_read():
    data = bytearray(pack_file_header(1, 0))
    data[7] += 1
    data[-4:] = crc32(data[:-4]).to_bytes(4, "little")
    with pytest.raises(NewerLog):
        scan(bytes(data))
