"""Retention of one stream, decided: what is visible now, and which segments may be dropped. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from store_runtime.engine.segments import Segment


class Kept(NamedTuple):
    """`segments` are visible, from `since_ns` on; `expired` and `evicted` are wholly out of it."""

    segments: Sequence[Segment]
    since_ns: int
    expired: Sequence[Segment]
    evicted: Sequence[Segment]


def retain(segments: Sequence[Segment], unbuilt_bytes: int, *, max_age_ns: int, max_bytes: int, now_ns: int) -> Kept:
    """Apply limits (0: none). By age to the nanosecond; by size whole segments, those with the oldest end first.

    Log that is not built yet counts, but only segments are evicted: it has no smaller unit that could be.
    """
    since_ns = now_ns - max_age_ns if max_age_ns else 0
    alive = [segment for segment in segments if segment.max_ns >= since_ns]
    expired = [segment for segment in segments if segment.max_ns < since_ns]
    evicted: list[Segment] = []
    if max_bytes:
        oldest_first = sorted(alive, key=lambda segment: (segment.max_ns, segment.last_sequence))
        size = unbuilt_bytes + sum(segment.bytes for segment in alive)
        for segment in oldest_first:
            if size <= max_bytes:
                break
            evicted.append(segment)
            size -= segment.bytes
        gone = {segment.file for segment in evicted}
        alive = [segment for segment in alive if segment.file not in gone]
    return Kept(alive, since_ns, expired, evicted)
