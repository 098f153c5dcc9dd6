"""The arithmetic of windows: rings of buckets, pure (times and amounts in, amounts out; no clock, no input or output).

A metric has one ring a level; a level is a bucket width `w` and a number of slots. Bucket `b` covers the instants
[b·w, (b+1)·w); it lives in slot `b mod slots` until the clock was seen a whole ring past it. So memory is constant.

A window is answered from whole buckets: charges (deltas ≥ 0) of the bucket in which the window begins count whole,
refunds (deltas < 0) of that bucket do not. With P the sum of charges and R of refunds:

    max(0, P(t−W, t] − R(t−W, t])  ≤  window(t, W)  ≤  max(0, P(t−W−w, t] − R(t−W+w, t])

or, without refunds, S(t−W, t] ≤ window ≤ S(t−W−w, t]: never too little, and too much only by what one bucket holds.
(https://blog.cloudflare.com/counting-things-a-lot-of-different-things interpolates two buckets instead; that may count
too little.)

A clock that goes back loses nothing. By less than the ring: new amounts go to the buckets of their own time, and a
charge counts until the clock was *seen* W past it. By more: at the next amount everything still held is moved to the
present, without its refunds, and counts for another W.
"""

from array import array
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

from store_runtime.errors import InvalidInput

BUCKETS_PER_WINDOW = 60
"""A window is long by at most 1/60 (1.7 %); 61 doubles are 488 bytes a level."""

WINDOWS_MAX = 8
"""Levels a metric can have; each costs 0.6 KB of memory and one addition an increment."""

WINDOW_SECONDS_MIN, WINDOW_SECONDS_MAX = 1, 366 * 86_400
"""Shorter ones would measure the network, longer ones are reports over request logs."""


class Level(NamedTuple):
    """Bucket width in nanoseconds and number of slots."""

    width_ns: int
    slots: int

    @property
    def window_ns(self) -> int:
        """The longest window this level answers: one slot is the bucket that is being filled."""
        return self.width_ns * (self.slots - 1)

    def place(self, at_ns: int) -> tuple[int, int]:
        """Bucket and slot of an instant."""
        bucket = at_ns // self.width_ns
        return bucket, bucket % self.slots


