"""PostgreSQL: the fence lock is an advisory lock of the transaction, so it works behind a transaction pooler too.

Credentials are files, read anew for each connection: a rotated password is taken up without a restart.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from store_runtime.config.backends import PostgresBackend
from store_runtime.errors import BackendUnreachable, Overloaded, StoreError

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
"""No statement of a request may take longer; jobs set their own limit."""
CONNECTIONS_MAX = 10
WAIT_SECONDS = 10.0
RECYCLE_SECONDS = 1800
FENCE_LOCK = 0x53746F7265000001
"""«Store», 1: the advisory lock of the one store that a database carries."""


class PostgresDialect:
    """`store_runtime.logstore.drivers.dialect.Dialect` for PostgreSQL. Connects when it is first used."""

    insert = staticmethod(insert)

    def __init__(self, backend: PostgresBackend, *, name: str, statement_seconds: int = STATEMENT_SECONDS) -> None:
        """`name` is what the server shows of this client (application_name)."""
        self._backend, self._name, self._statement_seconds = backend, name, statement_seconds
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_size=CONNECTIONS_MAX,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
            pool_recycle=RECYCLE_SECONDS,
            pool_pre_ping=True,
        )

    def begin_write(self) -> AbstractContextManager[Connection]:
        return self._write()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            yield connection

    def lock_shared(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": FENCE_LOCK})

    def lock_exclusive(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FENCE_LOCK})

    def give_back_space(self) -> None:
        """Autovacuum's work; partitions, which retention drops whole, come with the next schema."""

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
        for kinds, code, advice in _ADVICE:
            if isinstance(cause, kinds):
                return BackendUnreachable(f"{where}: {advice}", code=code)
        said = str(cause)
        for words, code, advice in _CONNECTING:
            if isinstance(cause, psycopg.OperationalError) and words in said:
                return BackendUnreachable(f"{where}: {advice}", code=code)
        if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
            return BackendUnreachable(f"{where} does not answer: {_first_line(said)}")
        return StoreError("the database refused a statement; the server's log tells more")

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
            keepalives_idle=30,
            prepare_threshold=None,
        )


_ADVICE: tuple[tuple[Any, str, str], ...] = (
    (errors.InsufficientPrivilege, "InsufficientPrivileges", "the role lacks a right; grant it CREATE on the schema"),
    (errors.UndefinedTable, "NotMigrated", "its schema is not there; run the migrate job"),
    (errors.QueryCanceled, "Timeout", f"a statement took longer than {STATEMENT_SECONDS} s and was cancelled"),
    (errors.ReadOnlySqlTransaction, "ReadOnly", "it takes no writes now (a standby, or read-only)"),
    (errors.DiskFull, "OutOfSpace", "its disk is full"),
)
_CONNECTING = (
    ("authentication failed", "AuthenticationFailed", "it refused the user or password of the credentials Secret"),
    ("no password supplied", "AuthenticationFailed", "it wants a password and the credentials Secret has none"),
    ("does not exist", "DatabaseMissing", "the database or role does not exist; create it"),
    ("permission denied", "InsufficientPrivileges", "the role may not connect to the database"),
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


def _first_line(said: str) -> str:
    return said.strip().splitlines()[0][:200] if said.strip() else "no reason given"
