"""How other commands wake the supervisor: a named pipe. What there is to do stands in the object files, not in it.

So nothing is lost when nobody listens, and there is no port, no socket path too long, and no second protocol.
"""

import os
import select
from contextlib import suppress
from pathlib import Path


def ring(path: Path) -> bool:
    """False if nobody listens."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    with suppress(BlockingIOError):  # a full pipe: it rings already
        os.write(descriptor, b"!")
    os.close(descriptor)
    return True


class Doorbell:
    """The listening end; the pipe is opened for both directions so that it never reports an end of file."""

    def __init__(self, path: Path) -> None:
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def wait(self, timeout_seconds: float) -> bool:
        """True if it rang."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout_seconds)
        if ready:
            os.read(self._descriptor, 4096)
        return bool(ready)

    def close(self) -> None:
        os.close(self._descriptor)
