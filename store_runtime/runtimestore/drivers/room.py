"""How much a ledger may hold: what is full refuses what is new, and goes on with what it has.

A full store of metrics or cache entries raises TooLarge, since trying again does not help: somebody has to reset,
delete or raise a limit. Too many remembered op_ids raise Overloaded: they lapse by themselves within ten minutes.
"""

from collections.abc import Iterable

from store_runtime.errors import Overloaded, TooLarge
from store_runtime.runtimestore.ledger import Ledger
from store_runtime.runtimestore.model import Limits

RECLAIMED_MAX = 100
"""Expired items removed along with one write: more than a write adds, and a pause that nobody notices."""


def reclaimable(ledger: Ledger, limits: Limits, at_ns: int) -> tuple[str, ...]:
    """Expired items to remove now: a few, or all of them where something is full."""
    full = (
        len(ledger.cache) >= limits.cache_entries_max
        or len(ledger.operations) >= limits.op_ids_max
        or ledger.cache_bytes * 2 >= limits.cache_bytes_max
    )
    return ledger.expired(at_ns, len(ledger.cache) + len(ledger.operations) if full else RECLAIMED_MAX)


def require_metrics_room(ledger: Ledger, limits: Limits, keys: Iterable[str]) -> None:
    """Raises TooLarge if metrics that are not there yet would be more than the store holds."""
    new = {key for key in keys if key not in ledger.meters}
    if new and len(ledger.meters) + len(new) > limits.metrics_max:
        raise TooLarge(
            f"the store holds {len(ledger.meters)} metrics and its limit is {limits.metrics_max}: "
            "it refuses new ones; reset those no longer used, or move the store to a bigger backend",
            field="metric",
        )


def require_op_id_room(ledger: Ledger, limits: Limits, at_ns: int) -> None:
    """Raises Overloaded, with the time until the oldest op_id lapses."""
    if len(ledger.operations) >= limits.op_ids_max:
        wait_seconds = max(0.001, (ledger.next_expiry_ns() - at_ns) / 1e9)
        raise Overloaded(
            f"{limits.op_ids_max} op_ids are remembered, which is the limit; they lapse after ten minutes each",
            retry_after=wait_seconds,
        )


def require_cache_room(ledger: Ledger, limits: Limits, key: str, value: str) -> None:
    """Raises TooLarge if the cache is full of entries that have not expired."""
    old = ledger.cache.get(key)
    if old is None and len(ledger.cache) >= limits.cache_entries_max:
        raise TooLarge(
            f"the cache holds {limits.cache_entries_max} entries, which is its limit, and none has expired; "
            "use a shorter ttl or a bigger backend",
            field="key",
        )
    size_bytes = ledger.cache_bytes + len(value.encode()) - (len(old.value.encode()) if old else 0)
    if size_bytes > limits.cache_bytes_max:
        raise TooLarge(
            f"the cache would hold {size_bytes} bytes; its limit is {limits.cache_bytes_max} and no more have expired; "
            "use a shorter ttl or a bigger backend",
            field="value",
        )
