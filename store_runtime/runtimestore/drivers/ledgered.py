"""What the memory and the file driver share: decisions on a ledger.

A write is a *decision*: a function of the ledger that refuses (raises) or returns the commands to apply and the call's
result. A driver says how a decision becomes true (`_commit`: at once in memory, through the journal in file) and how
the ledger is looked at (`_view`: as all writers up to now left it).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import NamedTuple

from store_runtime.config.wire import Role
from store_runtime.errors import Conflict, Fenced
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
from store_runtime.runtimestore.drivers.room import (
    reclaimable,
    require_cache_room,
    require_metrics_room,
    require_op_id_room,
)
from store_runtime.runtimestore.items import require_items
from store_runtime.runtimestore.ledger import Ledger
from store_runtime.runtimestore.model import OP_ID_SECONDS, Limits, Operation
from store_runtime.runtimestore.rings import Level
from store_runtime.switch.driver import DirtyMark, ExportItem, ExportPage, StoreMeta

_PAGE_BYTES_MAX = 4 * 1024 * 1024
"""Cached values in one page of an export, so that it also fits one frame of the file driver when it is imported."""

_OP_ID_NS = OP_ID_SECONDS * 1_000_000_000


class Decided(NamedTuple):
    """What to apply, and what to tell the caller."""

    commands: tuple[Command, ...]
    result: object


class Write(NamedTuple):
    """A write on its way. `reads` names the items whose presence decides, so that a driver that commits several writes
    at once never decides two that depend on each other by the same ledger; `alone`: it depends on everything."""

    decide: Callable[[Ledger], Decided]
    at_ns: int = 0
    reads: tuple[str, ...] = ()
    alone: bool = False


class LedgerDriver(ABC):
    """A UsageDriver over a ledger; `epoch` is the one it was opened with (None: whichever the data has)."""

    def __init__(self, limits: Limits, epoch: int | None) -> None:
        self._limits = limits
        self._epoch = epoch

    @abstractmethod
    def _view(self) -> AbstractContextManager[Ledger]:
        """The ledger with all that was committed, not to be changed."""

    @abstractmethod
    def _commit(self, write: Write) -> object:
        """Decide and make it true; returns the result when it is as durable as the driver promises."""

    # -- usage ----------------------------------------------------------------------------------------------------

    def increment(self, items: Sequence[tuple[str, float]], operation: Operation | None, at_ns: int) -> bool:
        def decide(ledger: Ledger) -> Decided:
            self._require_writable(ledger)
            if operation and _repeated(ledger, operation, at_ns):
                return Decided((), False)
            require_metrics_room(ledger, self._limits, (key for key, _ in items))
            if operation:
                require_op_id_room(ledger, self._limits, at_ns)
            op, content, expires_ns = (*operation, at_ns + _OP_ID_NS) if operation else ("", "", 0)
            return Decided((Incremented(at_ns, tuple(items), op, content, expires_ns),), True)

        return bool(self._commit(Write(decide, at_ns, (operation.key,) if operation else ())))

    def totals(self, keys: Sequence[str]) -> list[float]:
        with self._view() as ledger:
            return [ledger.total(key) for key in keys]

    def windows(self, queries: Sequence[tuple[str, int]], at_ns: int) -> list[float]:
        with self._view() as ledger:
            return [ledger.window(key, window_ns, at_ns) for key, window_ns in queries]

    def set_total(self, key: str, value: float, at_ns: int) -> None:
        def decide(ledger: Ledger) -> Decided:
            self._require_writable(ledger)
            require_metrics_room(ledger, self._limits, (key,))
            return Decided((TotalSet(key, value),), None)

        self._commit(Write(decide, at_ns))

    def reset(self, key: str, at_ns: int) -> bool:
        def decide(ledger: Ledger) -> Decided:
            self._require_writable(ledger)
            return Decided((Forgotten((key,)),), True) if key in ledger.meters else Decided((), False)

        return bool(self._commit(Write(decide, at_ns, (key,))))

    def find_totals(self, prefix: str, after: str, limit: int) -> list[tuple[str, float]]:
        with self._view() as ledger:
            found = ledger.first_keys(prefix, after, limit)
            return [(key, ledger.total(key)) for key in found]

    # -- cache ----------------------------------------------------------------------------------------------------

    def cache_get(self, key: str, at_ns: int) -> str | None:
        with self._view() as ledger:
            return ledger.cached(key, at_ns)

    def cache_set(self, key: str, value: str, ttl_ns: int, at_ns: int) -> None:
        def decide(ledger: Ledger) -> Decided:
            self._require_writable(ledger)
            require_cache_room(ledger, self._limits, key, value)
            return Decided((CacheSet(key, value, at_ns + ttl_ns if ttl_ns else 0),), None)

        self._commit(Write(decide, at_ns))

    def cache_delete(self, key: str, at_ns: int) -> bool:
        def decide(ledger: Ledger) -> Decided:
            self._require_writable(ledger)
            if key not in ledger.cache:
                return Decided((), False)
            return Decided((Forgotten((key,)),), ledger.cached(key, at_ns) is not None)

        return bool(self._commit(Write(decide, at_ns, (key,))))

    # -- switch ---------------------------------------------------------------------------------------------------

    def read_meta(self) -> StoreMeta | None:
        with self._view() as ledger:
            return ledger.meta

    def change_meta(self, expected: StoreMeta | None, new: StoreMeta) -> bool:
        def decide(ledger: Ledger) -> Decided:
            if ledger.meta != expected:
                return Decided((), False)
            return Decided((MetaChanged(asdict(new)),), True)

        return bool(self._commit(Write(decide, alone=True)))

    def set_capture(self, on: bool) -> None:
        self._commit(Write(lambda _: Decided((CaptureSet(on),), None), alone=True))

    def set_levels(self, levels: Sequence[Level]) -> None:
        """Answer other windows from now on; rings are made anew, so nothing counted is lost. Only where writes are."""

        def decide(ledger: Ledger) -> Decided:
            unchanged = ledger.levels == tuple(levels)
            if unchanged or ledger.meta is None or ledger.meta.role not in (Role.ACTIVE, Role.TARGET):
                return Decided((), None)
            return Decided((LevelsSet(tuple(levels)),), None)

        self._commit(Write(decide, alone=True))

    def dirty_marks(self, limit: int) -> tuple[DirtyMark, ...]:
        with self._view() as ledger:
            return tuple(DirtyMark(key, ledger.dirty[key]) for key in sorted(ledger.dirty)[:limit])

    def clear_mark(self, mark: DirtyMark) -> bool:
        def decide(ledger: Ledger) -> Decided:
            if ledger.dirty.get(mark.key) != mark.version:
                return Decided((), False)
            return Decided((MarkCleared(mark.key, mark.version),), True)

        return bool(self._commit(Write(decide, alone=True)))

    def export(self, cursor: str | None, limit: int) -> ExportPage:
        with self._view() as ledger:
            keys = ledger.first_keys("", cursor or "", limit)
            items = tuple(_bounded(ExportItem(key, ledger.state(key)) for key in keys))
            complete = len(items) == len(keys) < limit
            return ExportPage(items, None if complete else items[-1].key)

    def read_items(self, keys: Sequence[str]) -> tuple[ExportItem, ...]:
        with self._view() as ledger:
            return tuple(ExportItem(key, ledger.state(key)) for key in keys)

    def import_items(self, items: Sequence[ExportItem]) -> None:
        require_items(items)
        imported = Imported(tuple((item.key, item.state) for item in items))

        def decide(ledger: Ledger) -> Decided:
            self._require_role(ledger, (Role.TARGET, Role.ACTIVE))
            return Decided((imported,), None)

        self._commit(Write(decide, alone=True))

    # -- what a write needs ---------------------------------------------------------------------------------------

    def _require_writable(self, ledger: Ledger) -> None:
        self._require_role(ledger, (Role.ACTIVE,))

    def _accepts(self, meta: StoreMeta | None, roles: tuple[Role, ...]) -> bool:
        return meta is not None and meta.role in roles and self._epoch in (None, meta.epoch)

    def _require_role(self, ledger: Ledger, roles: tuple[Role, ...]) -> None:
        meta = ledger.meta
        if self._accepts(meta, roles):
            return
        if meta is None:
            raise Fenced("this backend carries no store yet; provision it first")
        if meta.role not in roles:
            raise Fenced(f"the store is {meta.role}, it takes no writes now; nothing was done, try again shortly")
        raise Fenced(f"the store moved on to epoch {meta.epoch}, this runtime is of epoch {self._epoch}")

    def _reclaim(self, ledger: Ledger, at_ns: int) -> tuple[Command, ...]:
        """What to apply before a write is decided: items whose time is over go, unless the store is fenced."""
        if not at_ns or not self._accepts(ledger.meta, (Role.ACTIVE,)):
            return ()
        expired = reclaimable(ledger, self._limits, at_ns)
        return (Forgotten(expired),) if expired else ()


def _bounded(items: Iterable[ExportItem]) -> Iterator[ExportItem]:
    """Items until their cached values fill a page: a thousand of the largest would be 400 MB."""
    size_bytes = 0
    for item in items:
        yield item
        size_bytes += len((item.state or {}).get("value", ""))
        if size_bytes >= _PAGE_BYTES_MAX:
            return


def _repeated(ledger: Ledger, operation: Operation, at_ns: int) -> bool:
    before = ledger.remembered(operation.key, at_ns)
    if before is None:
        return False
    if before.content != operation.content:
        raise Conflict(
            "this op_id was used in the last ten minutes for something else; take a new one for each operation",
            field="op_id",
            code="OperationReused",
        )
    return True
