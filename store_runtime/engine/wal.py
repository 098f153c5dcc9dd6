"""The write-ahead log: one file at a time for all streams, one thread that writes, syncs, and only then acknowledges.

Callers queue batches; the thread takes what is queued, gives it sequences, writes it with one writev, calls fdatasync,
publishes it to readers and resolves the callers' futures. Files are sealed by size and by age, then built.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import structlog

from store_runtime.engine.disk import Disk, sync_directory, write_error
from store_runtime.engine.frames import (
    HEADER_BYTES,
    Frame,
    Header,
    Kind,
    columns_frame,
    pack_file_header,
    pack_header,
)
from store_runtime.engine.limits import Limits
from store_runtime.engine.metrics import SYNC_SECONDS, WAL_BATCHES, WAL_BYTES
from store_runtime.errors import BackendUnreachable, OutOfSpace, Overloaded, StoreError

_log = structlog.get_logger(__name__)
_CLOSED = "the entry engine was closed; nothing was stored"


class Batch(NamedTuple):
    """Entries of one stream, checked and flat.

    `body` has `entries` lines of NDJSON, objects of strings (or null: absent) whose keys are in `columns`, or are not
    fields and ignored. `times` are int64 little endian nanoseconds, or empty if all entries have `min_ns`.
    """

    columns: tuple[str, ...]
    entries: int
    min_ns: int
    max_ns: int
    times: bytes
    body: bytes


class Stamp(NamedTuple):
    """What a batch gets at the moment it is written: its first sequence, and a mark's version (0: no capture)."""

    first_sequence: int
    version: int


@dataclass(slots=True)
class _Queued:
    stream: int
    batch: Batch
    done: "Future[Stamp]" = field(default_factory=Future)


class WalFile:
    """One file of the log, open for reading as long as anybody holds it, also after it was unlinked."""

    def __init__(self, path: Path, number: int, size: int, created_ns: int) -> None:
        self.path = path
        self.number = number
        self.size = size
        self.created_ns = created_ns
        self.frames = 0
        self.columns: dict[int, tuple[str, ...]] = {}
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND)

    @classmethod
    def create(cls, directory: Path, number: int, created_ns: int) -> "WalFile":
        """A new file whose header and name are on disk. Raises OSError; a part of a file is removed."""
        path = directory / f"{number:012d}.wal"
        try:
            header = pack_file_header(number, created_ns)
            with path.open("xb") as file:
                file.write(header)
                file.flush()
                os.fsync(file.fileno())
            sync_directory(directory)
            return cls(path, number, len(header), created_ns)
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        if len(data) != length:
            raise OSError(f"{self.path.name} is shorter than it was")
        return data

    def payload(self, frame: Frame) -> tuple[bytes, bytes]:
        """The times and the body of a frame."""
        data = self.read(frame.offset + HEADER_BYTES, frame.header.payload_bytes)
        return data[: frame.header.times_bytes], data[frame.header.times_bytes :]

    def cut(self) -> None:
        """Forget bytes behind `size`: a write that failed half-way."""
        os.ftruncate(self._descriptor, self.size)

    def __del__(self) -> None:
        """Whoever still reads it holds it: a descriptor closed too early could be another file's by now."""
        with suppress(OSError, AttributeError):
            os.close(self._descriptor)


Stamper = Callable[[int, int], Stamp]
"""(stream, count) → its sequences and version; called in the order of the log."""
Publisher = Callable[[WalFile, int, Frame, tuple[str, ...]], None]
"""(file, stream, frame, columns): makes a durable batch visible to readers, before it is acknowledged."""


