"""What differs between SQL databases, as one small protocol: locks, upserts' dialect, space, errors.

A third database is a module beside sqlite.py and postgres.py that implements this, and a case in opening.
"""

from typing import Any, Protocol

from sqlalchemy import Connection, Engine

from store_runtime.errors import StoreError


class Dialect(Protocol):
    """One kind of SQL database."""

    engine: Engine
    insert: Any
    """The dialect's own `insert()`, which knows ON CONFLICT."""

    def begin_write(self) -> Any:
        """A context manager: a Connection in a write transaction that commits at its end."""
        ...

    def lock_shared(self, connection: Connection) -> None:
        """Take the fence lock for a write of data; held until the transaction ends."""
        ...

    def lock_exclusive(self, connection: Connection) -> None:
        """Take the fence lock alone: waits for every write under way."""
        ...

    def give_back_space(self) -> None: ...

    def translated(self, error: Exception) -> StoreError:
        """The driver's error as ours; it becomes the `__cause__`, its words stay out of the message."""
        ...
