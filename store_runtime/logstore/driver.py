"""What a backend of a LogStore has to do: the driver protocol, its contract as prose.

Drivers get what the portable class validated and speak of rows: a row is a dict of the columns of
`store_runtime.logstore.tables`, times in microseconds, JSON as text; a payload is JSON text or None.

 1. *Atomic*: a call is done wholly or not at all; *durable*: what returned is committed.
 2. *Idempotent*: inserting an id that exists changes nothing. After an error it is safe to insert again.
 3. *Fence*: rules of store_runtime.switch.driver for every write; keys are ids.
 4. *Errors*: StoreError only; BackendUnreachable and Overloaded say that nothing was done, unless the connection broke
    between request and reply.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from store_runtime.logstore.model import Order
from store_runtime.switch.driver import Switchable

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewLog:
    """A row and its payload."""

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
    """The last row of a page: (timestamp, id)."""

    timestamp: int
    id: str


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


class LogDriver(Switchable, Protocol):
    """One backend's request logs."""

    def insert(self, logs: Sequence[NewLog]) -> set[str]:
        """The ids that were created. Ids are distinct."""
        ...

    def fetch(self, ids: Sequence[str], *, payloads: bool) -> dict[str, NewLog]:
        """Those that exist, by id; without `payloads` their payload is None and not read."""
        ...

    def update(self, id_: str, changes: Row, payload: dict[str, Any] | None) -> bool:
        """Set columns, replace parts of the payload by name; False if there is no such id."""
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """How many there were."""
        ...

    def search(self, selection: Selection, order: Order, after: Position | None, limit: int) -> list[Row]:
        """Rows in order of (timestamp, id), after a position."""
        ...

    def sums(self, selection: Selection) -> Sums: ...

    def oldest(self, before: int | None, limit: int) -> list[tuple[str, int]]:
        """(id, bytes) of the oldest rows, only those before a time if it is given."""
        ...

    def count_before(self, before: int, *, payloads: bool) -> int:
        """Rows (with `payloads`: rows that still have a payload) older than a time."""
        ...

    def drop_payloads(self, before: int, limit: int) -> int:
        """Remove up to `limit` payloads of rows older than a time, oldest first; how many went."""
        ...

    def stored_bytes(self) -> int:
        """Bytes of all rows and payloads, without indexes and free pages: the same on every backend."""
        ...

    def give_back_space(self) -> None:
        """After deletions: return free pages to the file system where that is ours to do."""
        ...

    def schema_version(self) -> str: ...

    def check(self) -> None:
        """Raise what a call would raise now."""
        ...

    def close(self) -> None: ...
