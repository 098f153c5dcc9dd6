"""PostgreSQL: the fence lock is an advisory lock of the transaction, so it works behind a transaction pooler too.

Credentials are files, read anew for each connection: a rotated password is taken up without a restart.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg import errors
from sqlalchemy import Connection, String, Table, TextClause, create_engine, text
from sqlalchemy.dialects.postgresql import dialect, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from store_runtime.config.backends import PostgresBackend
from store_runtime.errors import BackendUnreachable, Conflict, OutOfSpace, Overloaded, StoreError

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
"""No statement of a request may take longer; jobs set their own limit."""
CONNECTIONS_MAX = 10
WAIT_SECONDS = 10.0
RECYCLE_SECONDS = 1800
"""So that connections follow a failover or a changed role setting within half an hour."""
KEEPALIVE_SECONDS = 30
"""Silence after which a connection is probed: a server that is gone is noticed."""
FENCE_LOCK = 0x53746F7265000001
"""«Store», 1: the advisory lock of the one store that a database carries."""
MIGRATION_LOCK = 0x53746F7265000002
"""«Store», 2: held while a migration runs."""


class PostgresDialect:
    """`store_runtime.logstore.drivers.dialect.Dialect` for PostgreSQL. Connects when it is first used."""

    insert = staticmethod(insert)

    def __init__(self, backend: PostgresBackend, *, name: str, statement_seconds: int = STATEMENT_SECONDS) -> None:
        """`name` is what the server shows of this client (application_name)."""
        self._backend, self._name, self._statement_seconds = backend, name, statement_seconds
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            isolation_level="READ COMMITTED",  # the meta read after the fence lock has to be of after it
            pool_size=CONNECTIONS_MAX,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
            pool_recycle=RECYCLE_SECONDS,
            pool_pre_ping=True,
        )

    @contextmanager
    def begin_write(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def begin_migration(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            locked = text("SELECT pg_try_advisory_xact_lock(:key)")
            if not connection.execute(locked, {"key": MIGRATION_LOCK}).scalar_one():
                raise _migrating(connection)
            yield connection

    def insert_many(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        connection.execute(_insert_from_json(table), {"rows": orjson.dumps(rows).decode()})

    def insert_absent(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> set[str]:
        statement = text(f"{_insert_from_json(table)} ON CONFLICT (id) DO NOTHING RETURNING id")
        return set(connection.execute(statement, {"rows": orjson.dumps(rows).decode()}).scalars())

    def lock_shared(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": FENCE_LOCK})

    def lock_exclusive(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FENCE_LOCK})

    def create_versions(self, connection: Connection) -> None:
        """A sequence: writers do not wait for each other. Versions of transactions that fail are gaps."""
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise Conflict(
                f"the database {self._backend.database} has the encoding {encoding}; request logs need UTF8: create it "
                "with ENCODING 'UTF8' TEMPLATE template0",
                code="UnsuitableDatabase",
            )
        connection.execute(text("CREATE SEQUENCE IF NOT EXISTS _store_mark_version"))

    def next_versions(self, connection: Connection, count: int) -> Sequence[int]:
        taken = text("SELECT nextval('_store_mark_version') FROM generate_series(1, :count)")
        return sorted(connection.execute(taken, {"count": count}).scalars())

    def drop_versions(self, connection: Connection) -> None:
        connection.execute(text("DROP SEQUENCE IF EXISTS _store_mark_version"))

    def give_back_space(self) -> None:
        """Autovacuum's work; partitions, which retention drops whole, come with the next schema."""

    def make_room(self) -> bool:
        """The server's disk is the server's."""
        return False

    def translated(self, error: Exception) -> StoreError:
        if isinstance(error, PoolTimeout):
            return Overloaded(f"more than {CONNECTIONS_MAX} requests use the database at once; try again")
        if not isinstance(error, DBAPIError):
            if isinstance(error, psycopg.Error):
                return self._error(error)
            return StoreError("unexpected error in the request logs; the server's log tells more")
        return self._error(error.orig)

    def _error(self, cause: BaseException | None) -> StoreError:
        where = f"PostgreSQL at {self._backend.host}:{self._backend.port}, database {self._backend.database}"
        if isinstance(cause, errors.DiskFull):
            return OutOfSpace(f"{where}: its disk is full; nothing was stored")
        if isinstance(cause, errors.TransactionRollback):
            return Overloaded(f"{where}: the transaction got into the way of another and was not done; try again")
        for kinds, code, advice in _ADVICE:
            if isinstance(cause, kinds):
                return BackendUnreachable(f"{where}: {advice}", code=code)
        if not isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
            return StoreError("the database refused a statement; the store's log tells more")
        for words, code, advice in _CONNECTING:
            if words in str(cause):
                return BackendUnreachable(f"{where}: {advice}", code=code)
        return BackendUnreachable(f"{where} does not answer: {_first_line(str(cause))}")

    def _connect(self) -> Any:
        user, password = credentials(Path(self._backend.credentials_directory))
        limit = self._statement_seconds * 1000
        return psycopg.connect(
            host=self._backend.host,
            port=self._backend.port,
            dbname=self._backend.database,
            user=user,
            password=password,
            sslmode=self._backend.ssl_mode.value,
            connect_timeout=CONNECT_SECONDS,
            application_name=self._name[:63],
            options=f"-c statement_timeout={limit} -c idle_in_transaction_session_timeout={limit * 2}",
            client_encoding="UTF8",
            keepalives_idle=KEEPALIVE_SECONDS,
            prepare_threshold=None,  # prepared statements do not go through a transaction pooler
        )


