"""What callers of a RuntimeStore pass and get, and the limits on it; a leaf."""

from typing import NamedTuple

NAME_BYTES_MAX = 255
"""UTF-8 bytes of a provider, key, metric or cache namespace. Escaped it is at most three times as long, and three of
them still fit the smallest key of the backends (DynamoDB: 2,048 bytes of partition and 1,024 of sort key)."""

OP_ID_BYTES_MAX = 255
"""UTF-8 bytes of an op_id; room for any UUID, ULID or trace id with a prefix."""

CACHE_KEY_BYTES_MAX = 1024 * 1024
"""UTF-8 bytes of a cache key before it is hashed: a whole prompt fits."""

CACHE_VALUE_BYTES_MAX = 384 * 1024
"""UTF-8 bytes of a cached value: below the smallest item of the backends (DynamoDB: 400 KB with its key)."""

AMOUNT_MAX = 1e18
"""Largest absolute delta or value: 10^290 of them are needed before a float64 sum could overflow."""

BATCH_MAX = 1000
"""Items in one increment_many or windows call: what one database statement takes without being cut up."""

PAGE_MAX = 1000
"""Items in one page of a listing."""

CACHE_TTL_SECONDS_MAX = 10 * 366 * 86_400.0
"""Ten years: what is longer is a typing error, and 0 says "no expiry"."""

OP_ID_SECONDS = 600
"""How long an op_id is remembered: longer than any client keeps retrying (DynamoDB's own tokens: 10 minutes)."""


class Increment(NamedTuple):
    """Add `delta` (negative: a refund) to one metric."""

    provider: str
    key: str
    metric: str
    delta: float


class WindowQuery(NamedTuple):
    """How much of one metric was counted in the last `seconds`."""

    provider: str
    key: str
    metric: str
    seconds: float


class Usage(NamedTuple):
    """The lifetime total of one metric."""

    provider: str
    key: str
    metric: str
    value: float


class UsagePage(NamedTuple):
    """A run of totals in key order; `cursor` resumes after them, None at the end."""

    items: tuple[Usage, ...]
    cursor: str | None


class Operation(NamedTuple):
    """An op_id as drivers see it: its item key, and a digest of what it does, so that a reuse is noticed."""

    key: str
    content: str


class Limits(NamedTuple):
    """How much a store that holds everything in memory may hold."""

    metrics_max: int = 100_000
    """About 2.5 KB each with three windows."""
    cache_entries_max: int = 100_000
    cache_bytes_max: int = 256 * 1024 * 1024
    """UTF-8 bytes of all cached values: the entries' own limits multiplied would be 38 GB."""
    op_ids_max: int = 1_000_000
    """At 10 minutes each: 1,600 operations a second for ever; about 250 bytes each."""
