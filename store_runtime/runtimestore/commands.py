"""Every way the ledger can change, as data: what memory applies and what file also writes to its journal.

A command is a decision already taken (limits, op_ids and roles were checked before), so applying it never fails and
gives the same ledger everywhere. Their encoding is documented in docs/formats/usage-journal.md: change it only together
with FORMAT in drivers/journal.py.
"""

from collections.abc import Iterator
from typing import Any

import msgspec


class Incremented(msgspec.Struct, frozen=True, array_like=True, tag="increment", gc=False):
    """Amounts added at one instant; `op` (an item key, or "") is remembered until `op_expires_ns`."""

    at_ns: int
    items: tuple[tuple[str, float], ...]
    op: str = ""
    op_content: str = ""
    op_expires_ns: int = 0


class TotalSet(msgspec.Struct, frozen=True, array_like=True, tag="total", gc=False):
    """A lifetime total replaced; rings stay as they are."""

    key: str
    value: float


class CacheSet(msgspec.Struct, frozen=True, array_like=True, tag="cache", gc=False):
    """A cache entry written; `expires_ns` 0 is no expiry."""

    key: str
    value: str
    expires_ns: int


class Forgotten(msgspec.Struct, frozen=True, array_like=True, tag="forget", gc=False):
    """Items of any kind removed: reset, deleted or expired."""

    keys: tuple[str, ...]


class Imported(msgspec.Struct, frozen=True, array_like=True, tag="import"):
    """Items replaced by the states of an export; None removes."""

    items: tuple[tuple[str, dict[str, Any] | None], ...]


class MetaChanged(msgspec.Struct, frozen=True, array_like=True, tag="meta"):
    """The store's identity and role, as StoreMeta's fields."""

    meta: dict[str, Any]


class CaptureSet(msgspec.Struct, frozen=True, array_like=True, tag="capture"):
    """Dirty marks switched on or off."""

    on: bool


class MarkCleared(msgspec.Struct, frozen=True, array_like=True, tag="clear"):
    """A dirty mark removed, if its version is still this one."""

    key: str
    version: int


class LevelsSet(msgspec.Struct, frozen=True, array_like=True, tag="levels"):
    """(bucket width in ns, slots) of every level; rings are made anew from what was counted."""

    levels: tuple[tuple[int, int], ...]


Command = Incremented | TotalSet | CacheSet | Forgotten | Imported | MetaChanged | CaptureSet | MarkCleared | LevelsSet


def changed_keys(command: Command) -> Iterator[str]:
    """The items that a command writes or removes."""
    match command:
        case Incremented(items=items, op=op):
            yield from (key for key, _ in items)
            yield op
        case TotalSet(key=key) | CacheSet(key=key):
            yield key
        case Forgotten(keys=keys):
            yield from keys
        case Imported(items=states):
            yield from (key for key, _ in states)
