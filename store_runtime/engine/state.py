"""What an engine knows in memory: its streams with their segments and tails, its meta and marks, and the locks on them.

Order of locks: fence → changes → lock. `changes` is held over catalogue transactions that change streams or segments;
`lock` only for moments, so that neither readers nor the log wait for a disk.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from store_runtime.clock import Clock
from store_runtime.config.wire import Role
from store_runtime.engine.catalogue import Catalogue, StreamRow
from store_runtime.engine.fence import FenceLock
from store_runtime.engine.limits import Limits
from store_runtime.engine.marks import Marks, block_key, blocks_of
from store_runtime.engine.recovery import Paths
from store_runtime.engine.segments import Segment
from store_runtime.engine.tail import ParsedCache, Tail
from store_runtime.errors import Fenced, NotFound
from store_runtime.switch.driver import DirtyMark, StoreMeta


@dataclass(slots=True)
class StreamState:
    """One stream: its config, what is built, and what is not."""

    row: StreamRow
    next_sequence: int
    segments: list[Segment] = field(default_factory=list)
    tail: Tail = field(default_factory=Tail)

    @property
    def bytes(self) -> int:
        return self.tail.bytes + sum(segment.bytes for segment in self.segments)

    def blocks(self) -> list[int]:
        """The blocks that hold something."""
        ranges = [(s.first_sequence, s.last_sequence) for s in self.segments]
        ranges += [(c.first_sequence, c.last_sequence) for c in self.tail.chunks]
        return sorted({block for first, last in ranges for block in blocks_of(first, last)})

    def current_row(self) -> StreamRow:
        return msgspec.structs.replace(self.row, next_sequence=self.next_sequence)


class EngineState:
    """Shared by the engine's parts; `epoch` None: opened for a job, which no epoch fences."""

    def __init__(self, paths: Paths, catalogue: Catalogue, limits: Limits, clock: Clock, epoch: int | None) -> None:
        self.paths = paths
        self.catalogue = catalogue
        self.limits = limits
        self.clock = clock
        self.epoch = epoch
        self.fence = FenceLock()
        self.changes = threading.RLock()
        self.lock = threading.Lock()
        self.meta: StoreMeta | None = catalogue.read_meta()
        self.marks = Marks(catalogue.marks(), int(catalogue.fact("version") or 0))
        self.parsed = ParsedCache(limits.parsed_bytes_max)
        self.by_id: dict[int, StreamState] = {}
        self.by_name: dict[str, StreamState] = {}
        for row in catalogue.streams():
            self.add(StreamState(row, row.next_sequence))

    def add(self, state: StreamState) -> None:
        self.by_id[state.row.id] = state
        self.by_name[state.row.name] = state

    def remove(self, state: StreamState) -> None:
        del self.by_id[state.row.id]
        del self.by_name[state.row.name]

    def named(self, name: str) -> StreamState:
        """Raises NotFound."""
        state = self.by_name.get(name)
        if state is None:
            raise NotFound(f"there is no stream {name!r} here; its first entry or a PUT of its config makes it")
        return state

    @property
    def capturing(self) -> bool:
        return self.meta is not None and self.meta.capture

    def require_writable(self) -> None:
        """Called with the fence held; raises Fenced."""
        meta = self.meta
        if meta is None or meta.role is not Role.ACTIVE:
            role = "without identity" if meta is None else meta.role.value
            raise Fenced(f"the entries of this store are {role}: the write was not done, try again in a moment")
        if self.epoch is not None and meta.epoch != self.epoch:
            raise Fenced(f"this runtime is of epoch {self.epoch}, the entries of {meta.epoch}: the write was not done")

    def mark(self, keys: Iterable[str]) -> list[DirtyMark]:
        """Marks for a change of the catalogue, to be written in its transaction; none while capture is off."""
        if not self.capturing:
            return []
        with self.lock:
            return self.marks.set(keys, self.marks.next_version())

    def mark_batch(self, stream: str, first_sequence: int, last_sequence: int, version: int) -> None:
        """Marks of a batch, whose frame makes them durable. With `lock` held."""
        self.marks.set((block_key(stream, block) for block in blocks_of(first_sequence, last_sequence)), version)
