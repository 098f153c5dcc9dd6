"""One process's copy of a file store: a ledger that follows the journals of a directory, and extends them.

Following needs no lock and never fails for what others are just writing. `catch_up`, `append` and `rotate` are for the
holder of the flock; nothing here takes it.
"""

from collections.abc import Sequence
from pathlib import Path

from store_runtime.errors import BackendUnreachable, Corrupt, NotFound
from store_runtime.runtimestore.commands import Command
from store_runtime.runtimestore.drivers.journal import (
    Journal,
    Opened,
    Sealed,
    create_journal,
    encode,
    frame_of,
    generations,
    journal_path,
    snapshot_path,
)
from store_runtime.runtimestore.drivers.snapshot import read_snapshot, write_snapshot
from store_runtime.runtimestore.ledger import Ledger
from store_runtime.runtimestore.rings import Level

_LOAD_ATTEMPTS = 10
"""Another process's rotation may remove a file between finding and opening it, but not ten times in a row."""


class Replica:
    """`ledger` is the store as of the last follow, which read `journal` up to its offset.

    Raises NotFound, SchemaTooNew and Corrupt where it opens files.
    """

    ledger: Ledger
    journal: Journal

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sealed = False
        self._load()

    def _load(self) -> None:
        for _ in range(_LOAD_ATTEMPTS):
            newest = max(generations(self._directory, "snapshot"), default=0)
            try:
                self.journal = Journal(self._directory, newest or 1)
                self._read_snapshot(newest)
            except FileNotFoundError:
                continue
            self._sealed = False
            return
        if generations(self._directory, "journal"):
            raise Corrupt(f"the journal after the newest snapshot is missing in {self._directory}; restore it")
        raise NotFound(f"there is no store in {self._directory}; provision it first")

    def _read_snapshot(self, generation: int) -> None:
        self._snapshot_bytes = 0
        self.ledger = Ledger(())
        if generation:
            path = snapshot_path(self._directory, generation)
            self._snapshot_bytes = path.stat().st_size
            self.ledger = read_snapshot(path)

    # -- following ------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Apply whatever was appended, over as many generations as there are."""
        self._follow_journal()
        while self._sealed and self._open_next():
            self._follow_journal()

    def _follow_journal(self) -> None:
        for records in self.journal.news():
            for record in records:
                if isinstance(record, Sealed):
                    self._sealed = True
                elif isinstance(record, Opened):
                    self._begin(record)
                else:
                    self.ledger.apply(record)

    def _begin(self, opened: Opened) -> None:
        if not self.ledger.levels:
            self.ledger = Ledger([Level(*level) for level in opened.levels])

    def _open_next(self) -> bool:
        following = self.journal.generation + 1
        if not journal_path(self._directory, following).exists() and not self._outrun(following):
            return False
        try:
            self.journal = Journal(self._directory, following)
            self._sealed = False
        except FileNotFoundError:
            self._load()
        return True

    def _outrun(self, generation: int) -> bool:
        """Whether others are so far ahead that the journal that comes next is gone again."""
        return max(generations(self._directory, "snapshot"), default=0) > generation

    # -- with the lock held ---------------------------------------------------------------------------------------

    def catch_up(self) -> int:
        """Follow to the very end, and finish what a killed writer left half done; the torn bytes that were cut off."""
        self.follow()
        torn_bytes = self.journal.cut_torn_end()
        if self._sealed:
            create_journal(self._directory, self.journal.generation + 1, self.ledger.levels)
            self.follow()
        if self.journal.removed():
            raise BackendUnreachable(f"the store's files in {self._directory} were removed under this runtime")
        return torn_bytes

    def append(self, commands: Sequence[Command], encoded: Sequence[bytes] = ()) -> None:
        """Write the commands as one frame, then apply them; raises OutOfSpace with nothing done. Not yet synced."""
        self.journal.append(frame_of(encoded or [encode(command) for command in commands]))
        for command in commands:
            self.ledger.apply(command)

    def rotate(self, journal_bytes_max: int) -> None:
        """Begin a new generation with a snapshot, if the journal has grown longer than this and than the last one.

        Killed anywhere in between, the chain is whole: what comes next is made by the next `catch_up`, and a
        snapshot that was not written is only missed.
        """
        if self.journal.offset <= max(journal_bytes_max, self._snapshot_bytes):
            return
        generation = self.journal.generation + 1
        self.journal.append(frame_of([encode(Sealed())]))
        self.journal.sync()
        self._sealed = True
        create_journal(self._directory, generation, self.ledger.levels)
        self.follow()
        path = snapshot_path(self._directory, generation)
        write_snapshot(path, generation, self.ledger)
        self._snapshot_bytes = path.stat().st_size
        self._remove_before(generation)

    def _remove_before(self, generation: int) -> None:
        for kind, path_of in (("snapshot", snapshot_path), ("journal", journal_path)):
            for old in generations(self._directory, kind):
                if old < generation:
                    path_of(self._directory, old).unlink(missing_ok=True)

    def position(self) -> tuple[int, int]:
        """Generation and bytes up to which the ledger holds the journal."""
        return self.journal.generation, self.journal.offset
