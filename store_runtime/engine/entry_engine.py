"""The entry engine: takes batches, builds them, keeps limits; one process at a time has its directory.

`append` returns a future that resolves when the batch is durable and visible. Reading is in reading, the switch in
switching; both share the engine's state.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from store_runtime.clock import Clock, SystemClock
from store_runtime.config.wire import Role
from store_runtime.engine.builder import BuildReply, BuildStream
from store_runtime.engine.catalogue import FILE_NAME, Catalogue, StreamRow
from store_runtime.engine.disk import Disk, sync_directory
from store_runtime.engine.frames import Frame
from store_runtime.engine.keys import new_salt
from store_runtime.engine.limits import Limits
from store_runtime.engine.marks import block_key, blocks_of, config_key
from store_runtime.engine.metrics import DROPPED_SEGMENTS
from store_runtime.engine.reading import Reader
from store_runtime.engine.recovery import Paths, next_number, remove_leftovers, sound_segments, unbuilt_files
from store_runtime.engine.replay import by_stream
from store_runtime.engine.retention import retain
from store_runtime.engine.segments import Segment
from store_runtime.engine.state import EngineState, StreamState
from store_runtime.engine.wal import Batch, Stamp, Wal, WalFile
from store_runtime.engine.workshop import BUILDER, Workshop
from store_runtime.errors import BackendUnreachable, Conflict, NotFound, Overloaded, TooLarge

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What retention dropped."""

    segments: int = 0
    expired_rows: int = 0
    evicted_rows: int = 0


class Purged(Exception):
    """A stream was purged while its log was being built: the log is built again without what was purged."""


