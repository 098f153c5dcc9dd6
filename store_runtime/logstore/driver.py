"""What a backend of a LogStore has to do: the driver protocol, its contract as prose.

Drivers get what the portable class validated and speak of rows: a row is a dict of the columns of
`store_runtime.logstore.tables`, times in microseconds, JSON as text; a payload is JSON text or None.

 1. *Atomic*: a call is done wholly or not at all; *durable*: what returned is committed.
 2. *Idempotent*: inserting an id that exists changes nothing. After an error it is safe to insert again.
 3. *Ordered*: ids compare by code point, so cursors, exports and retention mean the same on every backend.
 4. *Fence*: rules of store_runtime.switch.driver for every write; keys are ids.
 5. *Errors*: StoreError only; BackendUnreachable and Overloaded say that nothing was done, unless the connection broke
    between request and reply.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from store_runtime.logstore.model import ID_CHARS_MAX, Order
from store_runtime.switch.driver import Switchable

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A row and its payload, None where there is none or none was asked for."""

    row: Row
    payload: str | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters as a driver sees them: microseconds, start ≤ timestamp < end; an empty tuple does not filter."""

    start: int | None = None
    end: int | None = None
    ids: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order (timestamp, id)."""

    timestamp: int
    id: str


LAST_ID = "\U0010ffff" * ID_CHARS_MAX
"""No id comes after it: Position(t, LAST_ID) is behind all rows of that microsecond."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What statistics are made of."""

    requests: int
    successes: int
    errors: int
    average_latency_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float


@dataclass(frozen=True, slots=True)
class Limits:
    """Retention as a driver sees it: microseconds and bytes; None does not limit."""

    expire_before: int | None = None
    payloads_before: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Departures:
    """How many rows go by age, how many payloads by theirs, how many of the rows left go by size: in this order."""

    expired: int
    payloads: int
    evicted: int


class LogDriver(Switchable, Protocol):
    """One backend's request logs."""

    def insert(self, logs: Sequence[StoredLog]) -> set[str]:
        """The ids that were created. Ids are distinct."""
        ...

    def fetch(self, ids: Sequence[str], *, payloads: bool) -> dict[str, StoredLog]:
        """Those that exist, by id; without `payloads` their payload is None and not read."""
        ...

    def update(self, id_: str, revise: Callable[[StoredLog], StoredLog]) -> bool:
        """Replace a request log by what `revise`, which is pure and quick, makes of it; False if there is none.

        Nobody else changes it meanwhile. What `revise` raises is raised, and nothing is changed.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """How many there were."""
        ...

    def search(self, selection: Selection, order: Order, after: Position | None, limit: int) -> list[Row]:
        """Rows in order of (timestamp, id), after a position."""
        ...

    def sums(self, selection: Selection) -> Sums: ...

    def remove_oldest(self, last: Position, limit: int) -> int:
        """Remove the oldest `limit` of the rows up to and with `last`; how many went."""
        ...

    def remove_payloads(self, before: int, limit: int) -> int:
        """Remove up to `limit` payloads of rows older than a time, oldest first; how many went."""
        ...

    def newest_surplus(self, max_bytes: int) -> Position | None:
        """The newest row that, with all newer ones, takes more than `max_bytes`: it goes, and all older ones.

        Bytes are those of rows and payloads with what a row costs beside (see tables); the answer does not depend on
        how many of the old ones are gone already, so two evictions at once do not add up.
        """
        ...

    def departures(self, limits: Limits) -> Departures:
        """What retention would remove, without removing it."""
        ...

    def give_back_space(self) -> None:
        """After deletions: return free pages to the file system where that is ours to do."""
        ...

    def make_room(self) -> bool:
        """For a deletion on a full disk: give up what is kept for that; False if there is nothing (any more)."""
        ...

    def check(self) -> None:
        """Raise what a call would raise now."""
        ...

    def close(self) -> None: ...
