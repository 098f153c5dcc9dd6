"""Where a store's data is: one member for each type of backend, exactly the one named by `type` present.

These are the runtime's forms: paths and hosts, and *directories* in which credentials are mounted as files; a
secret's value is never in them. The CRD's forms (storekeeper.api) share the connection models.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from store_runtime.config.model import Document

Host = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:_-]*)$")]
Port = Annotated[int, Field(ge=1, le=65_535)]
DatabaseName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_$-]*$")]


class SslMode(StrEnum):
    """libpq's modes (https://www.postgresql.org/docs/current/libpq-ssl.html)."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class PostgresConnection(Document):
    """What identifies a PostgreSQL database and how to reach it."""

    host: Host = Field(description="Host name or address of the server.")
    port: Port = Field(5432, description="Port of the server.")
    database: DatabaseName = Field(description="Name of the database.")
    ssl_mode: SslMode = Field(SslMode.REQUIRE, description="TLS mode of the connection, as in libpq.")


class PostgresBackend(PostgresConnection):
    """PostgreSQL as the runtime sees it."""

    credentials_directory: str = Field(description="Mounted Secret: files `username` (or `user`) and `password`.")


class SqliteBackend(Document):
    """A SQLite database on a volume."""

    path: str = Field(description="The database file; -wal and -shm appear beside it.")


class FileBackend(Document):
    """Journal and snapshots in a directory on a volume."""

    directory: str


class MemoryBackend(Document):
    """The process's memory: gone with the pod."""

    max_keys: int = Field(100_000, ge=1, le=50_000_000, description="A full store refuses new keys.")


class LogBackendType(StrEnum):
    """Backends of a LogStore."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


class UsageBackendType(StrEnum):
    """Backends of a RuntimeStore. Others (redis, sql, mongodb, dynamodb, http) are not there yet."""

    MEMORY = "memory"
    FILE = "file"


def members_match(value: Any) -> Any:
    """Exactly the member named by `type` may be present (a before-validator of the unions below)."""
    if isinstance(value, dict):
        named = value.get("type")
        extra = [key for key in value if key not in ("type", named)]
        if extra:
            raise ValueError(f"{extra[0]!r} does not belong to type {named!r}; remove it or change the type")
        if named not in value:
            raise ValueError(f"the member {named!r} is missing")
    return value


class LogBackend(Document):
    """The backend of a LogStore."""

    type: LogBackendType
    sqlite: SqliteBackend | None = None
    postgres: PostgresBackend | None = None

    _members = model_validator(mode="before")(members_match)


class UsageBackend(Document):
    """The backend of a RuntimeStore."""

    type: UsageBackendType
    memory: MemoryBackend | None = None
    file: FileBackend | None = None

    _members = model_validator(mode="before")(members_match)


def fingerprint(type_name: str, identity: dict[str, object]) -> str:
    """16 hex digits that name a place of data: equal for the same host, port, database or volume, without credentials.

    A changed password keeps the fingerprint (a rotation); a changed host or database does not (a switch).
    """
    canonical = json.dumps([type_name, identity], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
