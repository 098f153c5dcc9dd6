"""From frames of the log to a table: the one parser that builders and queries share, so both see the same entries."""

import struct
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from store_runtime.engine.frames import Header
from store_runtime.engine.limits import COLUMNS_MAX

if TYPE_CHECKING:
    import polars as pl

TIME = "_t"
SEQUENCE = "_seq"
REST = "_rest"
"""Column of fields that have none of their own: a JSON object of strings."""
RESERVED = frozenset({TIME, SEQUENCE, REST})
"""A field of such a name lives in REST."""

_INT64 = struct.Struct("<q")


class Unreadable(Exception):
    """Frames whose checksums agree hold something else than their headers say."""


def table(frames: Sequence[tuple[Header, bytes, bytes]], columns: Sequence[str]) -> "pl.DataFrame":
    """(header, times, body) of batches of one stream, in order → TIME, SEQUENCE and `columns`, in the same order.

    The first of duplicate keys wins. Raises Unreadable.
    """
    import polars as pl

    rows = pl.DataFrame([_times(frames), _sequences(frames)])
    if not columns:
        return rows
    schema = dict.fromkeys(columns, pl.String())
    try:
        fields = pl.read_ndjson(b"\n".join(body.removesuffix(b"\n") for _, _, body in frames), schema=schema)
    except pl.exceptions.PolarsError as error:
        raise Unreadable(str(error)) from error
    if fields.height != rows.height:
        raise Unreadable(f"{fields.height} entries where {rows.height} were promised")
    return rows.hstack(fields.get_columns())


def from_entries(entries: Sequence[tuple[int, int, dict[str, str]]]) -> "pl.DataFrame":
    """(time, sequence, fields) in order → the same table; the most frequent fields get columns, the others REST."""
    import polars as pl

    counted = Counter(name for _, _, fields in entries for name in fields if name not in RESERVED)
    columns = [name for name, _ in counted.most_common(COLUMNS_MAX)]
    named = frozenset(columns)
    data: dict[str, list[int] | list[str | None]] = {
        TIME: [time_ns for time_ns, _, _ in entries],
        SEQUENCE: [sequence for _, sequence, _ in entries],
    }
    data.update({name: [fields.get(name) for _, _, fields in entries] for name in columns})
    rest = [{name: value for name, value in fields.items() if name not in named} for _, _, fields in entries]
    data[REST] = [msgspec.json.encode(fields).decode() if fields else None for fields in rest]
    types = {TIME: pl.Int64(), SEQUENCE: pl.Int64()}
    return pl.DataFrame(data, schema={name: types.get(name, pl.String()) for name in data})


def _times(frames: Sequence[tuple[Header, bytes, bytes]]) -> "pl.Series":
    return _int64(TIME, b"".join(times or _INT64.pack(header.min_ns) * header.entries for header, times, _ in frames))


def _sequences(frames: Sequence[tuple[Header, bytes, bytes]]) -> "pl.Series":
    sequences = array("q")
    for header, _, _ in frames:
        sequences.extend(range(header.first_sequence, header.first_sequence + header.entries))
    return _int64(SEQUENCE, sequences.tobytes())


def _int64(name: str, data: bytes) -> "pl.Series":
    import polars as pl
    import pyarrow as pa

    values = pa.Array.from_buffers(pa.int64(), len(data) // 8, [None, pa.py_buffer(data)])
    return pl.Series(name, values)
