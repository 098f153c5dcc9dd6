"""Backends as people name them: a type and the one member that belongs to it; secrets by reference, never by value.

The connection models are the runtime's own (store_runtime.config.backends). Nothing is filled in by the CRD's schema:
a default there would be a value that nobody owns, and stay behind when another type is applied. What is absent is
resolved here, in code.
"""

from collections.abc import Iterable
from typing import Any, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from store_runtime.config.backends import LogBackendType, PostgresConnection, UsageBackendType
from store_runtime.config.model import Document
from storekeeper.api.cel import FieldError, member_rules, rule, rules
from storekeeper.api.pods import SecretRef, Volume

SQLITE_BYTES_DEFAULT = 10 * 2**30
FILE_BYTES_DEFAULT = 2**30

_NO_CREDENTIALS = (
    "a host is a name or an address alone; put user and password into a Secret and name it in credentialsSecretRef"
)


class SqliteSpec(Document):
    """A SQLite database on a volume of the store's own."""

    storage: Volume = Field(Volume(), description="The volume. Default size: 10Gi.")


class PostgresSpec(PostgresConnection):
    """A database on a PostgreSQL server that is there already."""

    model_config = ConfigDict(json_schema_extra=rules(rule("!self.host.contains('@')", _NO_CREDENTIALS, ".host")))

    credentials_secret_ref: SecretRef = Field(
        description="Secret with `username` (or `user`) and `password`, as CloudNativePG, Zalando and Crunchy write it."
    )

    @field_validator("host", mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        if isinstance(value, str) and "@" in value:
            raise ValueError(_NO_CREDENTIALS)
        return value


class MemorySpec(Document):
    """The memory of the store's one pod: everything is gone with it."""

    max_keys: int = Field(100_000, ge=1, le=50_000_000, description="A full store refuses new keys.")


class FileSpec(Document):
    """Journal and snapshots on a volume of the store's own."""

    storage: Volume = Field(Volume(), description="The volume. Default size: 1Gi.")


class LogBackendSpec(Document):
    """Where a LogStore's request logs are."""

    model_config = ConfigDict(json_schema_extra=rules(*member_rules(LogBackendType, [LogBackendType.POSTGRES])))

    type: LogBackendType = Field(description="Kind of database; the member of the same name says the rest.")
    sqlite: SqliteSpec | None = Field(None, description="With type sqlite.")
    postgres: PostgresSpec | None = Field(None, description="With type postgres.")

    @model_validator(mode="after")
    def _members(self) -> Self:
        check_members(self, LogBackendType, needed=[LogBackendType.POSTGRES])
        return self


class UsageBackendSpec(Document):
    """Where a RuntimeStore's counters and cache are."""

    model_config = ConfigDict(json_schema_extra=rules(*member_rules(UsageBackendType, [])))

    type: UsageBackendType = Field(description="Kind of storage; the member of the same name says the rest.")
    memory: MemorySpec | None = Field(None, description="With type memory.")
    file: FileSpec | None = Field(None, description="With type file.")

    @model_validator(mode="after")
    def _members(self) -> Self:
        check_members(self, UsageBackendType, needed=[])
        return self


def check_members(backend: Any, members: Iterable[str], needed: Iterable[str]) -> None:
    """The twin of `cel.member_rules`; raises FieldError."""
    for member in members:
        if member != backend.type and getattr(backend, member) is not None:
            raise FieldError(member, f"{member} does not belong to this type; remove it, or set type: {member}")
    if backend.type in needed and getattr(backend, backend.type) is None:
        message = f"type {backend.type} needs its member {backend.type}; say there where the data is"
        raise FieldError(backend.type, message)


def resolved_log_backend(written: LogBackendSpec | None) -> LogBackendSpec:
    """With every default filled in: no backend at all is SQLite on a volume of 10Gi."""
    backend = written or LogBackendSpec(type=LogBackendType.SQLITE)
    if backend.type is not LogBackendType.SQLITE:
        return backend
    storage = (backend.sqlite or SqliteSpec()).storage.resolved(SQLITE_BYTES_DEFAULT)
    return backend.model_copy(update={"sqlite": SqliteSpec(storage=storage)})


def resolved_usage_backend(written: UsageBackendSpec | None) -> UsageBackendSpec:
    """With every default filled in: no backend at all is files on a volume of 1Gi, which outlive the pod."""
    backend = written or UsageBackendSpec(type=UsageBackendType.FILE)
    if backend.type is UsageBackendType.MEMORY:
        return backend.model_copy(update={"memory": backend.memory or MemorySpec()})
    storage = (backend.file or FileSpec()).storage.resolved(FILE_BYTES_DEFAULT)
    return backend.model_copy(update={"file": FileSpec(storage=storage)})
