"""The part of every driver that lets a store be moved while it is written to.

Rules that a driver keeps, tested by tests/conformance/switchable.py:
 1. Every write first takes the *fence lock* shared, then, in a second statement, reads the meta: a role other than
    ACTIVE, or an epoch other than the one it was opened with, raises Fenced and nothing is written.
 2. While capture is on, the write upserts `dirty(key, version)` in its own transaction: a key, never a delta. Versions
    of one store are never reused, also not after capture was switched off and on again.
 3. `change_meta` and `set_capture` take the fence lock exclusively: when they return, no write that saw the old meta
    is still under way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from store_runtime.config.wire import Role


class FenceClass(StrEnum):
    """How a fence is held, by what the database can do."""

    TRANSACTIONAL = "transactional"  # checked under a lock in each write's own transaction
    ROSTER = "roster"  # every registered writer has to acknowledge
    PROCESS = "process"  # one process owns the data


@dataclass(frozen=True, slots=True)
class StoreMeta:
    """`_store_meta`: the truth about who owns this data and what may be done with it."""

    store_id: str
    owner: str
    role: Role = Role.ACTIVE
    epoch: int = 1
    capture: bool = False
    schema_version: str = ""
    successor: str = ""
    migration_id: str = ""

    def changed(self, **changes: Any) -> "StoreMeta":
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class DirtyMark:
    """`key` was written at `version`; clear it only if its version is still this one."""

    key: str
    version: int


@dataclass(frozen=True, slots=True)
class ExportItem:
    """One item's whole current state, as JSON-able data; `state` None says it does not exist (any more)."""

    key: str
    state: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ExportPage:
    """A run of items in key order; `cursor` resumes after them, None at the end."""

    items: tuple[ExportItem, ...]
    cursor: str | None


class Switchable(Protocol):
    """What the switch asks of a driver."""

    fence_class: FenceClass

    def read_meta(self) -> StoreMeta | None:
        """None: the backend carries no store yet."""
        ...

    def change_meta(self, expected: StoreMeta | None, new: StoreMeta) -> bool:
        """Compare-and-set under the exclusive fence lock; False (and nothing changed) if it is not `expected`."""
        ...

    def set_capture(self, on: bool) -> None:
        """Under the exclusive fence lock; switching off forgets the marks, not the version counter."""
        ...

    def dirty_marks(self, limit: int) -> tuple[DirtyMark, ...]:
        """Up to `limit` marks, in key order."""
        ...

    def clear_mark(self, mark: DirtyMark) -> bool:
        """Remove the mark if its version is unchanged; False if it was written again."""
        ...

    def export(self, cursor: str | None, limit: int) -> ExportPage:
        """Up to `limit` items from `cursor`, in key order."""
        ...

    def read_items(self, keys: Sequence[str]) -> tuple[ExportItem, ...]:
        """The current state of each key, in the order asked; absent ones with state None."""
        ...

    def import_items(self, items: Sequence[ExportItem]) -> None:
        """Upsert or delete (state None), in one transaction, idempotent. Allowed in role TARGET and ACTIVE."""
        ...