def levels_for(windows: Iterable[timedelta]) -> tuple[Level, ...]:
    """One level for each different window, finest first; raises InvalidInput."""
    lengths = sorted({window // timedelta(microseconds=1) * 1000 for window in windows})
    if not 1 <= len(lengths) <= WINDOWS_MAX:
        raise InvalidInput(f"give 1 to {WINDOWS_MAX} different windows, not {len(lengths)}", field="windows")
    shortest, longest = lengths[0] / 1e9, lengths[-1] / 1e9
    if shortest < WINDOW_SECONDS_MIN or longest > WINDOW_SECONDS_MAX:
        raise InvalidInput(
            f"windows are {WINDOW_SECONDS_MIN} to {WINDOW_SECONDS_MAX} seconds long, not {shortest:g} to {longest:g}",
            field="windows",
        )
    return tuple(Level(-(-length // BUCKETS_PER_WINDOW), BUCKETS_PER_WINDOW + 1) for length in lengths)


def level_index(levels: Sequence[Level], window_ns: int) -> int:
    """The finest level that answers the window; raises InvalidInput that names the largest one kept."""
    for index, level in enumerate(levels):
        if window_ns <= level.window_ns:
            return index
    largest = levels[-1].window_ns / 1e9
    raise InvalidInput(
        f"a window of {window_ns / 1e9:.12g} seconds is longer than what is kept; the largest configured window is "
        f"{largest:.12g} seconds; ask for less or add it to spec.windows",
        field="seconds",
    )


class Ring:
    """The buckets of one level of one metric. `head` is the newest bucket; all slots hold (head−slots, head]."""

    __slots__ = ("charges", "head", "level", "refunds")

    def __init__(self, level: Level) -> None:
        self.level = level
        self.head = -1
        self.charges = array("d", bytes(8 * level.slots))
        self.refunds: array[float] | None = None

    def add(self, delta: float, at_ns: int) -> None:
        """Count `delta` at `at_ns`; 0 changes nothing, so `head` is always a bucket that holds something."""
        if not delta:
            return
        width_ns, slots = self.level
        bucket = at_ns // width_ns
        if bucket > self.head:
            self._advance(bucket)
        elif bucket <= self.head - slots:
            self._gather(bucket)
        if delta >= 0:
            self.charges[bucket % slots] += delta
        else:
            if self.refunds is None:
                self.refunds = array("d", bytes(8 * slots))
            self.refunds[bucket % slots] -= delta

    def _advance(self, bucket: int) -> None:
        slots = self.level.slots
        if bucket - self.head >= slots:
            self.charges = array("d", bytes(8 * slots))
            self.refunds = None
        else:
            for stale in range(self.head + 1, bucket + 1):
                self.charges[stale % slots] = 0.0
                if self.refunds is not None:
                    self.refunds[stale % slots] = 0.0
        self.head = bucket

    def _gather(self, bucket: int) -> None:
        """The clock went back by more than the ring: what is held becomes present, so that it is not lost."""
        held = sum(self.charges)
        self.charges = array("d", bytes(8 * self.level.slots))
        self.refunds = None
        self.charges[bucket % self.level.slots] = held
        self.head = bucket

    def window(self, window_ns: int, at_ns: int) -> float:
        """What was counted in the `window_ns` before `at_ns`, by the bounds at the top; never negative."""
        width_ns = self.level.width_ns
        oldest_ns = at_ns - window_ns + 1
        charged = self._since(self.charges, oldest_ns // width_ns)
        if self.refunds is None:
            return charged
        return max(0.0, charged - self._since(self.refunds, -(-oldest_ns // width_ns)))

    def _since(self, amounts: "array[float]", first: int) -> float:
        slots = self.level.slots
        if first > self.head:
            return 0.0
        if first <= self.head - slots:
            return sum(amounts)
        start, end = first % slots, self.head % slots
        if start <= end:
            return sum(amounts[start : end + 1])
        return sum(amounts[start:]) + sum(amounts[: end + 1])

    def buckets(self) -> list[tuple[int, float, float]]:
        """(bucket, charges, refunds) of every bucket that is not empty, oldest first: the same for every backend."""
        slots = self.level.slots
        refunds = self.refunds or array("d", bytes(8 * slots))
        numbers = range(max(0, self.head - slots + 1), self.head + 1)
        found = ((b, self.charges[b % slots], refunds[b % slots]) for b in numbers)
        return [bucket for bucket in found if bucket[1] or bucket[2]]


def ring_of(level: Level, source: Level, buckets: Iterable[tuple[int, float, float]]) -> Ring:
    """A ring of `level` with buckets that were counted at `source`, oldest first.

    With the same width nothing changes. Otherwise charges are put at their bucket's end and refunds at its start, so
    a window is never too small, and for one old width longer than it should be.
    """
    ring = Ring(level)
    kept = list(buckets)
    for bucket, charged, _ in kept:
        if charged:
            ring.add(charged, (bucket + 1) * source.width_ns - 1)
    for bucket, _, refunded in kept:
        at_ns = bucket * source.width_ns
        if refunded and at_ns // level.width_ns > ring.head - level.slots:
            ring.add(-refunded, at_ns)
    return ring


def rings_from(
    levels: Sequence[Level], found: Sequence[tuple[Level, Sequence[tuple[int, float, float]]]]
) -> list[Ring]:
    """Rings of `levels` out of what was counted at other levels (a changed configuration, another store's export).

    Each takes the finest source that reaches as far back as it does, else the one that reaches furthest.
    """
    if not found:
        return [Ring(level) for level in levels]
    by_reach = sorted(found, key=lambda source: source[0].window_ns)
    rings = []
    for level in levels:
        reaching = [source for source in by_reach if source[0].window_ns >= level.window_ns]
        source, buckets = (reaching or by_reach[-1:])[0]
        rings.append(ring_of(level, source, buckets))
    return rings
