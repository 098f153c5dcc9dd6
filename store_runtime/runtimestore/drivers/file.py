"""The file driver: a ledger in each process, kept the same by one journal in a directory (fence class TRANSACTIONAL).

A write joins its process's queue. One thread leads: it takes the flock (which is the fence lock), reads what other
processes appended, decides the queued writes on that ledger, appends their commands as one frame, lets go of the flock
and syncs before anybody is answered. So many writers share one fdatasync, and several processes sync at the same time;
a sync covers all that was appended before it, so what somebody was told never rests on what could still be lost.

A read looks at the journal's size, applies what is new, and answers from memory. It may see what is appended and not
yet synced: nobody was promised that, and only a power cut could take it back.
"""

import fcntl
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from store_runtime.errors import BackendUnreachable, NotFound, StoreError
from store_runtime.runtimestore.commands import Command, changed_keys
from store_runtime.runtimestore.drivers.journal import (
    Journal,
    create_journal,
    encode,
    generations,
    unwritten,
)
from store_runtime.runtimestore.drivers.ledgered import LedgerDriver, Write
from store_runtime.runtimestore.drivers.replica import Replica
from store_runtime.runtimestore.ledger import Ledger
from store_runtime.runtimestore.model import Limits
from store_runtime.runtimestore.rings import Level
from store_runtime.switch.driver import FenceClass

_log = structlog.get_logger(__name__)

JOURNAL_BYTES_MAX = 32 * 1024 * 1024
"""A journal longer than this, and than the last snapshot, is sealed: about a second of reading at start."""

_BATCH_WRITES_MAX = 512
"""Writes in one frame: more than a server has threads."""

_BATCH_BYTES_MAX = 8 * 1024 * 1024
"""Encoded commands in one frame, above which the next write waits for the next frame."""

_CLOSED = "this store was closed"


class _Queued:
    """A write on its way, and what became of it."""

    __slots__ = ("done", "error", "result", "write")

    def __init__(self, write: Write) -> None:
        self.write = write
        self.result: object = None
        self.error: Exception | None = None
        self.done = False


