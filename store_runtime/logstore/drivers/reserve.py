"""Room kept for a full volume: a file that is given up when even deleting finds no room.

SQLite deletes by writing: new pages go into its write-ahead log, and that into the database, which may have to grow for
it. On a volume that writers have filled to the last byte neither can, so retention could not make room. Giving up the
reserve lets the log be brought into the database; from then on it is written over from its beginning.
"""

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 8 * 1024 * 1024
"""Twice the write-ahead log at which SQLite checkpoints (1,000 pages of 4 KiB)."""
SUFFIX = "-reserve"


class Reserve:
    """The file beside a database."""

    def __init__(self, database: Path) -> None:
        self._path = Path(f"{database}{SUFFIX}")

    def keep(self) -> None:
        """Take the room, if there is some: a volume that is nearly full goes without."""
        with suppress(FileNotFoundError):
            if self._path.stat().st_size == RESERVE_BYTES:
                return
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError:
            self.give_up()

    def give_up(self) -> bool:
        """Let go of the room; False if there was none."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True
