"""When which key is worked on: deduplicated, one at a time, failures ever later. Pure: the caller brings the time.

A key stands in the schedule at most once, with the earliest time anyone asked for. A key that is being worked on waits
for its end. A failure delays only its own key, exponentially, with jitter, so one broken store never holds up another
and a database that comes back is not met by everyone at once.
"""

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 120.0
"""How late at most a store is tried again after whatever was in its way has gone."""
DOUBLINGS_MAX = 16
"""Beyond this the exponent only grows a number that the cap cuts anyway."""
JITTER = 0.25
"""A delay is lengthened by up to this share of itself."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Taken(Generic[K]):
    """A key to work on, and for how many seconds it had been due."""

    key: K
    waited_seconds: float


class Schedule(Generic[K]):
    """Not thread-safe: it belongs to one event loop. Times are seconds of any one monotonic clock."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._running: set[K] = set()
        self._failures: dict[K, int] = {}
        self._counter = 0

    def add(self, key: K, now: float, delay: float = 0.0) -> None:
        """Ask for `key` in `delay` seconds; an earlier wish stands."""
        due = now + delay
        if key not in self._due or due < self._due[key]:
            self._due[key] = due
            self._push(key, due)

    def take(self, now: float) -> Taken[K] | None:
        """The key that has been due the longest, if any is; it counts as running until `finish` or `fail`."""
        while (top := self._top()) is not None and top[0] <= now:
            heapq.heappop(self._heap)
            due, _, key = top
            del self._due[key]
            self._running.add(key)
            return Taken(key, now - due)
        return None

    def finish(self, key: K, now: float, again_after: float | None) -> None:
        """It went well. None: not before somebody asks."""
        self._failures.pop(key, None)
        if again_after is not None:
            self.add(key, now, again_after)
        self._end(key)

    def fail(self, key: K, now: float, at_least: float = 0.0) -> float:
        """It did not; returns the seconds until its next turn."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        doublings = min(failures - 1, DOUBLINGS_MAX)
        delay = max(at_least, min(BACKOFF_FIRST_SECONDS * (1 << doublings), BACKOFF_MAX_SECONDS))
        delay *= 1 + JITTER * self._random()
        self.add(key, now, delay)
        self._end(key)
        return delay

    def next_due(self) -> float | None:
        """When `take` will next have something, as far as is known now."""
        top = self._top()
        return None if top is None else top[0]

    def depth(self, now: float) -> int:
        """Keys that are due."""
        return sum(1 for due in self._due.values() if due <= now)

    def running(self) -> int:
        return len(self._running)

    def _push(self, key: K, due: float) -> None:
        if key not in self._running:
            self._counter += 1
            heapq.heappush(self._heap, (due, self._counter, key))

    def _end(self, key: K) -> None:
        self._running.discard(key)
        if key in self._due:
            self._push(key, self._due[key])

    def _top(self) -> tuple[float, int, K] | None:
        """The first entry that still stands: superseded ones are dropped on the way."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due and key not in self._running:
                return self._heap[0]
            heapq.heappop(self._heap)
        return None
