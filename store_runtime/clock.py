"""Time as a parameter, so that windows, retention and back-off are tested without waiting."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time of a store."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()


class ManualClock:
    """A clock that moves when told to (tests)."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now_ns = int(start.timestamp()) * 1_000_000_000

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, by: timedelta) -> None:
        """Move by `by`, which may be negative: clocks go back."""
        self._now_ns += (by.days * 86_400 + by.seconds) * 1_000_000_000 + by.microseconds * 1_000


def now(clock: Clock) -> datetime:
    """The clock's time as an aware datetime (microseconds)."""
    seconds, nanoseconds = divmod(clock.now_ns(), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanoseconds // 1_000)