class Engine:
    """Thread-safe. Raises StoreErrors; `close` keeps what is not built for the next opening."""

    def __init__(
        self,
        directory: Path,
        *,
        epoch: int | None = None,
        clock: Clock | None = None,
        limits: Limits | None = None,
        disk: Disk | None = None,
        builder: tuple[str, ...] = BUILDER,
    ) -> None:
        """Open an engine that `create` made; raises NotFound, Conflict (in use), SchemaTooNew, Corrupt."""
        self._paths = Paths(directory)
        if not (directory / FILE_NAME).exists():
            raise NotFound(f"there are no entries in {directory}; provision the store first")
        with ExitStack() as stack:
            self._lock_file = _lock(self._paths.lock)
            stack.callback(os.close, self._lock_file)
            catalogue = Catalogue(directory)
            stack.callback(catalogue.close)
            limits = limits or Limits()
            self.state = EngineState(self._paths, catalogue, limits, clock or SystemClock(), epoch)
            self.reader = Reader(self.state)
            self._workshop = Workshop(
                self._paths.segments, limits, streams_of=self._build_streams, finished=self._built, command=builder
            )
            self._wal = Wal(
                self._paths.wal,
                next_number(self._paths, catalogue),
                limits,
                stamp=self._stamp,
                publish=self._publish,
                sealed=self._workshop.add,
                disk=disk or Disk(),
            )
            self._recover()
            stack.pop_all()
        self._wal.start()
        self._closing = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep_house, name="entry-housekeeping", daemon=True)
        self._housekeeper.start()

    @staticmethod
    def create(directory: Path) -> None:
        """Make the directory and an empty catalogue; idempotent."""
        paths = Paths(directory)
        paths.create()
        descriptor = _lock(paths.lock)
        try:
            Catalogue(directory).close()
            sync_directory(directory)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Finish the writes under way; idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._housekeeper.join()
        self._wal.close()
        self._workshop.close()
        self.state.catalogue.close()
        os.close(self._lock_file)

    # -- writing --------------------------------------------------------------------------------------------------

    def append(self, stream: str, batch: Batch) -> "Future[Stamp]":
        """Queue a batch for a stream that exists. Raises NotFound, Fenced, Overloaded; the future OutOfSpace too."""
        state = self.state
        state.fence.acquire_shared()
        try:
            state.require_writable()
            if self._workshop.unbuilt_bytes > state.limits.unbuilt_bytes_max:
                raise Overloaded("entries arrive faster than they are built; try again in two seconds", retry_after=2.0)
            with state.lock:
                number = state.named(stream).row.id
            done = self._wal.append(number, batch)
        except BaseException:
            state.fence.release_shared()
            raise
        done.add_done_callback(lambda _: state.fence.release_shared())
        return done

    def _stamp(self, stream: int, count: int) -> Stamp:
        state = self.state
        with state.lock:
            found = state.by_id[stream]
            first = found.next_sequence
            found.next_sequence += count
            return Stamp(first, state.marks.next_version() if state.capturing else 0)

    def _publish(self, file: WalFile, stream: int, frame: Frame, columns: tuple[str, ...]) -> None:
        state, header = self.state, frame.header
        with state.lock:
            found = state.by_id[stream]
            found.tail.add(file, stream, frame, columns)
            if header.version:
                state.mark_batch(found.row.name, header.first_sequence, header.last_sequence, header.version)

    # -- streams --------------------------------------------------------------------------------------------------

    def streams(self) -> list[StreamRow]:
        """Every stream's config, by name."""
        with self.state.lock:
            return [found.row for _, found in sorted(self.state.by_name.items())]

    def stream(self, name: str) -> StreamRow:
        """Raises NotFound."""
        with self.state.lock:
            return self.state.named(name).row

    def find_stream(self, name: str) -> StreamRow | None:
        found = self.state.by_name.get(name)
        return None if found is None else found.row

    def usage_bytes(self, name: str) -> int:
        """Bytes on disk, unbuilt log included."""
        with self.state.lock:
            return self.state.named(name).bytes

    def put_streams(self, rows: Iterable[StreamRow]) -> None:
        """Create or change streams by name (their counters and salts stay); what is as wanted costs nothing."""
        with self.state.fence.shared(), self.state.changes:
            self.state.require_writable()
            changed = []
            for row in rows:
                found = self.state.by_name.get(row.name)
                if found is None:
                    self.create_stream(row)
                elif (wanted := _configured(found.row, row)) != found.row:
                    changed.append((found, wanted))
            self._change_streams(changed)

    def _change_streams(self, changed: Sequence[tuple[StreamState, StreamRow]]) -> None:
        if changed:
            marks = self.state.mark(config_key(row.name) for _, row in changed)
            self.state.catalogue.update_streams([row for _, row in changed], marks)
            with self.state.lock:
                for found, row in changed:
                    found.row = row

    def create_stream(self, row: StreamRow) -> None:
        """A new stream, with a salt if it has none. With `changes` held. Raises TooLarge."""
        state = self.state
        if len(state.by_id) >= state.limits.streams_max:
            raise TooLarge(f"there are {state.limits.streams_max} streams, which is the limit; delete some")
        salted = msgspec.structs.replace(row, salt=row.salt or new_salt(), next_sequence=0, purged_before=0)
        made = state.catalogue.add_stream(salted, state.mark([config_key(row.name)]))
        with state.lock:
            state.add(StreamState(made, 0))

    def delete_stream(self, name: str) -> None:
        """Remove a stream with everything in it. Raises NotFound."""
        with self.state.fence.exclusive(), self.state.changes:
            self.state.require_writable()
            self.remove_stream(name)

    def remove_stream(self, name: str) -> None:
        """With the fence held exclusively."""
        state = self.state
        found = state.named(name)
        state.catalogue.remove_stream(found.row.id, state.mark([config_key(name), *self._block_keys(found)]))
        with state.lock:
            state.remove(found)
        self.unlink(found.segments)
        with suppress(OSError):
            (self._paths.segments / str(found.row.id)).rmdir()

    def purge_stream(self, name: str) -> None:
        """Remove all entries and keep the config. Raises NotFound."""
        state = self.state
        with state.fence.exclusive(), state.changes:
            state.require_writable()
            found = state.named(name)
            row = msgspec.structs.replace(found.current_row(), purged_before=found.next_sequence)
            removed = list(found.segments)
            state.catalogue.replace_segments(removed, (), [row], state.mark(self._block_keys(found)))
            with state.lock:
                found.row, found.segments = row, []
                found.tail.clear()
            self.unlink(removed)

    def _block_keys(self, found: StreamState) -> list[str]:
        """Every block that holds something; not worked out where nobody marks."""
        return [block_key(found.row.name, block) for block in found.blocks()] if self.state.capturing else []

    # -- building -------------------------------------------------------------------------------------------------

    def _build_streams(self, file: WalFile) -> dict[int, BuildStream]:
        with self.state.lock:
            return {
                number: BuildStream(found.row.name, found.row.indexed, found.row.purged_before)
                for number, found in self.state.by_id.items()
                if not file.columns or number in file.columns
            }

    def _built(self, file: WalFile, reply: BuildReply) -> None:
        """Segments of a log file are on disk: commit them, show them instead of the log, and let the log go."""
        state = self.state
        with state.changes:
            kept = [segment for segment in reply.segments if segment.stream in state.by_id]
            if any(segment.first_sequence < state.by_id[segment.stream].row.purged_before for segment in kept):
                self.unlink(reply.segments)
                raise Purged(f"{file.path.name} was purged in part while it was built")
            self._commit_built(file, kept)
            self.unlink(segment for segment in reply.segments if segment.stream not in state.by_id)
        state.parsed.drop(file)
        file.path.unlink()
        sync_directory(self._paths.wal)
        state.catalogue.forget_built([file.number])

    def _commit_built(self, file: WalFile, segments: Sequence[Segment]) -> None:
        state = self.state
        with state.lock:
            touched = [state.by_id[number] for number in file.columns if number in state.by_id]
            rows = [found.current_row() for found in touched]
            keys = [
                block_key(state.by_id[segment.stream].row.name, block)
                for segment in (segments if state.capturing else ())
                for block in blocks_of(segment.first_sequence, segment.last_sequence)
            ]
            marks, version = state.marks.those_of(keys), state.marks.version
        state.catalogue.commit_built(file.number, segments, rows, marks, version)
        with state.lock:
            for segment in segments:
                state.by_id[segment.stream].segments.append(segment)
                self.reader.verifier.trust(segment)
            for found in touched:
                found.tail.drop(file)

    def settle(self, seconds: float = 60.0) -> None:
        """Build everything that was acknowledged before this call; raises BackendUnreachable if that takes longer."""
        deadline = time.monotonic() + seconds
        with self.state.lock:
            numbers = {chunk.file.number for found in self.state.by_id.values() for chunk in found.tail.chunks}
        self._wal.roll(numbers)
        self._workshop.hurry()
        if not self._wal.wait_sealed(numbers, deadline) or not self._workshop.wait(numbers, deadline):
            raise BackendUnreachable(f"the log could not be built within {seconds:.0f} s; see the runtime's log")

    # -- keeping --------------------------------------------------------------------------------------------------

    def retain(self, *, dry_run: bool = False) -> Dropped:
        """Drop the segments that no query sees any more; nothing while a switch captures or has fenced."""
        state = self.state
        with state.fence.shared(), state.changes:
            if state.capturing or state.meta is None or state.meta.role is not Role.ACTIVE:
                return Dropped()
            with state.lock:
                limited = [found for found in state.by_id.values() if found.row.max_age_ns or found.row.max_bytes]
            expired: list[Segment] = []
            evicted: list[Segment] = []
            for found in limited:
                row = found.row
                kept = retain(
                    found.segments,
                    found.tail.bytes,
                    max_age_ns=row.max_age_ns,
                    max_bytes=row.max_bytes,
                    now_ns=state.clock.now_ns(),
                )
                expired += kept.expired
                evicted += kept.evicted
            if not dry_run:
                self._drop([*expired, *evicted])
                DROPPED_SEGMENTS.labels("expired").inc(len(expired))
                DROPPED_SEGMENTS.labels("evicted").inc(len(evicted))
        return Dropped(
            len(expired) + len(evicted),
            sum(segment.rows for segment in expired),
            sum(segment.rows for segment in evicted),
        )

    def _drop(self, segments: Sequence[Segment]) -> None:
        if not segments:
            return
        state = self.state
        state.catalogue.replace_segments(segments, ())
        gone = {segment.file for segment in segments}
        with state.lock:
            for number in {segment.stream for segment in segments}:
                found = state.by_id[number]
                found.segments = [segment for segment in found.segments if segment.file not in gone]
        self.unlink(segments)

    def unlink(self, segments: Iterable[Segment]) -> None:
        """Files that the catalogue does not know any more; one left over by a crash is removed at the next start."""
        for segment in segments:
            self.reader.verifier.forget(segment)
            with suppress(FileNotFoundError):
                self._paths.segment(segment).unlink()

    def _keep_house(self) -> None:
        while not self._closing.wait(self.state.limits.housekeeping_seconds):
            try:
                self.retain()
            except Exception:
                _log.exception("retention of entries failed; it is tried again in a minute")

    def warnings(self) -> list[tuple[str, str]]:
        """What wants a person: a CamelCase reason and a sentence each, ten at most of a kind."""
        aside = [
            ("SegmentDamaged", f"the segment {file} with {rows} entries was put aside: it {reason}")
            for file, rows, reason in self.state.catalogue.quarantined()
        ]
        return aside[-10:] + [("LogNotBuilt", failure) for failure in self._workshop.failures()[:10]]

    def check(self) -> None:
        """Raise what a write would meet: the directory is gone, or the engine was closed."""
        if self._closing.is_set():
            raise BackendUnreachable("the entry engine was closed")
        if not self._paths.wal.is_dir():
            raise BackendUnreachable("the directory of the entries is gone; is its volume mounted?")

    def _recover(self) -> None:
        state = self.state
        segments = sound_segments(self._paths, state.catalogue, state.catalogue.segments())
        remove_leftovers(self._paths, segments)
        for segment in segments:
            if segment.stream in state.by_id:
                state.by_id[segment.stream].segments.append(segment)
        for found, row in ((found, found.row) for found in state.by_id.values()):
            found.next_sequence = max([row.next_sequence, *(s.last_sequence + 1 for s in found.segments)])
        for file, scanned, data in unbuilt_files(self._paths, state.catalogue):
            for number, replayed in by_stream(scanned, data, state.by_id).items():
                file.columns[number] = replayed.columns
                self._replay(file, state.by_id[number], replayed.frames)
            self._workshop.add(file)

    def _replay(self, file: WalFile, found: StreamState, frames: Sequence[Frame]) -> None:
        for frame in frames:
            header = frame.header
            found.next_sequence = max(found.next_sequence, header.last_sequence + 1)
            self.state.marks.version = max(self.state.marks.version, header.version)
            if header.first_sequence >= found.row.purged_before:
                found.tail.add(file, found.row.id, frame, file.columns[found.row.id])
                if header.version and self.state.capturing:
                    self.state.mark_batch(found.row.name, header.first_sequence, header.last_sequence, header.version)


def _configured(row: StreamRow, wanted: StreamRow) -> StreamRow:
    return msgspec.structs.replace(
        row,
        max_age_ns=wanted.max_age_ns,
        max_bytes=wanted.max_bytes,
        indexed=wanted.indexed,
        declared=wanted.declared,
    )


def _lock(path: Path) -> int:
    """The directory is this process's until the descriptor is closed; raises Conflict."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(
            f"the entries in {path.parent} are in use by another process; only one may have them", code="InUse"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
