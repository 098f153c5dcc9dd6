"""Reading while everything else goes on: a consistent view of a stream's parts, and what to do when one is damaged.

A view is taken under the lock, so an entry is either in the log or in a segment, never in both or none. If a segment
vanished because retention dropped it, the question is asked again of a new view; a damaged one is put aside first.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from store_runtime.engine import query
from store_runtime.engine.parts import BuiltPart, LogPart, Part
from store_runtime.engine.query import Found, Selection
from store_runtime.engine.recovery import put_aside
from store_runtime.engine.retention import retain
from store_runtime.engine.segments import Segment, checksum
from store_runtime.engine.state import EngineState
from store_runtime.errors import Corrupt

T = TypeVar("T")
_ATTEMPTS = 10
"""Views tried before a question is given up: each was overtaken by a drop, or put one damaged segment aside."""


class Unsound(Exception):
    """A segment is missing, or is not what was written."""

    def __init__(self, segment: Segment, reason: str) -> None:
        super().__init__(reason)
        self.segment = segment
        self.reason = reason


class Verifier:
    """Compares a segment with its checksum the first time that this process reads it. Thread-safe."""

    def __init__(self) -> None:
        self._sound: set[str] = set()
        self._lock = threading.Lock()

    def trust(self, segment: Segment) -> None:
        """It was written, and its checksum made, a moment ago."""
        with self._lock:
            self._sound.add(segment.file)

    def forget(self, segment: Segment) -> None:
        with self._lock:
            self._sound.discard(segment.file)

    def require_sound(self, segment: Segment, path: Path) -> None:
        """Raises Unsound."""
        with self._lock:
            if segment.file in self._sound:
                return
        try:
            found = checksum(path)
        except OSError as error:
            raise Unsound(segment, f"cannot be read: {error.strerror}") from error
        if found != (segment.bytes, segment.crc):
            raise Unsound(segment, "does not match its checksum")
        self.trust(segment)


class Reader:
    """Questions about one stream by its name. Thread-safe; raises NotFound for unknown streams."""

    def __init__(self, state: EngineState) -> None:
        self._state = state
        self.verifier = Verifier()

    def find(
        self, stream: str, selection: Selection, *, limit: int, ascending: bool, after: tuple[int, int] | None
    ) -> list[Found]:
        def answer(parts: list[Part], since_ns: int) -> list[Found]:
            return query.find(parts, _since(selection, since_ns), limit=limit, ascending=ascending, after=after)

        return self.ask(stream, answer)

    def count(self, stream: str, selection: Selection) -> int:
        return self.ask(stream, lambda parts, since_ns: query.count(parts, _since(selection, since_ns)))

    def names(self, stream: str) -> list[str]:
        """Fields of what is kept."""
        return self.ask(stream, lambda parts, since_ns: query.names(p for p in parts if p.max_ns >= since_ns))

    def distinct(self, stream: str, fields: tuple[str, ...], limit: int) -> Mapping[str, list[str]]:
        """The values of each field, sorted; of at most `limit` of them."""
        return self.ask(
            stream,
            lambda parts, since_ns: {
                field: query.distinct(parts, field, limit, Selection(since_ns, 2**63 - 1, {})) for field in fields
            },
        )

    def entries_between(
        self, stream: str, first_sequence: int, last_sequence: int, *, only: Segment | None = None
    ) -> list[Found]:
        """Everything that is there (in one segment), whatever retention says: for the switch."""

        def answer(parts: list[Part], _: int) -> list[Found]:
            asked = (p for p in parts if only is None or (isinstance(p, BuiltPart) and p.segment == only))
            return query.entries_between(asked, first_sequence, last_sequence)

        return self.ask(stream, answer, retained=False)

    def ask(self, stream: str, answer: Callable[[list[Part], int], T], *, retained: bool = True) -> T:
        import polars as pl

        for attempt in range(_ATTEMPTS):
            parts, since_ns = self._view(stream, retained)
            try:
                return answer(parts, since_ns)
            except Unsound as error:
                self._put_aside(stream, error)
            except (OSError, pl.exceptions.PolarsError):
                if attempt == _ATTEMPTS - 1:
                    raise
                for part in parts:
                    if isinstance(part, BuiltPart):
                        self.verifier.forget(part.segment)
        raise Corrupt(f"the segments of {stream!r} kept changing or were damaged; try again")

    def _view(self, stream: str, retained: bool) -> tuple[list[Part], int]:
        """The parts that retention leaves, and the time from which on entries are left."""
        state = self._state
        with state.lock:
            found = state.named(stream)
            row = found.row
            age, size = (row.max_age_ns, row.max_bytes) if retained else (0, 0)
            kept = retain(found.segments, found.tail.bytes, max_age_ns=age, max_bytes=size, now_ns=state.clock.now_ns())
            built = [
                BuiltPart(segment, state.paths.segment(segment), self.verifier.require_sound)
                for segment in kept.segments
            ]
            return [*built, *(LogPart(chunk, state.parsed) for chunk in found.tail.chunks)], kept.since_ns

    def _put_aside(self, stream: str, error: Unsound) -> None:
        """Only if it is still there: retention may have dropped it a moment ago."""
        state = self._state
        with state.changes:
            with state.lock:
                found = state.by_name.get(stream)
                known = found is not None and error.segment in found.segments
            if known and found is not None:
                put_aside(state.paths, state.catalogue, error.segment, error.reason)
                with state.lock:
                    found.segments.remove(error.segment)


def _since(selection: Selection, since_ns: int) -> Selection:
    return Selection(max(selection.from_ns, since_ns), selection.to_ns, selection.equal)
