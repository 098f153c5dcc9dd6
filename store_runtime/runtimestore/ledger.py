"""All items of a store in memory: what the memory driver is, and what the file driver rebuilds from its journal.

`apply` is the only way in and is deterministic: the same commands in the same order give the same ledger, with the same
versions of dirty marks, in every process. Nothing here locks, reads a clock or refuses; drivers do.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, NamedTuple

from store_runtime.config.wire import Role
from store_runtime.runtimestore.commands import (
    CacheSet,
    CaptureSet,
    Command,
    Forgotten,
    Imported,
    Incremented,
    LevelsSet,
    MarkCleared,
    MetaChanged,
    TotalSet,
)
from store_runtime.runtimestore.keys import CACHE, OPERATION, USAGE
from store_runtime.runtimestore.rings import Level, Ring, level_index, rings_from
from store_runtime.switch.driver import StoreMeta

_STALE_EXPIRIES = 1024
"""An entry written again leaves its old expiry in the heap; above this many beyond twice the items it is made anew."""


class Meter:
    """One metric: its lifetime total and a ring a level."""

    __slots__ = ("rings", "total")

    def __init__(self, rings: list[Ring], total: float = 0.0) -> None:
        self.rings = rings
        self.total = total

    def add(self, delta: float, at_ns: int, places: Iterable[tuple[int, int]]) -> None:
        """Count `delta` at `at_ns`, whose (bucket, slot) at each level is in `places`: the same for a whole batch."""
        self.total += delta
        for ring, (bucket, slot) in zip(self.rings, places, strict=True):
            if bucket == ring.head and delta > 0:
                ring.charges[slot] += delta
            else:
                ring.add(delta, at_ns)

    def state(self) -> dict[str, Any]:
        levels = [
            {"width_ns": ring.level.width_ns, "slots": ring.level.slots, "buckets": [list(b) for b in ring.buckets()]}
            for ring in self.rings
        ]
        return {"total": self.total, "levels": levels}


class Cached(NamedTuple):
    """A cache entry; `expires_ns` 0 is no expiry."""

    value: str
    expires_ns: int


class Remembered(NamedTuple):
    """An op_id that was applied, and the digest of what it did."""

    content: str
    expires_ns: int


class Ledger:
    """Items by key, the store's meta and its dirty marks."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self.levels = tuple(levels)
        self.meters: dict[str, Meter] = {}
        self.cache: dict[str, Cached] = {}
        self.operations: dict[str, Remembered] = {}
        self.cache_bytes = 0
        self.meta: StoreMeta | None = None
        self.dirty: dict[str, int] = {}
        self.version = 0
        self._expiring: list[tuple[int, str]] = []
        self._due: dict[str, None] = {}
        self._appliers: dict[type, Callable[[Any], None]] = {
            Incremented: self._incremented,
            TotalSet: self._total_set,
            CacheSet: self._cache_set,
            Forgotten: self._forgotten,
            Imported: self._imported,
            MetaChanged: self._meta_changed,
            CaptureSet: self._capture_set,
            MarkCleared: self._mark_cleared,
            LevelsSet: self._levels_set,
        }

    # -- reading --------------------------------------------------------------------------------------------------

    def total(self, key: str) -> float:
        meter = self.meters.get(key)
        return 0.0 if meter is None else meter.total

    def window(self, key: str, window_ns: int, at_ns: int) -> float:
        """See rings; raises InvalidInput for a window longer than any level."""
        index = level_index(self.levels, window_ns)
        meter = self.meters.get(key)
        return 0.0 if meter is None else meter.rings[index].window(window_ns, at_ns)

    def cached(self, key: str, at_ns: int) -> str | None:
        entry = self.cache.get(key)
        return entry.value if entry and not _expired(entry.expires_ns, at_ns) else None

    def remembered(self, key: str, at_ns: int) -> Remembered | None:
        operation = self.operations.get(key)
        return operation if operation and not _expired(operation.expires_ns, at_ns) else None

    def expired(self, at_ns: int, limit: int) -> tuple[str, ...]:
        """Up to `limit` items whose time is over and that are still held."""
        while self._expiring and self._expiring[0][0] <= at_ns and len(self._due) < limit:
            expires_ns, key = heapq.heappop(self._expiring)
            if self._expiry(key) == expires_ns:
                self._due[key] = None
        return tuple(self._due)

    def next_expiry_ns(self) -> int:
        """When the first item expires, 0 if none does."""
        return self._expiring[0][0] if self._expiring else 0

    def keys(self) -> Iterator[str]:
        return chain(self.cache, self.operations, self.meters)

    def first_keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """Up to `limit` keys in key order that begin with `prefix` and come after `after`."""
        return heapq.nsmallest(limit, (key for key in self.keys() if key > after and key.startswith(prefix)))

    def state(self, key: str) -> dict[str, Any] | None:
        """An item's whole state as JSON-able data; the form of an export and of the file's snapshot."""
        if key.startswith(USAGE):
            return meter.state() if (meter := self.meters.get(key)) else None
        if key.startswith(CACHE):
            return entry._asdict() if (entry := self.cache.get(key)) else None
        return operation._asdict() if (operation := self.operations.get(key)) else None

    # -- changing -------------------------------------------------------------------------------------------------

    def apply(self, command: Command) -> None:
        self._appliers[type(command)](command)

    def _incremented(self, command: Incremented) -> None:
        places = [level.place(command.at_ns) for level in self.levels]
        for key, delta in command.items:
            meter = self.meters.get(key)
            if meter is None:
                meter = self.meters[key] = Meter([Ring(level) for level in self.levels])
            meter.add(delta, command.at_ns, places)
        if command.op:
            self._remember(command.op, Remembered(command.op_content, command.op_expires_ns))
        self._mark(key for key, _ in command.items)

    def _total_set(self, command: TotalSet) -> None:
        meter = self.meters.get(command.key)
        if meter is None:
            meter = self.meters[command.key] = Meter([Ring(level) for level in self.levels])
        meter.total = command.value
        self._mark((command.key,))

    def _cache_set(self, command: CacheSet) -> None:
        self._put_cached(command.key, Cached(command.value, command.expires_ns))
        self._mark((command.key,))

    def _forgotten(self, command: Forgotten) -> None:
        for key in command.keys:
            self._remove(key)
        self._mark(command.keys)

    def _imported(self, command: Imported) -> None:
        for key, state in command.items:
            self._remove(key)
            if state is not None:
                self._restore(key, state)
        self._mark(key for key, _ in command.items)

    def _meta_changed(self, command: MetaChanged) -> None:
        meta = StoreMeta(**{**command.meta, "role": Role(command.meta["role"])})
        if not meta.capture:
            self.dirty.clear()
        self.meta = meta

    def _capture_set(self, command: CaptureSet) -> None:
        if self.meta is not None:
            self._meta_changed(MetaChanged(asdict(self.meta.changed(capture=command.on))))

    def _mark_cleared(self, command: MarkCleared) -> None:
        if self.dirty.get(command.key) == command.version:
            del self.dirty[command.key]

    def _levels_set(self, command: LevelsSet) -> None:
        self.levels = tuple(Level(*level) for level in command.levels)
        for meter in self.meters.values():
            meter.rings = rings_from(self.levels, [(ring.level, ring.buckets()) for ring in meter.rings])

    # -- items ----------------------------------------------------------------------------------------------------

    def _mark(self, keys: Iterable[str]) -> None:
        if self.meta is None or not self.meta.capture:
            return
        for key in keys:
            self.version += 1
            self.dirty[key] = self.version

    def _remember(self, key: str, operation: Remembered) -> None:
        self.operations[key] = operation
        self._expire_at(operation.expires_ns, key)
        self._mark((key,))

    def _put_cached(self, key: str, entry: Cached) -> None:
        self._remove(key)
        self.cache[key] = entry
        self.cache_bytes += len(entry.value.encode())
        self._expire_at(entry.expires_ns, key)

    def _remove(self, key: str) -> None:
        self._due.pop(key, None)
        self.meters.pop(key, None)
        self.operations.pop(key, None)
        entry = self.cache.pop(key, None)
        if entry is not None:
            self.cache_bytes -= len(entry.value.encode())

    def _restore(self, key: str, state: dict[str, Any]) -> None:
        if key.startswith(USAGE):
            found = [(Level(level["width_ns"], level["slots"]), level["buckets"]) for level in state["levels"]]
            self.meters[key] = Meter(rings_from(self.levels, found), state["total"])
        elif key.startswith(CACHE):
            self._put_cached(key, Cached(**state))
        elif key.startswith(OPERATION):
            self.operations[key] = Remembered(**state)
            self._expire_at(state["expires_ns"], key)

    def _expire_at(self, expires_ns: int, key: str) -> None:
        if not expires_ns:
            return
        heapq.heappush(self._expiring, (expires_ns, key))
        if len(self._expiring) > _STALE_EXPIRIES + 2 * (len(self.cache) + len(self.operations)):
            cached = ((entry.expires_ns, key) for key, entry in self.cache.items() if entry.expires_ns)
            remembered = ((operation.expires_ns, key) for key, operation in self.operations.items())
            self._expiring = [*cached, *remembered]
            heapq.heapify(self._expiring)

    def _expiry(self, key: str) -> int:
        entry: Cached | Remembered | None = self.cache.get(key) or self.operations.get(key)
        return entry.expires_ns if entry else 0


def _expired(expires_ns: int, at_ns: int) -> bool:
    return 0 < expires_ns <= at_ns
