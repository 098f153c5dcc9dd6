"""LogStore: the record of every request a gateway handled, and the Streams it hosts."""

import re
from functools import cached_property
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from store_runtime.config.backends import LogBackendType, fingerprint
from store_runtime.config.model import Document
from store_runtime.config.retention import LogRetention
from storekeeper.api.backends import LogBackendSpec, resolved_log_backend
from storekeeper.api.cel import FieldError, immutable, rule, rules, volume_rules
from storekeeper.api.pods import Volume
from storekeeper.api.resource import IDENTITY_CHANGES, StoreResource, StoreSpec

ENTRIES_BYTES_DEFAULT = 20 * 2**30

_CRON_ITEM = r"(\*|[0-9]{1,2}(-[0-9]{1,2})?)(/[0-9]{1,2})?"
_CRON_FIELD = f"{_CRON_ITEM}(,{_CRON_ITEM})*"
CRON_PATTERN = f"^{_CRON_FIELD}( {_CRON_FIELD}){{4}}$"
_CRON_RANGES = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))


def _in_range(schedule: str) -> str:
    for field, (name, least, most) in zip(schedule.split(" "), _CRON_RANGES, strict=True):
        values = re.findall(r"(?<![/0-9])[0-9]+", field)
        if any(not least <= int(value) <= most for value in values):
            raise ValueError(f"the {name} of a schedule is {least} to {most}, not {field}")
    return schedule


Schedule = Annotated[str, StringConstraints(max_length=100, pattern=CRON_PATTERN), AfterValidator(_in_range)]

_REPLICAS = (
    "more than one replica needs a database that pods can share: set backend.type: postgres and leave entries out "
    "(or entries.enabled: false)"
)
_ON_SQLITE = (
    "(self.?backend.?type.orValue('sqlite') == 'sqlite' && oldSelf.?backend.?type.orValue('sqlite') == 'sqlite')"
)


class RetentionSpec(LogRetention):
    """How long request logs stay. Streams have limits of their own."""

    schedule: Schedule | None = Field(
        None,
        description="When retention is applied, as a cron expression of numbers in UTC. "
        "Default: once an hour, at a minute derived from the store's id.",
    )

    @property
    def is_limited(self) -> bool:
        return bool(self.max_age or self.max_size or self.payload_max_age)


class EntriesSpec(Document):
    """The Streams that this store hosts."""

    enabled: bool = Field(True, description="Host Streams.")
    auto_create: bool = Field(
        True, description="A stream that nobody declared is created at its first entry; else that entry is refused."
    )
    storage: Volume = Field(Volume(), description="The volume of the entries. Default size: 20Gi.")


class LogStoreSpec(StoreSpec):
    """What a LogStore should be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.replicas) || self.replicas <= 1 || (self.?backend.?type.orValue('sqlite') == 'postgres'"
                " && (!has(self.entries) || !self.entries.?enabled.orValue(true)))",
                _REPLICAS,
                ".replicas",
            ),
            immutable("adoptStoreID", IDENTITY_CHANGES),
            *volume_rules("backend.sqlite", "10Gi", _ON_SQLITE),
            *volume_rules("entries", "20Gi", "(has(self.entries) && has(oldSelf.entries))"),
        )
    )

    backend: LogBackendSpec | None = Field(
        None, description="Where request logs are. Default: SQLite on a volume of 10Gi."
    )
    retention: RetentionSpec = Field(RetentionSpec(), description="How long request logs stay. Default: for ever.")
    entries: EntriesSpec | None = Field(None, description="Host Streams; absent: this store hosts none.")

    @model_validator(mode="after")
    def _replicas_share(self) -> Self:
        if self.replicas > 1 and (self.resolved_backend.type is not LogBackendType.POSTGRES or self.hosts_entries):
            raise FieldError("replicas", _REPLICAS)
        return self

    @property
    def resolved_backend(self) -> LogBackendSpec:
        return resolved_log_backend(self.backend)

    @property
    def hosts_entries(self) -> bool:
        return self.entries is not None and self.entries.enabled


class LogStore(StoreResource):
    """A store of request logs: the record of every LLM request a gateway handled. It also hosts Streams."""

    kind: ClassVar[str] = "LogStore"
    plural: ClassVar[str] = "logstores"
    short_names: ClassVar[tuple[str, ...]] = ("ls",)

    spec: LogStoreSpec

    @property
    def hosts_entries(self) -> bool:
        return self.spec.hosts_entries

    @property
    def backend_type(self) -> str:
        return self.spec.resolved_backend.type.value

    @cached_property
    def fingerprint(self) -> str:
        postgres = self.spec.resolved_backend.postgres
        if postgres is None:
            return fingerprint(self.backend_type, self.volume_identity)
        identity: dict[str, object] = {"host": postgres.host.lower(), "port": postgres.port}
        return fingerprint(self.backend_type, identity | {"database": postgres.database})

    @property
    def data_volume(self) -> Volume | None:
        sqlite = self.spec.resolved_backend.sqlite
        return None if sqlite is None else sqlite.storage

    @property
    def entries_volume(self) -> Volume | None:
        entries = self.spec.entries
        return entries.storage.resolved(ENTRIES_BYTES_DEFAULT) if entries is not None and entries.enabled else None

    @property
    def credentials_secret(self) -> str:
        postgres = self.spec.resolved_backend.postgres
        return "" if postgres is None else postgres.credentials_secret_ref.name
