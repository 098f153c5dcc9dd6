"""Whatever the guard lets through is stored as one would read it off the JSON: on both of its paths, by each reader."""

import json
import struct
from datetime import UTC, datetime, timedelta
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store_runtime.engine.frames import Header, Kind
from store_runtime.engine.keys import entry_key, sequence_of
from store_runtime.engine.query import _entries
from store_runtime.engine.rows import table
from store_runtime.streams.event_time import NotATime, parse_time_ns
from store_runtime.streams.guard import Guard
from store_runtime.streams.model import EntryBatch

NOW = 1_700_000_000_000_000_000
NAMES = st.one_of(st.sampled_from(["a", "b", "a.b", "_rest", "_t", "_seq", "_time ", ""]), st.text(max_size=6))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
FLAT = st.dictionaries(NAMES.filter(lambda name: name != "_time"), st.text(), max_size=5)
ENTRIES = st.lists(st.one_of(FLAT, st.dictionaries(NAMES, VALUES, max_size=5)), min_size=1, max_size=6)


def read(batch: EntryBatch) -> list[tuple[int, dict[str, str]]]:
    """As builders and queries read a batch."""
    crc = crc32(batch.body, crc32(batch.times))
    header = Header(
        Kind.BATCH, 1, batch.entries, 0, batch.min_ns, batch.max_ns, 0, len(batch.times), len(batch.body), crc
    )
    return [
        (found.time_ns, found.fields) for found in _entries(table([(header, batch.times, batch.body)], batch.columns))
    ]


def flattened(entry: dict, prefix: str = "") -> dict[str, str]:
    """The rule, written the other way: from Python's own parser."""
    fields: dict[str, str] = {}
    for name, value in entry.items():
        full = prefix + name
        if isinstance(value, dict) and value:
            for inner, text in flattened(value, full + ".").items():
                fields.setdefault(inner, text)
        elif value is not None and full != "_time":
            fields.setdefault(full, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return fields


def encodable(entry: object) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in json.dumps(entry, ensure_ascii=False))


@settings(max_examples=300, deadline=None)
@given(entries=ENTRIES, escaped=st.booleans(), spaced=st.booleans())
def test_what_comes_out_is_what_the_json_said(entries, escaped, spaced):
    entries = [entry for entry in entries if encodable(entry)]
    separators = (", ", ": ") if spaced else (",", ":")
    body = "\n".join(json.dumps(entry, ensure_ascii=escaped, separators=separators) for entry in entries).encode()
    guard = Guard(1 << 20)
    for _ in range(2):  # the second time the fields are known: flat entries take the fast path
        checked = guard.check("s", body, NOW)
        assert checked.rejected == 0, checked.reasons
        if entries:
            got = [fields for _, fields in read(checked.batch)]
            wanted = [flattened(entry) for entry in entries]
            assert [normalized(fields) for fields in got] == [normalized(fields) for fields in wanted]


def normalized(fields: dict[str, str]) -> dict[str, str]:
    """Arrays and empty objects keep their own spelling of escapes and spaces."""
    shown = {}
    for name, text in fields.items():
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        shown[name] = json.dumps(value) if isinstance(value, list | dict) else text
    return shown


PIECES = st.sampled_from(
    [b"{", b"}", b'"a"', b'"b"', b":", b",", b"\n", b"\r\n", b" ", b"1.50", b'"\\ud800"', b"\xff", b"null", b"[1]",
     b'{"a":"x"}', b'{"b":"y","a":"z"}', b'"_time"', b'{"_time":5}', b'{"a":"1","a":"2"}', b"\\", b'{}', b"\0"]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(PIECES, max_size=14))
def test_nothing_that_was_accepted_is_unreadable(pieces):
    """Lines of rubbish between good ones: what is accepted is as many entries as it says, the same each time."""
    body = b'{"a":"x","b":"y"}\n' + b"".join(pieces) + b'\n{"a":"last"}'
    guard = Guard(1 << 20)
    answers = []
    for _ in range(2):
        checked = guard.check("s", body, NOW)
        found = read(checked.batch)
        assert len(found) == checked.batch.entries
        answers.append((found, checked.rejected))
    assert answers[0] == answers[1]
    assert answers[0][0][0] == (NOW, {"a": "x", "b": "y"})


@given(st.datetimes(datetime(1970, 1, 1), datetime(2262, 1, 1)), st.integers(0, 999), st.integers(-720, 720))
def test_times_as_text_are_exact_to_the_nanosecond(moment, nanoseconds, offset):
    exact = moment.replace(tzinfo=UTC)
    wanted = (exact - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000 + nanoseconds
    fraction = f"{moment.microsecond:06d}{nanoseconds:03d}"
    assert parse_time_ns(moment.strftime("%Y-%m-%dT%H:%M:%S.").rjust(20, "0") + fraction + "Z") == wanted
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    local = (moment + timedelta(minutes=offset)).strftime("%Y-%m-%d %H:%M:%S.").rjust(20, "0")
    assert parse_time_ns(f"{local}{fraction}{sign}{minutes // 60:02d}:{minutes % 60:02d}") == wanted


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2026-11-21", "2026-13-21T10:00:00Z", "2026-11-21T10:00:00", "1e9", "-5", -1, 10**20]
)
def test_what_is_no_time(value):
    with pytest.raises(NotATime):
        parse_time_ns(value)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**62), st.integers(0, 2**58 - 1))
def test_an_entry_key_tells_its_sequence(time_ns, sequence, salt):
    key = entry_key(time_ns, sequence, salt)
    assert sequence_of(key) == (time_ns // 1_000_000, sequence)
    assert len(key) == 57
    assert entry_key(time_ns, sequence, salt ^ 1) != key


@pytest.mark.parametrize(
    "line",
    [b'{"_time":5,"_time":6,"a":"1"}', b'{"_time":5,"a":"1","_time":null}', b'{"_time":5,"a":"1","a":"2"}',
     b'{"\\u005ftime":5,"a":"1"}', b'{"_time":"5","a":"1"}', b'{"a":"1","_time":5.0,"b":null}'],
)  # fmt: skip
def test_the_first_of_equal_keys_counts_when_fields_are_known_too(line):
    guard = Guard(1 << 20)
    for _ in range(2):
        assert read(guard.check("s", line, NOW).batch) == [(5 * 10**9, {"a": "1"})]
        guard.check("s", b'{"a":"1","b":"2"}', NOW)


def test_the_fast_path_passes_bytes_on_as_they_are():
    guard = Guard(1 << 20)
    body = b'{"a":"1","b":"2"}\n{"b":"3"}'
    guard.check("s", body, NOW)
    checked = guard.check("s", body + b"\n", NOW)
    assert checked.batch.body == body
    timed = guard.check("s", b'{"_time":7,"a":"1"}\n{"a":"2"}', NOW).batch
    assert timed.body == b'{"_time":7,"a":"1"}\n{"a":"2"}'
    assert struct.unpack("<2q", timed.times) == (7 * 10**9, NOW)
    assert msgspec.json.decode(timed.body.split(b"\n")[1]) == {"a": "2"}
