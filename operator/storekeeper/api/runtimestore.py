"""RuntimeStore: usage counters with time windows, and the response cache of a gateway."""

from datetime import timedelta
from functools import cached_property
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from store_runtime.config.backends import UsageBackendType, fingerprint
from store_runtime.config.model import Document
from store_runtime.config.quantities import Duration, format_duration
from store_runtime.config.runtime import DEFAULT_WINDOWS
from storekeeper.api.backends import UsageBackendSpec, resolved_usage_backend
from storekeeper.api.cel import FieldError, immutable, rule, rules, volume_rules
from storekeeper.api.pods import Volume
from storekeeper.api.resource import IDENTITY_CHANGES, StoreResource, StoreSpec

WINDOWS_MAX = 8
WINDOW_MIN, WINDOW_MAX = timedelta(seconds=1), timedelta(days=366)
"""The runtime's own limits of its rings."""
CACHE_TTL_SECONDS_MAX = 366 * 86_400

_REPLICAS = "memory and file belong to one pod: a RuntimeStore on them has one replica"
_ON_FILE = "(self.?backend.?type.orValue('file') == 'file' && oldSelf.?backend.?type.orValue('file') == 'file')"


def _possible(window: timedelta) -> timedelta:
    if not WINDOW_MIN <= window <= WINDOW_MAX:
        raise ValueError(f"a window is 1s to {WINDOW_MAX.days}d long, not {format_duration(window)}")
    return window


def _distinct(windows: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    if len(set(windows)) != len(windows):
        raise ValueError("two windows are of the same length; remove one")
    return windows


Windows = Annotated[
    tuple[Annotated[Duration, AfterValidator(_possible)], ...],
    Field(min_length=1, max_length=WINDOWS_MAX),
    AfterValidator(_distinct),
]


class CacheSpec(Document):
    """The response cache."""

    enabled: bool = Field(True, description="Whether there is a cache.")
    ttl_seconds: int = Field(
        10,
        ge=0,
        le=CACHE_TTL_SECONDS_MAX,
        description="How long an answer stays if its writer does not say. 0: for ever.",
    )


class RuntimeStoreSpec(StoreSpec):
    """What a RuntimeStore should be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!has(self.replicas) || self.replicas <= 1", _REPLICAS, ".replicas"),
            immutable("adoptStoreID", IDENTITY_CHANGES),
            *volume_rules("backend.file", "1Gi", _ON_FILE),
        )
    )

    backend: UsageBackendSpec | None = Field(
        None, description="Where counters and cache are. Default: files on a volume of 1Gi."
    )
    windows: Windows = Field(
        DEFAULT_WINDOWS, description="Lengths of time over which usage can be asked. Default: 1m, 1h, 24h."
    )
    cache: CacheSpec = Field(CacheSpec(), description="The response cache.")

    @model_validator(mode="after")
    def _one_replica(self) -> Self:
        if self.replicas > 1:
            raise FieldError("replicas", _REPLICAS)
        return self

    @property
    def resolved_backend(self) -> UsageBackendSpec:
        return resolved_usage_backend(self.backend)


class RuntimeStore(StoreResource):
    """A store of usage counters with time windows, and of cached responses."""

    kind: ClassVar[str] = "RuntimeStore"
    plural: ClassVar[str] = "runtimestores"
    short_names: ClassVar[tuple[str, ...]] = ("rts",)

    spec: RuntimeStoreSpec

    @property
    def backend_type(self) -> str:
        return self.spec.resolved_backend.type.value

    @cached_property
    def fingerprint(self) -> str:
        """Of memory there is one place in each store, as of a volume."""
        return fingerprint(self.backend_type, self.volume_identity)

    @property
    def data_volume(self) -> Volume | None:
        file = self.spec.resolved_backend.file
        return None if file is None else file.storage

    @property
    def is_persistent(self) -> bool:
        return self.spec.resolved_backend.type is not UsageBackendType.MEMORY
