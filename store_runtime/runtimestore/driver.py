"""What a backend of a RuntimeStore has to do: the driver protocol, its contract as prose.

Drivers get what the portable class validated: item keys (see keys), finite amounts, lengths in nanoseconds. `at_ns` is
the caller's clock; a driver of a server that has a clock of its own uses that one instead, for all callers alike.

 1. *Atomic*: a call's items are all counted, with its op_id, or none is, and total and rings never disagree.
 2. *Durable*: a call that returned is as durable as the backend's class promises (memory: not at all; file: on disk).
 3. *Exactly once*: an operation that is still remembered is not done again; its call returns False. With other content
    it raises Conflict (code OperationReused). It is remembered for `OP_ID_SECONDS` at least.
 4. *Windows* keep the bounds of rings: never too little, and too much by one bucket at most.
 5. *Fence*: rules of store_runtime.switch.driver for every write. Totals, cache entries and op_ids are items; each
    write under capture marks the items it changed.
 6. *Errors*: StoreError only. BackendUnreachable and OutOfSpace say that nothing was done, unless the connection broke
    between request and reply: then only an op_id makes the repetition safe.
"""

from collections.abc import Sequence
from typing import Protocol

from store_runtime.runtimestore.model import Operation
from store_runtime.switch.driver import Switchable


class UsageDriver(Switchable, Protocol):
    """One backend's usage counters and cache."""

    def increment(self, items: Sequence[tuple[str, float]], operation: Operation | None, at_ns: int) -> bool:
        """Add each delta to its metric's total and rings; False: the operation had been done before."""
        ...

    def totals(self, keys: Sequence[str]) -> list[float]:
        """The lifetime total of each metric, 0 for unknown ones."""
        ...

    def windows(self, queries: Sequence[tuple[str, int]], at_ns: int) -> list[float]:
        """For each (key, length in ns) what its window holds, 0 for unknown ones."""
        ...

    def set_total(self, key: str, value: float, at_ns: int) -> None:
        """Replace the lifetime total; rings stay as they are."""
        ...

    def reset(self, key: str, at_ns: int) -> bool:
        """Remove total and rings; False if there were none."""
        ...

    def find_totals(self, prefix: str, after: str, limit: int) -> list[tuple[str, float]]:
        """Up to `limit` metrics in key order, whose key begins with `prefix` and comes after `after`."""
        ...

    def cache_get(self, key: str, at_ns: int) -> str | None:
        """The value, None when absent or expired: an entry expires at its expiry, whether it was reclaimed or not."""
        ...

    def cache_set(self, key: str, value: str, ttl_ns: int, at_ns: int) -> None:
        """Write a value; `ttl_ns` 0 is no expiry."""
        ...

    def cache_delete(self, key: str, at_ns: int) -> bool:
        """Remove a value; False if there was none (any more)."""
        ...

    def check(self) -> None:
        """Raise BackendUnreachable (or what else is wrong) if calls could not be served now."""
        ...

    def close(self) -> None:
        """Let go of files and connections; idempotent."""
        ...