class FileDriver(LedgerDriver):
    """A UsageDriver on a directory; several processes may have it open. `torn_bytes`: what opening had to cut off."""

    fence_class = FenceClass.TRANSACTIONAL

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        epoch: int | None = None,
        *,
        journal_bytes_max: int = JOURNAL_BYTES_MAX,
    ) -> None:
        """Open what `create` made; raises NotFound, SchemaTooNew, Corrupt, BackendUnreachable."""
        super().__init__(limits, epoch)
        self._journal_bytes_max = journal_bytes_max
        self._queue: deque[_Queued] = deque()
        self._leading = threading.Lock()
        self._looking = threading.Lock()  # guards the replica; never held while waiting for the flock or a sync
        self._unusable: str = ""
        self._lock_file = _open_lock(directory)
        self._synced = (0, 0)
        try:
            with self._flocked():
                self._replica = Replica(directory)
                self.torn_bytes = self._replica.catch_up()
        except BaseException:
            os.close(self._lock_file)
            raise

    @staticmethod
    def create(directory: Path, levels: Sequence[Level]) -> None:
        """Make an empty store in `directory`, nothing where there is one; raises BackendUnreachable."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with (directory / "lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not generations(directory, "journal"):
                    create_journal(directory, 1, tuple(levels))
        except OSError as error:
            raise BackendUnreachable(f"cannot make a store in {directory}: {error.strerror}") from error

    @contextmanager
    def _view(self) -> Iterator[Ledger]:
        with self._looking:
            self._require_usable()
            self._replica.follow()
            yield self._replica.ledger

    @contextmanager
    def _flocked(self) -> Iterator[None]:
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    # -- group commit ---------------------------------------------------------------------------------------------

    def _commit(self, write: Write) -> object:
        queued = _Queued(write)
        self._queue.append(queued)
        with self._leading:
            while not queued.done:
                self._lead()
        if queued.error is not None:
            raise queued.error
        return queued.result

    def _lead(self) -> None:
        """Commit one batch from the queue; every write in it is done afterwards, well or with an error."""
        batch: list[_Queued] = []
        try:
            self._commit_batch(batch)
        except BaseException as error:
            if not batch:
                batch.extend(self._taken())
            failure = _failure(error)
            for queued in batch:
                queued.error = queued.error or failure
            if not isinstance(error, Exception):
                raise
        finally:
            for queued in batch:
                queued.done = True

    def _commit_batch(self, batch: list[_Queued]) -> None:
        self._require_usable()
        with self._flocked(), self._looking:
            replica = self._replica
            replica.catch_up()
            if reclaimed := self._reclaim(replica.ledger, self._queue[0].write.at_ns):
                replica.append(reclaimed)
            commands, encoded = self._decide(batch)
            if commands:
                replica.append(commands, encoded)
            self._rotate()
            journal, position = replica.journal, replica.position()
        self._sync(journal, position)

    def _decide(self, batch: list[_Queued]) -> tuple[list[Command], list[bytes]]:
        """Fill the batch from the queue until a write depends on one before it; the commands of all, also encoded."""
        commands: list[Command] = []
        encoded: list[bytes] = []
        touched: set[str] = set()
        size_bytes = 0
        while self._queue and len(batch) < _BATCH_WRITES_MAX and size_bytes < _BATCH_BYTES_MAX:
            write = self._queue[0].write
            if batch and (write.alone or not touched.isdisjoint(write.reads)):
                break
            queued = self._queue.popleft()
            batch.append(queued)
            decided = self._decided(queued)
            commands.extend(decided)
            records = [encode(command) for command in decided]
            encoded.extend(records)
            size_bytes += sum(map(len, records))
            touched.update(key for command in decided for key in changed_keys(command))
            if write.alone:
                break
        return commands, encoded

    def _decided(self, queued: _Queued) -> tuple[Command, ...]:
        try:
            commands, queued.result = queued.write.decide(self._replica.ledger)
        except StoreError as error:
            queued.error = error
            return ()
        return commands

    def _rotate(self) -> None:
        """A generation that cannot begin now (a full disk) begins later: the journal only grows longer meanwhile."""
        try:
            self._replica.rotate(self._journal_bytes_max)
        except (OSError, StoreError):
            _log.exception("cannot begin a new generation of the journal")

    def _sync(self, journal: Journal, position: tuple[int, int]) -> None:
        if position == self._synced:
            return
        try:
            journal.sync()
        except OSError as error:
            self._unusable = f"the disk failed while syncing ({error.strerror}); restart this runtime"
            raise BackendUnreachable(f"{self._unusable}; whether the write is kept is not known") from error
        self._synced = position

    def _taken(self) -> Iterator[_Queued]:
        while self._queue:
            yield self._queue.popleft()

    # -- life -----------------------------------------------------------------------------------------------------

    def _require_usable(self) -> None:
        if self._unusable:
            raise BackendUnreachable(self._unusable)

    def check(self) -> None:
        """Raise what a call would."""
        with self._view():
            if self._replica.journal.removed():
                raise BackendUnreachable("the store's files were removed under this runtime")

    def close(self) -> None:
        with self._leading, self._looking:
            if self._unusable != _CLOSED:
                self._unusable = _CLOSED
                self._replica.journal.close()
                os.close(self._lock_file)


def _failure(error: BaseException) -> Exception:
    if isinstance(error, OSError):
        return unwritten(error, "the journal")
    if isinstance(error, Exception):
        return error
    return BackendUnreachable("the runtime was interrupted; whether the write is kept is not known")


def _open_lock(directory: Path) -> int:
    try:
        return os.open(directory / "lock", os.O_RDWR)
    except FileNotFoundError:
        raise NotFound(f"there is no store in {directory}; provision it first") from None
    except OSError as error:
        raise BackendUnreachable(f"cannot open the store in {directory}: {error.strerror}") from error


def remove_files(directory: Path) -> None:
    """Remove the store's own files, and the directory if nothing else is in it."""
    for pattern in ("journal-*", "snapshot-*", "lock"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()
