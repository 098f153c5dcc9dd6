"""The system calls that durability rests on, in one place, so that tests can make them fail."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from store_runtime.errors import BackendUnreachable, OutOfSpace, StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Disk:
    """Real files."""

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview]) -> int:
        return os.writev(descriptor, buffers)

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def free_bytes(self, directory: Path) -> int:
        facts = os.statvfs(directory)
        return facts.f_bavail * facts.f_frsize


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable: created, renamed and removed ones."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_error(error: OSError) -> StoreError:
    """What a failed write means to a writer; it was not acknowledged."""
    if error.errno in _FULL:
        return OutOfSpace(
            "the disk of the entries is full; nothing was stored. Reads go on; make room or lower maxSize"
        )
    return BackendUnreachable(f"the disk of the entries refused a write ({error.strerror}); nothing is acknowledged")
