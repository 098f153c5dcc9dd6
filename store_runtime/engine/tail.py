"""The tail: durable entries that are not built yet, as chunks of log that parse themselves when a query wants them.

A chunk keeps where its frames are, not their bytes; what was parsed is kept in a cache of bounded size.
"""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from store_runtime.engine.frames import Frame
from store_runtime.engine.limits import CHUNK_BYTES, CHUNK_ENTRIES
from store_runtime.engine.replay import union
from store_runtime.engine.rows import table
from store_runtime.engine.wal import WalFile

if TYPE_CHECKING:
    import polars as pl


class Chunk:
    """Batches of one stream in one log file. Frames are added under the engine's lock; parsing has its own."""

    def __init__(self, file: WalFile, stream: int) -> None:
        self.file = file
        self.stream = stream
        self.columns: tuple[str, ...] = ()
        self.frames: list[Frame] = []
        self.rows = 0
        self.bytes = 0
        self.min_ns = 2**63 - 1
        self.max_ns = -(2**63)
        self._parsing = threading.Lock()
        self._parsed: pl.DataFrame | None = None
        self._parsed_frames = 0

    @property
    def is_full(self) -> bool:
        return self.bytes >= CHUNK_BYTES or self.rows >= CHUNK_ENTRIES

    @property
    def first_sequence(self) -> int:
        return self.frames[0].header.first_sequence

    @property
    def last_sequence(self) -> int:
        return self.frames[-1].header.last_sequence

    def add(self, frame: Frame, columns: tuple[str, ...]) -> None:
        header = frame.header
        if columns != self.columns:
            self.columns = union(self.columns, columns)
        self.min_ns = min(self.min_ns, header.min_ns)
        self.max_ns = max(self.max_ns, header.max_ns)
        self.rows += header.entries
        self.bytes += header.payload_bytes
        self.frames.append(frame)

    def table(self, columns: tuple[str, ...], frames: int) -> "pl.DataFrame":
        """The first `frames` frames, parsed: only those that were not parsed before. Raises OSError, Unreadable."""
        import polars as pl

        with self._parsing:
            parsed = self._parsed if self._parsed_frames <= frames else None
            done = self._parsed_frames if parsed is not None else 0
            fresh = self.frames[done:frames]
            if fresh or parsed is None:
                rows = table([(frame.header, *self.file.payload(frame)) for frame in fresh], columns)
                parsed = rows if parsed is None else pl.concat((parsed, rows), how="diagonal")
                if frames >= self._parsed_frames:
                    self._parsed, self._parsed_frames = parsed, frames
            return parsed

    def forget_parsed(self) -> None:
        """Let go of the memory; never waits for a query that is parsing."""
        if self._parsing.acquire(blocking=False):
            self._parsed, self._parsed_frames = None, 0
            self._parsing.release()


class ParsedCache:
    """Which chunks stay parsed: the ones used last, up to a limit of log bytes. Thread-safe."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._used: OrderedDict[int, Chunk] = OrderedDict()
        self._lock = threading.Lock()

    def touch(self, chunk: Chunk) -> None:
        with self._lock:
            self._used[id(chunk)] = chunk
            self._used.move_to_end(id(chunk))
            size = sum(kept.bytes for kept in self._used.values())
            while size > self._bytes_max and len(self._used) > 1:
                _, dropped = self._used.popitem(last=False)
                size -= dropped.bytes
                dropped.forget_parsed()

    def drop(self, file: WalFile) -> None:
        """A file was built: its chunks are not asked for any more."""
        with self._lock:
            for key in [key for key, chunk in self._used.items() if chunk.file is file]:
                del self._used[key]


class Tail:
    """The unbuilt chunks of one stream, oldest first. Under the engine's lock."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    @property
    def bytes(self) -> int:
        return sum(chunk.bytes for chunk in self.chunks)

    def add(self, file: WalFile, stream: int, frame: Frame, columns: tuple[str, ...]) -> None:
        if not self.chunks or self.chunks[-1].is_full or self.chunks[-1].file is not file:
            self.chunks.append(Chunk(file, stream))
        self.chunks[-1].add(frame, columns)

    def drop(self, file: WalFile) -> None:
        """Its entries are in segments now."""
        self.chunks = [chunk for chunk in self.chunks if chunk.file is not file]

    def clear(self) -> None:
        self.chunks = []
