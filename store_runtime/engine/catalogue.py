"""The catalogue: streams, segments, the store's meta and its dirty marks (docs/formats/catalogue.md).

One SQLite file (WAL journal, synchronous FULL) with one writer, the server. Every method is one transaction.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from store_runtime.engine.segments import Segment
from store_runtime.errors import Corrupt, SchemaTooNew
from store_runtime.switch.driver import DirtyMark, StoreMeta

SCHEMA_VERSION = "1"
FILE_NAME = "catalogue.sqlite"
_APPLICATION_ID = 0x534B4543  # "SKEC"
_BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE streams (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, max_age_ns INTEGER NOT NULL,
  max_bytes INTEGER NOT NULL, indexed TEXT NOT NULL, declared INTEGER NOT NULL, salt INTEGER NOT NULL,
  next_sequence INTEGER NOT NULL, purged_before INTEGER NOT NULL);
CREATE TABLE segments (
  file TEXT PRIMARY KEY, stream INTEGER NOT NULL, min_ns INTEGER NOT NULL, max_ns INTEGER NOT NULL,
  rows INTEGER NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL, first_sequence INTEGER NOT NULL,
  last_sequence INTEGER NOT NULL, wal INTEGER NOT NULL, columns TEXT NOT NULL, rest TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX segments_of_stream ON segments (stream);
CREATE TABLE built (wal INTEGER PRIMARY KEY);
CREATE TABLE quarantine (file TEXT PRIMARY KEY, stream INTEGER NOT NULL, rows INTEGER NOT NULL, reason TEXT NOT NULL,
  at_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE dirty (key TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
"""


class StreamRow(msgspec.Struct, frozen=True):
    """A stream's config and counters. 0 is unlimited; `salt` makes entry keys differ between streams."""

    id: int
    name: str
    max_age_ns: int = 0
    max_bytes: int = 0
    indexed: tuple[str, ...] = ()
    declared: bool = False
    salt: int = 0
    next_sequence: int = 0
    purged_before: int = 0


class Catalogue:
    """Opened for one process. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        """Open or create; raises SchemaTooNew, Corrupt."""
        self._lock = threading.Lock()
        self._path = directory / FILE_NAME
        try:
            self._db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise Corrupt(f"{self._path} is damaged ({error}); restore it from a snapshot") from error

    def _prepare(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > int(SCHEMA_VERSION):
            raise SchemaTooNew(
                f"{self._path} has schema {version}; this version knows {SCHEMA_VERSION}: use a newer runtime"
            )
        if application == _APPLICATION_ID:
            return
        with self._transaction() as db:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # -- the store's identity -------------------------------------------------------------------------------------

    def read_meta(self) -> StoreMeta | None:
        found = self.fact("meta")
        return None if found is None else msgspec.json.decode(str(found), type=StoreMeta)

    def write_meta(self, meta: StoreMeta) -> None:
        self._write_facts({"meta": msgspec.json.encode(meta).decode()})

    def fact(self, name: str) -> str | int | None:
        with self._lock:
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def _write_facts(self, facts: dict[str, str | int]) -> None:
        with self._transaction() as db:
            db.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())

    # -- streams --------------------------------------------------------------------------------------------------

    def streams(self) -> list[StreamRow]:
        with self._lock:
            rows = self._db.execute(f"SELECT {_STREAM_COLUMNS} FROM streams").fetchall()  # noqa: S608
        return [_stream_row(row) for row in rows]

    def add_stream(self, row: StreamRow, marks: Sequence[DirtyMark]) -> StreamRow:
        """Insert a stream, which gets its id: never one that was used before."""
        with self._transaction() as db:
            values = _stream_values(row)
            cursor = db.execute(
                "INSERT INTO streams (name, max_age_ns, max_bytes, indexed, declared, salt, next_sequence,"
                " purged_before) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            _mark(db, marks)
        return msgspec.structs.replace(row, id=cursor.lastrowid)

    def update_streams(self, rows: Iterable[StreamRow], marks: Sequence[DirtyMark]) -> None:
        with self._transaction() as db:
            for row in rows:
                _update_stream(db, row)
            _mark(db, marks)

    def remove_stream(self, stream: int, marks: Sequence[DirtyMark]) -> None:
        """Forget a stream and its segments; the files go after this."""
        with self._transaction() as db:
            db.execute("DELETE FROM streams WHERE id = ?", (stream,))
            db.execute("DELETE FROM segments WHERE stream = ?", (stream,))
            db.execute("DELETE FROM quarantine WHERE stream = ?", (stream,))
            _mark(db, marks)

    # -- segments -------------------------------------------------------------------------------------------------

    def segments(self) -> list[Segment]:
        with self._lock:
            rows = self._db.execute(f"SELECT {_SEGMENT_COLUMNS} FROM segments").fetchall()  # noqa: S608
        return [_segment(row) for row in rows]

    def commit_built(
        self,
        wal: int,
        segments: Iterable[Segment],
        rows: Iterable[StreamRow],
        marks: Sequence[DirtyMark],
        version: int,
    ) -> None:
        """A log file became these segments: from now on it may go. `rows` raise the streams' next sequences, `version`
        is the highest that the log file gave to a mark: it outlives the file."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO built VALUES (?)", (wal,))
            _insert_segments(db, segments)
            for row in rows:
                _raise_sequence(db, row)
            _mark(db, marks)
            _raise_version(db, version)

    def replace_segments(
        self,
        removed: Iterable[Segment],
        added: Iterable[Segment],
        rows: Iterable[StreamRow] = (),
        marks: Sequence[DirtyMark] = (),
    ) -> None:
        """Swap segments in one step: retention, purge, import, merging."""
        with self._transaction() as db:
            db.executemany("DELETE FROM segments WHERE file = ?", [(segment.file,) for segment in removed])
            _insert_segments(db, added)
            for row in rows:
                _update_stream(db, row)
            _mark(db, marks)

    def quarantine(self, segment: Segment, reason: str, at_ns: int) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM segments WHERE file = ?", (segment.file,))
            db.execute(
                "REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?)",
                (segment.file, segment.stream, segment.rows, reason, at_ns),
            )

    def quarantined(self) -> list[tuple[str, int, str]]:
        """(file, rows, reason) of every segment put aside."""
        with self._lock:
            return self._db.execute("SELECT file, rows, reason FROM quarantine ORDER BY at_ns").fetchall()

    # -- the log --------------------------------------------------------------------------------------------------

    def built(self) -> set[int]:
        with self._lock:
            return {number for (number,) in self._db.execute("SELECT wal FROM built")}

    def forget_built(self, numbers: Iterable[int]) -> None:
        """Their files are gone, durably; the newest number is kept, so that no number is ever used twice."""
        with self._transaction() as db:
            db.executemany(
                "DELETE FROM built WHERE wal = ? AND wal < (SELECT max(wal) FROM built)", [(n,) for n in numbers]
            )

    # -- dirty marks ----------------------------------------------------------------------------------------------

    def marks(self) -> list[DirtyMark]:
        with self._lock:
            return [DirtyMark(*row) for row in self._db.execute("SELECT key, version FROM dirty ORDER BY key")]

    def write_marks(self, marks: Sequence[DirtyMark]) -> None:
        with self._transaction() as db:
            _mark(db, marks)

    def clear_mark(self, mark: DirtyMark) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM dirty WHERE key = ? AND version = ?", (mark.key, mark.version))

    def clear_marks(self, version: int, meta: StoreMeta) -> None:
        """Forget all marks but not the version counter, together with the meta that says that capture is off."""
        with self._transaction() as db:
            db.execute("DELETE FROM dirty")
            db.execute("REPLACE INTO facts VALUES ('version', ?)", (version,))
            db.execute("REPLACE INTO facts VALUES ('meta', ?)", (msgspec.json.encode(meta).decode(),))

    def close(self) -> None:
        with self._lock:
            self._db.close()


