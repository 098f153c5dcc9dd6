"""Parts: what a query reads, whether it was built (a segment) or not (a chunk of log). Both become a lazy table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from store_runtime.engine.segments import Segment
from store_runtime.engine.tail import Chunk, ParsedCache

if TYPE_CHECKING:
    import polars as pl


class Part(Protocol):
    """A run of entries of one stream. `rest` names fields in the REST column; None: not known, look there."""

    @property
    def min_ns(self) -> int: ...

    @property
    def max_ns(self) -> int: ...

    @property
    def rows(self) -> int: ...

    @property
    def first_sequence(self) -> int: ...

    @property
    def last_sequence(self) -> int: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def rest(self) -> tuple[str, ...] | None: ...

    def scan(self) -> "pl.LazyFrame":
        """TIME, SEQUENCE, columns, and REST where there is one. Sorted by time if `is_sorted`."""
        ...

    @property
    def is_sorted(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class BuiltPart:
    """A segment on disk; `verify` raises before it is read if it is not what was written."""

    segment: Segment
    path: Path
    verify: Callable[[Segment, Path], None]
    is_sorted: bool = True

    @property
    def min_ns(self) -> int:
        return self.segment.min_ns

    @property
    def max_ns(self) -> int:
        return self.segment.max_ns

    @property
    def rows(self) -> int:
        return self.segment.rows

    @property
    def first_sequence(self) -> int:
        return self.segment.first_sequence

    @property
    def last_sequence(self) -> int:
        return self.segment.last_sequence

    @property
    def columns(self) -> tuple[str, ...]:
        return self.segment.columns

    @property
    def rest(self) -> tuple[str, ...]:
        return self.segment.rest

    def scan(self) -> "pl.LazyFrame":
        import polars as pl

        self.verify(self.segment, self.path)
        return pl.scan_parquet(self.path, glob=False)


@dataclass(slots=True)
class LogPart:
    """A chunk of log as it was when the query began: later frames are not in it."""

    chunk: Chunk
    cache: ParsedCache
    is_sorted: bool = False
    rest: tuple[str, ...] | None = None
    rows: int = field(init=False)
    min_ns: int = field(init=False)
    max_ns: int = field(init=False)
    first_sequence: int = field(init=False)
    last_sequence: int = field(init=False)
    columns: tuple[str, ...] = field(init=False)
    _frames: int = field(init=False)

    def __post_init__(self) -> None:
        chunk = self.chunk
        self.rows, self.min_ns, self.max_ns = chunk.rows, chunk.min_ns, chunk.max_ns
        self.first_sequence, self.last_sequence = chunk.first_sequence, chunk.last_sequence
        self.columns, self._frames = chunk.columns, len(chunk.frames)

    def scan(self) -> "pl.LazyFrame":
        rows = self.chunk.table(self.columns, self._frames)
        self.cache.touch(self.chunk)
        return rows.lazy()
