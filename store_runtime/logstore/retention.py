"""Retention of request logs: rows *expire* by age, payloads by theirs, and the oldest rows are *evicted* by size.

In this order, so that payloads that go anyway evict no row. Each step removes in short transactions and can be killed
and run again, also by two at once: what has to go is found by time, not by what is still there.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from store_runtime.config.retention import LogRetention
from store_runtime.errors import OutOfSpace
from store_runtime.logstore.driver import LAST_ID, Departures, Limits, LogDriver, Position
from store_runtime.logstore.model import microseconds

BATCH = 1_000
"""Rows of one transaction: writers wait some milliseconds for it."""
MICROSECOND = timedelta(microseconds=1)
Bound = TypeVar("Bound")


def limits(retention: LogRetention, at: datetime) -> Limits:
    """What `retention` means at a time; 0 is unlimited."""

    def before(age: timedelta) -> int | None:
        return microseconds(at) - age // MICROSECOND if age else None

    return Limits(before(retention.max_age), before(retention.payload_max_age), retention.max_size or None)


def apply(driver: LogDriver, wanted: Limits, told: Callable[[int], None]) -> Departures:
    """Remove what has to go; `told` hears how many rows and payloads went so far."""
    tally = _Tally(driver, told)
    expired = payloads = evicted = 0
    if wanted.expire_before is not None:
        expired = tally.drain(driver.remove_oldest, Position(wanted.expire_before - 1, LAST_ID))
    if wanted.payloads_before is not None:
        payloads = tally.drain(driver.remove_payloads, wanted.payloads_before)
    if wanted.max_bytes is not None and (surplus := driver.newest_surplus(wanted.max_bytes)):
        evicted = tally.drain(driver.remove_oldest, surplus)
    driver.give_back_space()
    return Departures(expired, payloads, evicted)


class _Tally:
    """Repeats a removal until nothing is left of it, and counts."""

    def __init__(self, driver: LogDriver, told: Callable[[int], None]) -> None:
        self._driver = driver
        self._told = told
        self._batch = BATCH
        self.total = 0

    def drain(self, remove: Callable[[Bound, int], int], bound: Bound) -> int:
        count = 0
        while gone := self._some(remove, bound):
            count += gone
            self.total += gone
            self._told(self.total)
        return count

    def _some(self, remove: Callable[[Bound, int], int], bound: Bound) -> int:
        """On a full disk a deletion needs room, too: a smaller one needs less, and makes some for the next."""
        while True:
            try:
                return remove(bound, self._batch)
            except OutOfSpace:
                if self._driver.make_room():
                    continue
                if self._batch == 1:
                    raise
                self._batch = max(1, self._batch // 10)
