"""What differs between SQL databases, as one small protocol: locks, counters, space, errors.

A third database is a module beside sqlite.py and postgres.py that implements this, and a case in opening.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Table

from store_runtime.errors import StoreError


class Dialect(Protocol):
    """One kind of SQL database."""

    engine: Engine
    insert: Any
    """The dialect's own `insert()`, which knows ON CONFLICT."""

    def insert_many(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert many rows that are not there, all with the same columns, as fast as the database takes them."""
        ...

    def insert_absent(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> set[str]:
        """The same for rows of which some may be there, by `id`; the ids that were inserted."""
        ...

    def begin_write(self) -> AbstractContextManager[Connection]:
        """A write transaction that commits at its end, and rolls back on an error."""
        ...

    def begin_migration(self) -> AbstractContextManager[Connection]:
        """A write transaction that no other migration runs beside: raises Conflict (MigrationLocked), naming the other,
        without waiting for it."""
        ...

    def lock_shared(self, connection: Connection) -> None:
        """Take the fence lock for a write of data; held until the transaction ends."""
        ...

    def lock_exclusive(self, connection: Connection) -> None:
        """Take the fence lock alone: waits for every write under way."""
        ...

    def create_versions(self, connection: Connection) -> None:
        """Where the versions of dirty marks come from; also checks that the database can be a store's home."""
        ...

    def next_versions(self, connection: Connection, count: int) -> Sequence[int]:
        """That many versions, in rising order, that no mark ever had."""
        ...

    def drop_versions(self, connection: Connection) -> None: ...

    def give_back_space(self) -> None:
        """Free pages to the file system, where the database does not do it by itself."""
        ...

    def make_room(self) -> bool:
        """Give up what is kept for a full disk; False if there is nothing (any more)."""
        ...

    def translated(self, error: Exception) -> StoreError:
        """The driver's error as ours; it becomes the `__cause__`, its words about data stay out of the message."""
        ...
