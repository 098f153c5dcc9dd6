"""The guard: from a body of NDJSON to a batch that is certain to be stored and read again.

The fast path decodes a body in one call against the stream's known fields, keeps nothing of it but the times, and
passes the bytes on as they are. Whatever it does not expect (a new field, a number, an odd line) takes the slow path,
which looks at each line by itself, rejects single ones, writes the body anew, and learns the new fields.
"""

import re
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from store_runtime.errors import InvalidInput
from store_runtime.streams.event_time import NotATime, parse_time_ns
from store_runtime.streams.flat import TIME_FIELD, Rejected, flatten
from store_runtime.streams.model import REASONS_MAX, EntryBatch

COLUMNS_MAX = 64
"""Fields of a stream with a column; wider, decoding and building cost more than the column is worth."""
COLUMN_NAME_BYTES_MAX = 128
"""A longer name is rather data than a name."""
SHAPES_MAX = 4096
"""Streams whose fields are remembered (10 KB each); others learn theirs again."""
REST_COLUMN = "_rest"
_ODD = re.compile(r'[\x00-\x1f\x7f"\\]')
"""In a name: msgspec has no fields of such names."""
_RESERVED = frozenset({"_t", "_seq", REST_COLUMN, TIME_FIELD, ""})


class Checked(NamedTuple):
    """A batch (None if nothing is left of the body), and what was rejected."""

    batch: EntryBatch | None
    rejected: int
    reasons: tuple[str, ...]


class Shape:
    """The columns of a stream as this process knows them, and the decoder that accepts nothing else. Immutable."""

    def __init__(self, columns: tuple[str, ...] = ()) -> None:
        self.columns = columns
        self._known = frozenset(columns)
        time = ("t", str | int | float | None, msgspec.field(name=TIME_FIELD, default=None))
        fields = [
            (f"f{index}", str | None, msgspec.field(name=name, default=None)) for index, name in enumerate(columns)
        ]
        entry = msgspec.defstruct("Entry", [time, *fields], gc=False, forbid_unknown_fields=True)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(entry)

    def learned(self, names: Iterable[str]) -> "Shape":
        """A shape with these fields too, as far as there is room; itself if there is nothing new."""
        room = COLUMNS_MAX - len(self.columns)
        fresh = [name for name in dict.fromkeys(names) if name not in self._known and _may_be_column(name)][:room]
        return Shape((*self.columns, *fresh)) if fresh else self

    def times(self, body: bytes) -> list[str | int | float | None] | None:
        """The event time of each line, if every line is one flat object of known fields; else None."""
        lines = body.count(b"\n")
        if not self.columns or body[:1] != b"{" or body[-1:] != b"}" or body.count(b"}\n{") != lines:
            return None
        try:
            entries = self._decoder.decode_lines(body)
        except msgspec.DecodeError:
            return None
        if len(entries) != lines + 1:
            return None
        return [entry.t for entry in entries]

    def split(self, fields: dict[str, str]) -> dict[str, str]:
        """Fields with columns as they are, all others as JSON text under REST_COLUMN."""
        if self._known.issuperset(fields):
            return fields
        flat = {name: value for name, value in fields.items() if name in self._known}
        rest = {name: value for name, value in fields.items() if name not in self._known}
        return {**flat, REST_COLUMN: msgspec.json.encode(rest).decode()}


def _may_be_column(name: str) -> bool:
    return name not in _RESERVED and len(name.encode()) <= COLUMN_NAME_BYTES_MAX and not _ODD.search(name)


class Guard:
    """Checks bodies of any number of streams. Thread-safe: a race only learns a field twice."""

    def __init__(self, entry_bytes_max: int) -> None:
        self._entry_bytes_max = entry_bytes_max
        self._shapes: OrderedDict[str, Shape] = OrderedDict()

    def check(self, stream: str, body: bytes, now_ns: int) -> Checked:
        """Check NDJSON; entries without an event time get `now_ns`."""
        shape = self._shapes.get(stream) or Shape()
        body = body.removesuffix(b"\n")
        if not body:
            return Checked(None, 0, ())
        if len(body) <= self._entry_bytes_max or max(map(len, body.split(b"\n"))) <= self._entry_bytes_max:
            batch = _fast(shape, body, now_ns)
            if batch is not None:
                return Checked(batch, 0, ())
        return self._slow(stream, shape, body, now_ns)

    def forget(self, stream: str) -> None:
        """The stream was deleted."""
        self._shapes.pop(stream, None)

    def _slow(self, stream: str, shape: Shape, body: bytes, now_ns: int) -> Checked:
        entries: list[dict[str, str]] = []
        times: list[int] = []
        rejected: list[str] = []
        for number, line in enumerate(body.split(b"\n"), 1):
            line = line.strip()
            if not line:
                continue
            try:
                time_ns, fields = flatten(self._bounded(line))
                entries.append(fields)
                times.append(now_ns if time_ns is None else time_ns)
            except Rejected as error:
                rejected.append(f"line {number}: {error}")
        shape = self._learn(stream, shape, entries)
        batch = _batch(shape, entries, times) if entries else None
        return Checked(batch, len(rejected), tuple(rejected[:REASONS_MAX]))

    def _bounded(self, line: bytes) -> bytes:
        if len(line) > self._entry_bytes_max:
            raise Rejected(f"{len(line)} bytes long; the limit of an entry is {self._entry_bytes_max}")
        return line

    def _learn(self, stream: str, shape: Shape, entries: Sequence[dict[str, str]]) -> Shape:
        learned = shape.learned(name for fields in entries for name in fields)
        if learned is not shape:
            self._shapes[stream] = learned
            self._shapes.move_to_end(stream)
            while len(self._shapes) > SHAPES_MAX:
                self._shapes.popitem(last=False)
        return learned


def _fast(shape: Shape, body: bytes, now_ns: int) -> EntryBatch | None:
    """The body as it is; None if any line needs a closer look."""
    found = shape.times(body)
    if found is None:
        return None
    told = len(found) - found.count(None)
    if body.count(b'"_time"') != told:
        return None  # repeated, null, or spelled in another way: the slow path knows which counts
    if not told:
        return EntryBatch(shape.columns, len(found), now_ns, now_ns, b"", body)
    try:
        times = [now_ns if time is None else parse_time_ns(time) for time in found]
    except NotATime:
        return None
    return EntryBatch(shape.columns, len(found), min(times), max(times), _packed(times), body)


def _batch(shape: Shape, entries: Sequence[dict[str, str]], times: list[int]) -> EntryBatch:
    split = [shape.split(fields) for fields in entries]
    wide = any(REST_COLUMN in fields for fields in split)
    columns = (*shape.columns, REST_COLUMN) if wide else shape.columns
    body = b"\n".join(msgspec.json.encode(fields) for fields in split)
    return EntryBatch(columns, len(split), min(times), max(times), _packed(times), body)


def _packed(times: Sequence[int]) -> bytes:
    """Empty if all are the same."""
    return b"" if times.count(times[0]) == len(times) else struct.pack(f"<{len(times)}q", *times)


def require_all(checked: Checked) -> None:
    """Raises InvalidInput if anything was rejected."""
    if checked.rejected:
        raise InvalidInput(
            f"{checked.rejected} entries are not accepted, so none was stored (strict); {checked.reasons[0]}",
            field="body",
        )