_ADVICE: tuple[tuple[Any, str, str], ...] = (
    (errors.InsufficientPrivilege, "InsufficientPrivileges", "the role lacks a right; grant it CREATE on the schema"),
    (errors.UndefinedTable, "NotMigrated", "its schema is not there; run the migrate job"),
    (errors.QueryCanceled, "Timeout", f"a statement took longer than {STATEMENT_SECONDS} s and was cancelled"),
    (errors.ReadOnlySqlTransaction, "ReadOnly", "it takes no writes now (a standby, or read-only)"),
)
_CONNECTING = (
    ("authentication failed", "AuthenticationFailed", "it refused the user or password of the credentials Secret"),
    ("no password supplied", "AuthenticationFailed", "it wants a password and the credentials Secret has none"),
    ("does not exist", "DatabaseMissing", "the database or role does not exist; create it"),
    ("permission denied", "InsufficientPrivileges", "the role may not connect to the database"),
)


_DIALECT: Any = dialect()  # type: ignore[no-untyped-call]


@cache
def _insert_from_json(table: Table) -> TextClause:
    """An insert of rows that come as one JSON text: thousands of parameters cost more than the insert itself."""
    names = ", ".join(str(column.name) for column in table.c)
    typed = ", ".join(f"{column.name} {_json_type(column.type)}" for column in table.c)
    source = f"json_to_recordset(:rows) AS r ({typed})"
    statement = f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {source}"  # noqa: S608 — names of our own tables
    return text(statement)


def _json_type(type_: Any) -> str:
    """Of a column in json_to_recordset: texts without length, which the table itself checks."""
    return "text" if isinstance(type_, String) else str(type_.compile(dialect=_DIALECT))


def _migrating(connection: Connection) -> Conflict:
    """Names the session that migrates; it may end at this moment, so it may not be found."""
    asked = text(
        "SELECT a.pid, a.application_name, a.client_addr, a.xact_start FROM pg_locks l "
        "JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted "
        "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND (l.classid::bigint << 32) + l.objid::bigint = :key"
    )
    found = connection.execute(asked, {"key": MIGRATION_LOCK}).first()
    holder = "somebody"
    if found is not None:
        holder = f"{found.application_name}, pid {found.pid} from {found.client_addr}, since {found.xact_start}"
    return Conflict(
        f"another migration of this database is running ({holder}); run this one when it has ended",
        code="MigrationLocked",
    )


def credentials(directory: Path) -> tuple[str, str]:
    """(user, password) of a mounted Secret, as CloudNativePG, Zalando's and Crunchy's operators write them."""
    user = _read(directory, "username") or _read(directory, "user")
    if not user:
        raise BackendUnreachable(
            f"the credentials Secret (mounted at {directory}) has no key username or user", code="SecretIncomplete"
        )
    return user, _read(directory, "password")


def _read(directory: Path, name: str) -> str:
    try:
        return (directory / name).read_text().rstrip("\r\n")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise BackendUnreachable(
            f"the credentials file {directory / name} cannot be read: {type(error).__name__}", code="SecretIncomplete"
        ) from None  # the cause could quote the secret


def _first_line(said: str) -> str:
    return said.strip().splitlines()[0][:200] if said.strip() else "no reason given"
