"""Segments: immutable Parquet files of one stream, sorted by time (docs/formats/segment.md). Written by builders."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from store_runtime.engine.disk import sync_directory
from store_runtime.engine.limits import ROW_GROUP_ROWS
from store_runtime.engine.rows import REST, SEQUENCE, TIME

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1
METADATA_KEY = "storekeeper.segment"
_DICTIONARY_SHARE = 0.1
"""A column with fewer distinct values than this share of its rows is stored with a dictionary."""
_ID_LIKE = re.compile(r"(^|[._-])(id|uuid|trace|span)$|id$", re.IGNORECASE)
_BLOOM_FALSE_POSITIVES = 0.01


class Segment(msgspec.Struct, frozen=True):
    """One segment as the catalogue has it. `rest` are the names of fields that live in the REST column."""

    file: str
    stream: int
    min_ns: int
    max_ns: int
    rows: int
    bytes: int
    crc: int
    first_sequence: int
    last_sequence: int
    wal: int
    columns: tuple[str, ...]
    rest: tuple[str, ...] = ()

    def overlaps(self, first_sequence: int, last_sequence: int) -> bool:
        return self.first_sequence <= last_sequence and first_sequence <= self.last_sequence


def stream_directory(segments: Path, stream: int) -> Path:
    """Where a stream's segments are; its name is on disk when this returns."""
    directory = segments / str(stream)
    if not directory.is_dir():
        directory.mkdir(exist_ok=True)
        sync_directory(segments)
    return directory


def write(rows: "pl.DataFrame", path: Path, *, stream: int, name: str, wal: int, indexed: Collection[str]) -> Segment:
    """Write rows of one stream as a segment: temporary file, fsync, rename, fsync of the directory. Raises OSError."""
    import polars as pl
    import pyarrow.parquet as pq

    rows = _tidy(rows)
    columns = tuple(column for column in rows.columns if column not in (TIME, SEQUENCE, REST))
    facts = {
        "format": FORMAT, "stream": stream, "name": name, "wal": wal, "rest": list(_rest_names(rows)),
        "min_ns": rows[TIME][0], "max_ns": rows[TIME][-1],
        "first_sequence": rows[SEQUENCE].min(), "last_sequence": rows[SEQUENCE].max(),
    }  # fmt: skip
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    table = table.replace_schema_metadata({METADATA_KEY: msgspec.json.encode(facts)})
    temporary = path.with_suffix(".tmp")
    pq.write_table(table, temporary, **_options(rows, indexed))
    size, crc = _sync(temporary)
    temporary.rename(path)
    sync_directory(path.parent)
    facts = {key: facts[key] for key in ("min_ns", "max_ns", "first_sequence", "last_sequence", "rest", "wal")}
    named = dict(facts, file=path.name, stream=stream, rows=rows.height, bytes=size, crc=crc, columns=columns)
    return msgspec.convert(named, Segment)


def _tidy(rows: "pl.DataFrame") -> "pl.DataFrame":
    """In order of time, then sequence, without columns that hold nothing."""
    if not rows.select((TIME, SEQUENCE)).is_empty() and not rows[TIME].is_sorted():
        rows = rows.sort(TIME, SEQUENCE)
    return rows.select(column for column in rows.columns if rows[column].null_count() < rows.height)


def _rest_names(rows: "pl.DataFrame") -> tuple[str, ...]:
    if REST not in rows.columns:
        return ()
    names: dict[str, None] = {}
    for text in rows[REST].drop_nulls():
        names.update(dict.fromkeys(msgspec.json.decode(text, type=dict[str, str])))
    return tuple(names)


def _options(rows: "pl.DataFrame", indexed: Collection[str]) -> dict[str, Any]:
    """Dictionaries where values repeat, blooms where somebody looks for one value among many."""
    import polars as pl

    columns = [column for column in rows.columns if column not in (TIME, SEQUENCE)]
    distinct: dict[str, int] = rows.select(pl.col(columns).approx_n_unique()).to_dicts()[0] if columns else {}
    repeating = [column for column in columns if distinct[column] < rows.height * _DICTIONARY_SHARE]
    blooms = [
        column
        for column in columns
        if column != REST and (column in indexed or (_ID_LIKE.search(column) and column not in repeating))
    ]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "row_group_size": ROW_GROUP_ROWS,
        "use_dictionary": repeating,
        "column_encoding": {TIME: "DELTA_BINARY_PACKED", SEQUENCE: "DELTA_BINARY_PACKED"},
        "write_page_index": True,
        "write_page_checksum": True,
        "bloom_filter_options": {
            column: {"ndv": max(64, min(distinct[column], ROW_GROUP_ROWS)), "fpp": _BLOOM_FALSE_POSITIVES}
            for column in blooms
        },
    }


def _sync(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file that is on disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        crc = size = 0
        while data := os.read(descriptor, 1 << 20):
            crc, size = crc32(data, crc), size + len(data)
        return size, crc
    finally:
        os.close(descriptor)


def checksum(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file; raises OSError."""
    crc = size = 0
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            crc, size = crc32(data, crc), size + len(data)
    return size, crc