class Wal:
    """`start` begins the thread; `close` writes what is queued and ends it. Thread-safe."""

    def __init__(
        self,
        directory: Path,
        first_number: int,
        limits: Limits,
        *,
        stamp: Stamper,
        publish: Publisher,
        sealed: Callable[[WalFile], None],
        disk: Disk,
    ) -> None:
        self._directory = directory
        self._next_number = first_number
        self._limits = limits
        self._stamp, self._publish, self._sealed = stamp, publish, sealed
        self._disk = disk
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._roll_wanted = False
        self._file: WalFile | None = None
        self._file_since = 0.0
        self._thread = threading.Thread(target=self._run, name="entry-wal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def append(self, stream: int, batch: Batch) -> "Future[Stamp]":
        """Queue a batch; the future resolves when it is durable and visible. Raises Overloaded."""
        queued = _Queued(stream, batch)
        size = len(batch.body) + len(batch.times) + HEADER_BYTES
        with self._changed:
            if self._closing:
                raise BackendUnreachable(_CLOSED)
            if self._queued_bytes and self._queued_bytes + size > self._limits.queued_bytes_max:
                raise Overloaded("more entries arrive than the disk takes; try again in a second", retry_after=1.0)
            self._queue.append(queued)
            self._queued_bytes += size
            self._changed.notify_all()
        return queued.done

    def roll(self, numbers: set[int]) -> None:
        """Seal the current file soon, if it is one of these."""
        with self._changed:
            if self._file is not None and self._file.number in numbers:
                self._roll_wanted = True
                self._changed.notify_all()

    def wait_sealed(self, numbers: set[int], deadline: float) -> bool:
        """Wait until the current file is none of these; False when time.monotonic() passes the deadline first."""
        with self._changed:
            while self._file is not None and self._file.number in numbers:
                if time.monotonic() >= deadline:
                    return False
                self._changed.wait(max(0.0, deadline - time.monotonic()))
            return True

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._queue or self._closing or self._roll_wanted or self._is_old()):
                    self._changed.wait(self._patience())
                if self._closing and not self._queue:
                    return
                group, roll = self._take_group(), self._roll_wanted
                self._roll_wanted = False
            if group:
                self._commit(group)
            if self._file is not None and (roll or self._is_old() or self._file.size >= self._limits.wal_file_bytes):
                self._seal()

    def _is_old(self) -> bool:
        file = self._file
        return (
            file is not None
            and file.frames > 0
            and time.monotonic() - self._file_since >= self._limits.wal_file_seconds
        )

    def _patience(self) -> float | None:
        if self._file is None or not self._file.frames:
            return None
        return max(0.01, self._file_since + self._limits.wal_file_seconds - time.monotonic())

    def _take_group(self) -> list[_Queued]:
        group: list[_Queued] = []
        size = 0
        while self._queue and len(group) < self._limits.group_frames_max and size < self._limits.group_bytes_max:
            queued = self._queue.popleft()
            group.append(queued)
            size += len(queued.batch.body) + len(queued.batch.times) + HEADER_BYTES
        self._queued_bytes -= size
        return group

    def _commit(self, group: Sequence[_Queued]) -> None:
        """Write, sync, publish, acknowledge; on any failure nobody of the group is told that it was stored."""
        try:
            file = self._writable()
            frames = self._write(file, group)
        except Exception as error:
            refusal = error if isinstance(error, StoreError) else _refusal(error)
            for queued in group:
                queued.done.set_exception(refusal)
            return
        for queued, frame in zip(group, frames, strict=True):
            self._publish(file, queued.stream, frame, queued.batch.columns)
            header = frame.header
            queued.done.set_result(Stamp(header.first_sequence, header.version))

    def _writable(self) -> WalFile:
        if self._disk.free_bytes(self._directory) < self._limits.reserve_bytes:
            raise OutOfSpace(
                f"the disk of the entries has less than {self._limits.reserve_bytes} bytes left, reserved for building "
                "segments; nothing was stored. Reads go on; make room or lower maxSize"
            )
        if self._file is None:
            self._file = WalFile.create(self._directory, self._next_number, time.time_ns())
            self._next_number += 1
            self._file_since = time.monotonic()
        return self._file

    def _write(self, file: WalFile, group: Sequence[_Queued]) -> list[Frame]:
        buffers: list[bytes | memoryview] = []
        frames: list[Frame] = []
        columns = dict(file.columns)
        end = file.size
        for queued in group:
            if columns.get(queued.stream) != queued.batch.columns:
                columns[queued.stream] = queued.batch.columns
                buffers.append(columns_frame(queued.stream, queued.batch.columns))
                end += len(buffers[-1])
            header = self._header(queued)
            buffers += (pack_header(header), queued.batch.times, queued.batch.body)
            frames.append(Frame(header, end))
            end = frames[-1].end
        self._write_durably(file, buffers, end - file.size)
        file.size, file.columns, file.frames = end, columns, file.frames + len(frames)
        WAL_BATCHES.inc(len(frames))
        return frames

    def _header(self, queued: _Queued) -> Header:
        batch = queued.batch
        stamp = self._stamp(queued.stream, batch.entries)
        return Header(
            Kind.BATCH,
            queued.stream,
            batch.entries,
            stamp.first_sequence,
            batch.min_ns,
            batch.max_ns,
            stamp.version,
            len(batch.times),
            len(batch.body),
            crc32(batch.body, crc32(batch.times)),
        )

    def _write_durably(self, file: WalFile, buffers: list[bytes | memoryview], size: int) -> None:
        """On failure the file is cut back; if that or the sync failed, it takes no more batches."""
        try:
            self._write_all(file, buffers)
        except OSError:
            try:
                file.cut()
            except OSError:
                self._give_up(file)
            raise
        started = time.perf_counter()
        try:
            self._disk.sync(file.descriptor)
        except OSError:
            # After a failed sync the kernel may call pages clean that never reached the disk: never trust this file's
            # end again. What was acknowledged lies before it and was synced by an earlier call.
            with suppress(OSError):
                file.cut()
            self._give_up(file)
            raise
        SYNC_SECONDS.observe(time.perf_counter() - started)
        WAL_BYTES.inc(size)

    def _write_all(self, file: WalFile, buffers: list[bytes | memoryview]) -> None:
        rest = [buffer for buffer in buffers if len(buffer)]
        while rest:
            written = self._disk.write(file.descriptor, rest[:1000])
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if written:
                rest[0] = memoryview(rest[0])[written:]

    def _give_up(self, file: WalFile) -> None:
        _log.error("a log file is given up after a failed write", file=file.path.name, bytes=file.size)
        self._seal()

    def _seal(self) -> None:
        """Hand the file on; whoever waits for it finds it with the builders."""
        if self._file is not None:
            self._sealed(self._file)
            with self._changed:
                self._file = None
                self._changed.notify_all()


def _refusal(error: Exception) -> StoreError:
    _log.error("the log could not be written", exc_info=error)
    refusal = write_error(error) if isinstance(error, OSError) else BackendUnreachable("the log failed; see its log")
    refusal.__cause__ = error
    return refusal
