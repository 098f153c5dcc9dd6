"""The engine's fence lock: many writers or one change of the meta. In-process, as one process owns the directory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class FenceLock:
    """Shared by writes from before they read the meta until they are acknowledged; exclusive waits for all of them.

    A waiting exclusive holder goes first, so a steady load of writes cannot keep a fence from closing. A shared hold
    may be let go by another thread than the one that took it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared = 0
        self._exclusive = 0

    def acquire_shared(self) -> None:
        with self._changed:
            while self._exclusive:
                self._changed.wait()
            self._shared += 1

    def release_shared(self) -> None:
        with self._changed:
            self._shared -= 1
            if not self._shared:
                self._changed.notify_all()

    @contextmanager
    def shared(self) -> Iterator[None]:
        self.acquire_shared()
        try:
            yield
        finally:
            self.release_shared()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._changed:
            while self._exclusive:
                self._changed.wait()
            self._exclusive += 1
            while self._shared:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._exclusive -= 1
                self._changed.notify_all()
