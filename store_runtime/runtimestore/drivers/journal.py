"""The journal of the file driver: commands in frames, appended; a chain of files, each sealed when the next begins.

    lock                       the flock of all writers, and so the fence lock
    journal-<generation>.log   commands since the generation began; its last frame, when sealed, says so
    snapshot-<generation>.bin  the ledger when the generation began

A store is its newest snapshot and the journals from that generation on. Readers follow a journal without the lock: what
they see is whole frames only, and a frame that was taken back (a full disk) was never whole. Format:
docs/formats/usage-journal.md.
"""

import errno
import os
import struct
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from store_runtime.errors import BackendUnreachable, Corrupt, OutOfSpace, StoreError, TooLarge
from store_runtime.runtimestore.commands import Command
from store_runtime.runtimestore.drivers.frames import FRAME_BYTES_MAX, frame_after, framed, frames
from store_runtime.runtimestore.drivers.snapshot import FORMAT, require_known, sync_directory
from store_runtime.runtimestore.rings import Level

_log = structlog.get_logger(__name__)

_ARRAY = struct.Struct(">BI")  # msgpack's array 32: 0xdd and a big-endian count
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="journal"):
    """First record of a journal; `levels` are those of an empty store (generation 1)."""

    format: int
    generation: int
    levels: tuple[tuple[int, int], ...]


class Sealed(msgspec.Struct, frozen=True, array_like=True, tag="sealed"):
    """Last record of a journal that has a successor."""


Record = Command | Opened | Sealed
_DECODER = msgspec.msgpack.Decoder(tuple[Record, ...])
_ENCODER = msgspec.msgpack.Encoder()


def journal_path(directory: Path, generation: int) -> Path:
    return directory / f"journal-{generation:010}.log"


def snapshot_path(directory: Path, generation: int) -> Path:
    return directory / f"snapshot-{generation:010}.bin"


def generations(directory: Path, kind: str) -> list[int]:
    """Generations that have a file of `kind` (journal, snapshot), ascending."""
    return sorted(
        int(path.stem.partition("-")[2])
        for path in directory.glob(f"{kind}-??????????.???")
        if path.suffix in (".log", ".bin")
    )


def create_journal(directory: Path, generation: int, levels: tuple[Level, ...]) -> None:
    """Begin a generation; whole or not at all, and nothing where it is there already."""
    path = journal_path(directory, generation)
    if path.exists():
        return
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(frame_of([encode(Opened(FORMAT, generation, levels))]))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(directory)


def encode(record: Record) -> bytes:
    """One record, to be put into a frame with others."""
    return _ENCODER.encode(record)


def frame_of(records: Sequence[bytes]) -> bytes:
    """A frame of encoded records: they are there together or not at all. Raises TooLarge."""
    payload = _ARRAY.pack(0xDD, len(records)) + b"".join(records)
    if len(payload) > FRAME_BYTES_MAX:
        raise TooLarge(f"a write of {len(payload)} bytes is more than {FRAME_BYTES_MAX}; send fewer items at once")
    return framed(payload)


class Journal:
    """An open journal; `offset` is the end of the last whole frame that was read or appended here.

    Closed by `close()` or with its last reference: one thread may still be syncing it while another has moved on.
    """

    def __init__(self, directory: Path, generation: int) -> None:
        self.path = journal_path(directory, generation)
        self.generation = generation
        self.offset = 0
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        self.close = weakref.finalize(self, os.close, self._file)

    def news(self) -> Iterator[tuple[Record, ...]]:
        """Records of each whole frame behind `offset`, which moves along."""
        size_bytes = os.fstat(self._file).st_size
        if size_bytes <= self.offset:
            return
        start = self.offset
        for end, payload in frames(os.pread(self._file, size_bytes - start, start)):
            records = self._decoded(payload)
            self.offset = start + end
            yield records

    def _decoded(self, payload: bytes) -> tuple[Record, ...]:
        try:
            records = _DECODER.decode(payload)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"{self.path.name} has a record at {self.offset} that no version wrote") from error
        if isinstance(records[0], Opened):
            require_known(records[0].format, self.path)
        return records

    def append(self, frame: bytes) -> None:
        """Write a frame behind `offset`, wholly or (OutOfSpace, BackendUnreachable) not at all; not yet synced."""
        written = 0
        try:
            while written < len(frame):
                written += os.write(self._file, frame[written:] if written else frame)
        except OSError as error:
            self._take_back()
            raise unwritten(error, self.path.name) from error
        self.offset += len(frame)

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._file, self.offset)
        except OSError:
            _log.exception("a half-written record stays; the next writer cuts it off", file=self.path.name)

    def cut_torn_end(self) -> int:
        """Remove what is behind the last whole frame (a writer was killed); its bytes. The caller holds the lock.

        Whole frames behind damage are no torn end: somebody may rely on them, so that raises Corrupt.
        """
        torn_bytes = os.fstat(self._file).st_size - self.offset
        if torn_bytes <= 0:
            return 0
        rest = os.pread(self._file, torn_bytes, self.offset)
        if (after := frame_after(rest, 1)) is not None:
            raise Corrupt(
                f"{self.path.name} is damaged from byte {self.offset} to {self.offset + after} good records follow; "
                "restore the file, or cut it at the first of these bytes to lose what is behind"
            )
        os.ftruncate(self._file, self.offset)
        os.fdatasync(self._file)
        _log.warning("cut off a half-written record", file=self.path.name, bytes=torn_bytes, at=self.offset)
        return torn_bytes

    def sync(self) -> None:
        """fdatasync; everything up to the file's end is then on disk, whoever wrote it."""
        os.fdatasync(self._file)

    def removed(self) -> bool:
        """Whether somebody deleted the file."""
        return os.fstat(self._file).st_nlink == 0


def unwritten(error: OSError, name: str) -> StoreError:
    """What a failed write means for the caller."""
    if error.errno in _FULL:
        return OutOfSpace(f"no space left to write {name}; nothing was done; make the volume larger")
    return BackendUnreachable(f"{name} cannot be written: {error.strerror}; nothing was done")