_STREAM_FIELDS = StreamRow.__struct_fields__
_STREAM_COLUMNS = ", ".join(_STREAM_FIELDS)
_SEGMENT_FIELDS = Segment.__struct_fields__
_SEGMENT_COLUMNS = ", ".join(_SEGMENT_FIELDS)


def _stream_row(values: Sequence[object]) -> StreamRow:
    named = dict(zip(_STREAM_FIELDS, values, strict=True))
    named["indexed"] = msgspec.json.decode(str(named["indexed"]))
    named["declared"] = bool(named["declared"])
    return msgspec.convert(named, StreamRow)


def _stream_values(row: StreamRow) -> tuple[object, ...]:
    """All but the id, in the order of the table."""
    return (
        row.name, row.max_age_ns, row.max_bytes, msgspec.json.encode(row.indexed).decode(), row.declared, row.salt,
        row.next_sequence, row.purged_before,
    )  # fmt: skip


def _update_stream(db: sqlite3.Connection, row: StreamRow) -> None:
    db.execute(
        "UPDATE streams SET name = ?, max_age_ns = ?, max_bytes = ?, indexed = ?, declared = ?, salt = ?,"
        " next_sequence = max(next_sequence, ?), purged_before = ? WHERE id = ?",
        (*_stream_values(row), row.id),
    )


def _raise_sequence(db: sqlite3.Connection, row: StreamRow) -> None:
    db.execute("UPDATE streams SET next_sequence = max(next_sequence, ?) WHERE id = ?", (row.next_sequence, row.id))


def _segment(values: Sequence[object]) -> Segment:
    named = dict(zip(_SEGMENT_FIELDS, values, strict=True))
    for field in ("columns", "rest"):
        named[field] = msgspec.json.decode(str(named[field]))
    return msgspec.convert(named, Segment)


def _insert_segments(db: sqlite3.Connection, segments: Iterable[Segment]) -> None:
    for segment in segments:
        values = [getattr(segment, name) for name in _SEGMENT_FIELDS]
        values[-2:] = [msgspec.json.encode(names).decode() for names in values[-2:]]
        places = ", ".join("?" * len(values))
        db.execute(f"REPLACE INTO segments ({_SEGMENT_COLUMNS}) VALUES ({places})", values)  # noqa: S608


def _mark(db: sqlite3.Connection, marks: Sequence[DirtyMark]) -> None:
    """Write marks, and the highest version given out: it outlives the marks, so that none is used twice."""
    if not marks:
        return
    db.executemany("REPLACE INTO dirty VALUES (?, ?)", [(mark.key, mark.version) for mark in marks])
    _raise_version(db, max(mark.version for mark in marks))


def _raise_version(db: sqlite3.Connection, version: int) -> None:
    db.execute(
        "INSERT INTO facts VALUES ('version', ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        (version,),
    )
