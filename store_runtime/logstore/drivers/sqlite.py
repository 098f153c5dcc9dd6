"""SQLite on a volume: one process, many threads, `synchronous=FULL`, so a commit is on disk.

The fence lock is the write lock that every write takes anyway: BEGIN IMMEDIATE.
"""

import fcntl
import os
import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Table, create_engine, event, text
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from store_runtime.errors import BackendUnreachable, Conflict, Corrupt, OutOfSpace, Overloaded, StoreError
from store_runtime.logstore.drivers.reserve import SUFFIX as RESERVE_SUFFIX
from store_runtime.logstore.drivers.reserve import Reserve

BUSY_SECONDS = 10.0
"""How long a write waits for another process (a job) that writes; threads of this one wait for each other outside."""
CONNECTIONS_MAX = 16
WAIT_SECONDS = 10.0
"""For a connection of the pool."""
CACHE_KIB = 64 * 1024
WAL_BYTES_KEPT = 64 * 1024 * 1024
"""To which the write-ahead log is cut when it begins anew."""
VACUUM_PAGES = 2_000
"""Free pages given back in one step (8 MiB), so that writers wait only a moment."""
MIGRATION_LOCK_SUFFIX = "-migrating"
"""Of a file beside the database: locked by the process that migrates, with its name in it."""
SUFFIXES = ("", "-wal", "-shm", MIGRATION_LOCK_SUFFIX, RESERVE_SUFFIX)
"""Of the files that a database consists of."""


class SqliteDialect:
    """`store_runtime.logstore.drivers.dialect.Dialect` for SQLite."""

    insert = staticmethod(insert)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reserve = Reserve(path)
        self._writer = threading.Lock()
        self.engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            poolclass=QueuePool,
            pool_size=CONNECTIONS_MAX,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
        )
        event.listen(self.engine, "connect", _prepare)
        event.listen(self.engine, "begin", _begin)

    @contextmanager
    def begin_write(self) -> Iterator[Connection]:
        with self._writer, self.engine.execution_options(write=True).begin() as connection:
            yield connection

    def insert_many(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        connection.execute(table.insert(), rows)

    def insert_absent(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> set[str]:
        statement = insert(table).on_conflict_do_nothing(index_elements=["id"]).returning(table.c.id)
        return set(connection.execute(statement, rows).scalars())

    def lock_shared(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has it."""

    def lock_exclusive(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has it."""

    @contextmanager
    def begin_migration(self) -> Iterator[Connection]:
        """The lock is flock's: it goes with its process, however that ends."""
        with Path(f"{self._path}{MIGRATION_LOCK_SUFFIX}").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise _migrating(file.read().strip()) from error
            file.truncate(0)
            print(f"pid {os.getpid()} on {socket.gethostname()}", file=file, flush=True)
            with self.begin_write() as connection:
                yield connection

    def create_versions(self, connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS _store_mark_version (version INTEGER NOT NULL)")
        first = "INSERT INTO _store_mark_version SELECT 0 WHERE NOT EXISTS (SELECT * FROM _store_mark_version)"
        connection.exec_driver_sql(first)

        self._reserve.keep()

    def next_versions(self, connection: Connection, count: int) -> Sequence[int]:
        raised = text("UPDATE _store_mark_version SET version = version + :count RETURNING version")
        last: int = connection.execute(raised, {"count": count}).scalar_one()
        return range(last - count + 1, last + 1)

    def drop_versions(self, connection: Connection) -> None:
        connection.exec_driver_sql("DROP TABLE IF EXISTS _store_mark_version")

    def give_back_space(self) -> None:
        """Free pages to the file system, a step at a time, as long as that makes them fewer."""
        left = self._outside_transaction("PRAGMA freelist_count")
        while left:
            before = left
            self._outside_transaction(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            left = self._outside_transaction("PRAGMA freelist_count")
            if left >= before:
                break
        self._outside_transaction("PRAGMA wal_checkpoint(PASSIVE)")  # waits for nobody
        self._reserve.keep()

    def make_room(self) -> bool:
        """Give up the reserve, and bring the write-ahead log into the database, so that it is written over."""
        if not self._reserve.give_up():
            return False
        self._outside_transaction("PRAGMA wal_checkpoint(PASSIVE)")
        return True

    def _outside_transaction(self, pragma: str) -> int:
        with self._writer, self.engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            rows = raw.execute(pragma).fetchall()
        return int(rows[0][0]) if rows and rows[0] else 0  # some answer a row without columns (Python 3.13)

    def translated(self, error: Exception) -> StoreError:
        if isinstance(error, PoolTimeout):
            return Overloaded(f"more than {CONNECTIONS_MAX} requests use the database at once; try again")
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, sqlite3.Error):
            return StoreError("unexpected error in the request logs; the store's log tells more")
        return _error(getattr(cause, "sqlite_errorcode", 0), self._path, str(cause))


def _migrating(holder: str) -> Conflict:
    return Conflict(
        f"another migration of this database is running ({holder or 'somebody'}); run this one when it has ended",
        code="MigrationLocked",
    )


def _error(extended: int, path: Path, said: str) -> StoreError:
    """By result code, https://www.sqlite.org/rescode.html; the extended ones have the plain one in their low byte."""
    code = extended & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Overloaded(f"another process has been writing the database for {BUSY_SECONDS:.0f} s; try again")
    if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_WRITE:  # a quota, or a limit of file sizes
        free = shutil.disk_usage(path.parent).free
        return OutOfSpace(f"the volume of the request logs is full ({free} bytes free); nothing was stored")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt(f"{path.name} is damaged: {said}; restore it from a backup")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return BackendUnreachable(f"{path.name} cannot be opened or written: {said}")
    return StoreError("the database refused a statement; the store's log tells more")


def _prepare(connection: Any, _record: Any) -> None:
    """Pragmas of a new connection; transactions are begun by `_begin`, not by the sqlite3 module."""
    connection.isolation_level = None
    if not connection.execute("PRAGMA page_count").fetchone()[0]:  # of an old file it would only wait for writers
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = OFF",  # payloads are deleted by hand, a statement for many rows
        f"journal_size_limit = {WAL_BYTES_KEPT}",
        f"cache_size = -{CACHE_KIB}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
