"""The memory driver: a ledger under one lock. Bounded, and gone with the process (fence class PROCESS).

One lock and no stripes: a call holds it for microseconds, and with the interpreter's own lock stripes gain nothing.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from store_runtime.runtimestore.drivers.ledgered import LedgerDriver, Write
from store_runtime.runtimestore.ledger import Ledger
from store_runtime.runtimestore.model import Limits
from store_runtime.runtimestore.rings import Level
from store_runtime.switch.driver import FenceClass


class MemoryDriver(LedgerDriver):
    """A UsageDriver in this process; holding the lock is holding the fence lock."""

    fence_class = FenceClass.PROCESS

    def __init__(self, levels: Sequence[Level], limits: Limits, epoch: int | None = None) -> None:
        super().__init__(limits, epoch)
        self._ledger = Ledger(levels)
        self._lock = threading.Lock()

    @contextmanager
    def _view(self) -> Iterator[Ledger]:
        with self._lock:
            yield self._ledger

    def _commit(self, write: Write) -> object:
        with self._lock:
            for command in self._reclaim(self._ledger, write.at_ns):
                self._ledger.apply(command)
            commands, result = write.decide(self._ledger)
            for command in commands:
                self._ledger.apply(command)
            return result

    def check(self) -> None:
        """Always served."""

    def close(self) -> None:
        """Nothing to let go of."""
